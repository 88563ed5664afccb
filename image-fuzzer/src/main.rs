//! The `image-fuzzer` program.
fn main() {}
