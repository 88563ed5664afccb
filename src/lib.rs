//! Runs numbered disk-image tests and compares what they print with golden
//! outputs: the library behind the `check` program.

pub mod args;
pub mod environment;
pub mod exclude;
pub mod exit;
pub mod glob;
pub mod golden;
pub mod groups;
pub mod history;
pub mod model;
pub mod plan;
pub mod programs;
pub mod report;
pub mod run;
pub mod select;
pub mod tree;
pub mod verdict;
