//! ike-core.
