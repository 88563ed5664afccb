//! The tests of the library as engines use it: one program, so that they are linked once.

mod abi;
mod afl;
#[path = "../common/built.rs"]
mod built;
mod clusterfuzz;
// Calling a loaded function needs it.
#[allow(unsafe_code)]
#[path = "../common/mod.rs"]
mod common;
mod header;
mod libfuzzer_c;
