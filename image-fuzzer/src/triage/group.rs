//! The group that a violation belongs to.

use anyhow::Result;

use super::Key;
use crate::input::recipe::Recipe;
use crate::oracle::runner::{Outcome, TestRunner};
use image_mutations::named_file::NamedFile;

/// The groups of an outcome's violations. A crash without diagnostic output is named by its
/// stack, for which the command is run again under a debugger.
///
/// # Errors
///
/// The commands cannot be run again.
pub fn full_keys(
    runner: &mut TestRunner,
    recipe: &Recipe,
    files: &[NamedFile],
    outcome: &Outcome,
) -> Result<Vec<Key>> {
    outcome
        .violations
        .iter()
        .map(|violation| {
            let mut key = Key::of(violation);
            if key.signature.lacks_stack()
                && let Some(frames) =
                    runner.frames_of_crash(recipe, files, outcome, violation.command)?
            {
                key.signature = key.signature.at(frames);
            }
            Ok(key)
        })
        .collect()
}

/// The groups of an outcome's violations as far as they are known without a debugger.
pub fn coarse_keys(outcome: &Outcome) -> Vec<Key> {
    outcome.violations.iter().map(Key::of).collect()
}
