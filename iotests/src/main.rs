//! The numbered tests as one program: `iotest NNN`.
fn main() {}
