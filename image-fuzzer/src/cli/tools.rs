//! `reproduce` and `minimise`.

use anyhow::Result;

use super::args::AgainArgs;
use super::fuzz::{settings, tell};
use super::{FAULTS, OK};
use crate::finding::{minimise_folder, records, reproduce_folder};
use crate::output::{self, counted};
use crate::triage::minimise::Budget;

/// Carries out a recipe again, or all of a work folder.
pub(super) fn reproduce(args: &AgainArgs) -> Result<u8> {
    if args.dir.join("findings").is_dir() {
        return all(args);
    }
    let again = reproduce_folder(&args.dir, &settings(&args.run, &std::env::temp_dir())?)?;
    tell(&again.recipe, &again.outcome)?;
    let (told, status) = match (&again.wanted, again.found(), again.elsewhere()) {
        (Some(wanted), Some(_), _) => (format!("the fault shows: {wanted}"), OK),
        (Some(wanted), None, Some(seen)) => (
            match seen.place() {
                Some(_) => format!(
                    "a crash shows by the same signal, at another place: {} and not {}",
                    seen.site, wanted.site
                ),
                None => format!("a crash shows by the same signal, but not where: {wanted}"),
            },
            FAULTS,
        ),
        (Some(wanted), None, None) => (format!("the fault does not show: {wanted}"), FAULTS),
        (None, Some(seen), _) => (format!("a fault shows: {seen}"), OK),
        (None, None, _) => ("no fault shows".to_owned(), FAULTS),
    };
    output::line(&told)?;
    Ok(status)
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
        } else if again.elsewhere().is_some() {
            "shows by the signal alone"
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
    let before = counted(before as u64, "edit");
    output::line(&format!(
        "{}: {before} before, {after} now",
        args.dir.display()
    ))?;
    Ok(OK)
}
