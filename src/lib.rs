//! Runs numbered disk-image tests and compares what they print with golden
//! outputs: the library behind the `check` program.

pub mod app;
pub mod archive;
pub mod args;
pub mod build_id;
pub mod diff;
pub mod dry_run;
pub mod environment;
pub mod environments;
pub mod exclude;
pub mod exit;
pub mod golden;
pub mod groups;
pub mod history;
pub mod identity;
pub mod install;
pub mod model;
pub mod new_test;
pub mod packages;
pub mod plan;
pub mod programs;
pub mod reach;
pub mod report;
pub mod results;
pub mod run;
pub mod select;
pub mod shard;
pub mod test_ids;
pub mod tree;
pub mod verdict;
mod words;
