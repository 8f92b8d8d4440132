//! holdfast.
fn main() {}
