//! `reproduce` and `minimise`.

use anyhow::Result;

use super::args::AgainArgs;
use super::fuzz::{settings, tell};
use super::{FAULTS, OK};
use crate::finding::{minimise_folder, reproduce_folder};
use crate::triage::minimise::Budget;

/// Carries out a recipe again.
pub(super) fn reproduce(args: &AgainArgs) -> Result<u8> {
    let again = reproduce_folder(&args.dir, settings(&args.run, &std::env::temp_dir())?)?;
    tell(&again.recipe, &again.outcome);
    let wanted = again.wanted.as_ref().map(ToString::to_string);
    if again.shown() {
        anstream::println!("the fault shows: {}", wanted.unwrap_or_default());
        return Ok(OK);
    }
    anstream::println!("the fault does not show: {}", wanted.unwrap_or_default());
    Ok(FAULTS)
}

/// Makes an example smaller.
pub(super) fn minimise(args: &AgainArgs) -> Result<u8> {
    let settings = settings(&args.run, &std::env::temp_dir())?;
    let (before, after) = minimise_folder(&args.dir, settings, Budget::default())?;
    anstream::println!("{}: {before} edits before, {after} now", args.dir.display());
    Ok(OK)
}
