//! Makes disk images that are valid except for a few targeted corruptions, runs programs on
//! them and checks for crashes, hangs and corruption.

pub mod campaign;
pub mod cli;
pub mod commands;
pub mod conform;
pub mod device;
pub mod exec;
pub mod files;
pub mod finding;
pub mod input;
pub mod inspect;
pub mod oracle;
pub mod output;
pub mod path;
pub mod signature;
pub mod triage;
