//! esp.
