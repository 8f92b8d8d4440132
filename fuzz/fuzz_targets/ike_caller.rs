//! The IKE engine that calls a peer that holds the keys and says anything: see `play_called`.
#![no_main]

#[path = "../../crates/ike-core/tests/world/puppet.rs"]
mod puppet;

libfuzzer_sys::fuzz_target!(|data: &[u8]| puppet::play_called(data));
