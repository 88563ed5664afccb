//! `reproduce` and `minimise`.

use anyhow::Result;

use super::args::AgainArgs;
use super::fuzz::{settings, tell};
use super::{FAULTS, OK};
use crate::finding::{minimise_folder, records, reproduce_folder};
use crate::output;
use crate::triage::minimise::Budget;

/// Carries out a recipe again, or all of a work folder.
pub(super) fn reproduce(args: &AgainArgs) -> Result<u8> {
    if args.dir.join("findings").is_dir() {
        return all(args);
    }
    let again = reproduce_folder(&args.dir, &settings(&args.run, &std::env::temp_dir())?)?;
    tell(&again.recipe, &again.outcome)?;
    let wanted = again.wanted.as_ref().map(ToString::to_string);
    if again.shown() {
        output::line(&format!("the fault shows: {}", wanted.unwrap_or_default()))?;
        return Ok(OK);
    }
    output::line(&format!(
        "the fault does not show: {}",
        wanted.unwrap_or_default()
    ))?;
    Ok(FAULTS)
}

/// Carries out the recipes of all findings in a work folder, and says of each whether the
/// fault shows.
fn all(args: &AgainArgs) -> Result<u8> {
    let settings = settings(&args.run, &std::env::temp_dir())?;
    let found = records(&args.dir)?;
    let mut shown = 0;
    for (folder, record) in &found {
        let again = reproduce_folder(folder, &settings)?;
        let word = if again.shown() {
            shown += 1;
            "shows"
        } else {
            "does not show"
        };
        output::line(&format!("{word}: {}", record.key))?;
    }
    output::line(&format!("{shown} of {} faults show", found.len()))?;
    Ok(if shown == found.len() { OK } else { FAULTS })
}

/// Makes an example smaller.
pub(super) fn minimise(args: &AgainArgs) -> Result<u8> {
    let settings = settings(&args.run, &std::env::temp_dir())?;
    let (before, after) = minimise_folder(&args.dir, settings, Budget::default())?;
    output::line(&format!(
        "{}: {before} edits before, {after} now",
        args.dir.display()
    ))?;
    Ok(OK)
}
