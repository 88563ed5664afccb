//! Findings on disk: a folder for each group, with all that is needed to reproduce it, to
//! understand it and to test for it.

mod example;
mod explain;
mod folder;
mod index;
mod iotest;
mod poked;
mod record;
mod reproduce;
mod script;
#[cfg(test)]
mod test_examples;

pub use crate::input::base::TEST_IMG as IMAGE;
pub use example::Example;
pub use folder::{records, write_folder};
pub use index::{Candidate, Findings, counts};
pub use poked::PokedImage;
pub use record::Record;
pub use reproduce::{Replay, minimise_folder, reproduce_folder};
