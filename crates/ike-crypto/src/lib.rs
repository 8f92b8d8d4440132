//! ike-crypto.
