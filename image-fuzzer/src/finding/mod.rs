//! Findings on disk: a folder for each group, with all that is needed to reproduce it, to
//! understand it and to test for it.

mod change;
mod example;
mod explain;
mod folder;
mod index;
mod iotest;
mod poked;
mod record;
mod regroup;
mod reproduce;
mod script;
#[cfg(test)]
pub(crate) mod test_examples;
mod transcript;
mod version_record;
mod versions;

pub use change::{Change, Excerpt, Part};
pub use example::Example;
pub use folder::{records, write_folder};
pub use index::{Candidate, Findings, counts};
pub use poked::PokedImage;
pub use record::Record;
pub use regroup::{Origin, regroup};
pub use reproduce::{Replay, minimise_folder, reproduce_folder, stack_of};
pub use transcript::Step;
pub use version_record::{VersionRecord, VersionResult};
pub use versions::{keep, run_build};

/// The image in the folder of a finding, whatever its format.
pub fn image_in(folder: &std::path::Path) -> std::path::PathBuf {
    let mut all = image_formats::Format::ALL.iter();
    let image = all.find_map(|format| {
        let path = folder.join(format!("test.{format}"));
        path.is_file().then_some(path)
    });
    image.unwrap_or_else(|| folder.join(image_mutations::base::TEST_IMG))
}
