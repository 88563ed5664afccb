//! A fleet: instances of this fuzzer and of AFL++ that share what they find through a folder,
//! as AFL++'s secondaries do (AFL++, docs/fuzzing_in_depth.md, "Using multiple cores", and its
//! function `sync_fuzzers`).

mod entry;
mod exchange;
mod own_folder;
mod siblings;

pub(super) use entry::{EntryName, operation};
pub(super) use exchange::{Exchange, Import, Outgoing, Source};
pub use exchange::{Fleet, FleetStats};
pub(super) use own_folder::OwnFolder;
pub(super) use siblings::Siblings;
