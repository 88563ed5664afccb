//! Runs numbered disk-image tests and compares what they print with golden
//! outputs: the library behind the `check` program.

pub mod args;
pub mod exit;
pub mod model;
