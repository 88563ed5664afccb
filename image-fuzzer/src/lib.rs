//! Makes disk images that are valid but for a few chosen lies, and judges what programs do with them.

pub mod base;
pub mod case;
pub mod cli;
pub mod commands;
pub mod engine;
pub mod exec;
pub mod finding;
pub mod image_file;
pub mod map;
pub mod messages;
pub mod mutate;
pub mod named_file;
pub mod oracle;
pub mod output;
pub mod recipe;
pub mod rng;
pub mod sandbox;
pub mod scratch;
pub mod set;
pub mod show;
pub mod stacks;
pub mod store;
pub mod triage;
pub mod trial;
