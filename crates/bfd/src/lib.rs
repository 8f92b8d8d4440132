//! bfd.
