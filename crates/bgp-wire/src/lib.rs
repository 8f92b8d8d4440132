//! bgp-wire.
