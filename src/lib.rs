//! Runs numbered disk-image tests and compares what they print with golden
//! outputs: the library behind the `check` program.

pub mod diff;
pub mod golden;
pub mod history;
pub mod model;
pub mod report;
pub mod run;
pub mod verdict;
