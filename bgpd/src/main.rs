//! bgpd.
fn main() {}
