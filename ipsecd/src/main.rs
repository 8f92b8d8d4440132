//! ipsecd.
fn main() {}
