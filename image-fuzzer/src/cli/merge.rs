//! `merge`: several work folders as one.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args as ClapArgs;

use super::interrupt::{self, unless_stopped};
use super::{OK, print_message};
use crate::campaign;
use crate::output::{self, counted};

/// The options of `merge`.
#[derive(Debug, ClapArgs)]
pub(super) struct MergeArgs {
    /// Work folders of campaigns, which are not changed
    #[arg(value_name = "TEST_DIR", required = true)]
    dirs: Vec<PathBuf>,
    /// The work folder to make; it must be new or empty
    #[arg(long, value_name = "TEST_DIR")]
    into: PathBuf,
}

/// Merges the work folders.
///
/// # Errors
///
/// One is damaged, in use or of another version, or the new one is not empty or cannot be
/// written.
pub(super) fn run(args: &MergeArgs) -> Result<u8> {
    let parent = args.into.parent().unwrap_or(Path::new("."));
    let stop = interrupt::begin(parent)?;
    let merged = campaign::merge(&args.dirs, &args.into, &stop);
    unless_stopped(&stop, || {
        let merged = merged?;
        if merged.damaged > 0 {
            let count = counted(merged.damaged as u64, "recipe");
            print_message(&format!(
                "{count} that cannot be read left out of the queue"
            ));
        }
        let unknown = match merged.unknown {
            0 => String::new(),
            unknown => {
                format!(", of which {unknown} are kept since it is not known what they reach")
            }
        };
        output::line(&format!(
            "{} of {}: {} of {} recipes are left{unknown}; {} in {}",
            counted(merged.tests, "test"),
            counted(args.dirs.len() as u64, "campaign"),
            merged.kept,
            merged.recipes,
            counted(merged.findings as u64, "finding"),
            counted(merged.groups as u64, "group")
        ))?;
        Ok(OK)
    })
}
