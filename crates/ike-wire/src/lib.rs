//! ike-wire.
