//! The `remat` binary.
fn main() {}
