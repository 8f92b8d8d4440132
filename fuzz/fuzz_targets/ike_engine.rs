//! The IKE engine against a peer that holds the keys and says anything: see `play`.
#![no_main]

#[path = "../../crates/ike-core/tests/world/puppet.rs"]
mod puppet;

libfuzzer_sys::fuzz_target!(|data: &[u8]| puppet::play(data));
