//! bgp-core.
