//! `reproduce` and `minimise`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::args::AgainArgs;
use super::fuzz::{settings, tell};
use super::ready::Ready;
use super::{FAULTS, OK};
use crate::commands::Command;
use crate::finding::{minimise_folder, records, reproduce_folder};
use crate::recipe::Recipe;
use crate::triage::minimise::Budget;
use crate::trial::Settings;

/// Carries out a recipe again, or all of a work folder.
pub(super) fn reproduce(args: &AgainArgs) -> Result<u8> {
    if args.dir.join("findings").is_dir() {
        return all(args);
    }
    let settings = settings(&args.run, &std::env::temp_dir())?;
    try_programs(&settings, [args.dir.as_path()])?;
    let again = reproduce_folder(&args.dir, &settings)?;
    tell(&again.recipe, &again.outcome);
    let wanted = again.wanted.as_ref().map(ToString::to_string);
    if again.shown() {
        anstream::println!("the fault shows: {}", wanted.unwrap_or_default());
        return Ok(OK);
    }
    anstream::println!("the fault does not show: {}", wanted.unwrap_or_default());
    Ok(FAULTS)
}

/// Carries out the recipes of all findings in a work folder, and says of each whether the
/// fault shows.
fn all(args: &AgainArgs) -> Result<u8> {
    let settings = settings(&args.run, &std::env::temp_dir())?;
    let found = records(&args.dir)?;
    try_programs(&settings, found.iter().map(|(folder, _)| folder.as_path()))?;
    let mut shown = 0;
    for (folder, record) in &found {
        let again = reproduce_folder(folder, &settings)?;
        let word = if again.shown() {
            shown += 1;
            "shows"
        } else {
            "does not show"
        };
        anstream::println!("{word}: {}", record.key);
    }
    anstream::println!("{shown} of {} faults show", found.len());
    Ok(if shown == found.len() { OK } else { FAULTS })
}

/// Tries the programs that the recipes in `folders` name.
///
/// Fails where one cannot run, or there is no recipe.
fn try_programs<'a>(
    settings: &Settings,
    folders: impl IntoIterator<Item = &'a Path>,
) -> Result<()> {
    let recipes = folders
        .into_iter()
        .map(|dir| Recipe::read(&dir.join("recipe.json")));
    let recipes = recipes.collect::<Result<Vec<_>>>()?;
    let commands = recipes.iter().flat_map(|recipe| &recipe.commands);
    let by_program: BTreeMap<&str, &Command> = commands.map(|c| (c.program(), c)).collect();
    let mut ready = Ready::new(settings, "the recipe", &Arc::default())?;
    ready.tools(&by_program.keys().copied().collect())?;
    let others = by_program
        .iter()
        .filter(|(name, _)| !name.starts_with("qemu-"));
    for (_, command) in others {
        ready.on_valid_image(command)?;
    }
    Ok(())
}

/// Makes an example smaller.
pub(super) fn minimise(args: &AgainArgs) -> Result<u8> {
    let settings = settings(&args.run, &std::env::temp_dir())?;
    try_programs(&settings, [args.dir.as_path()])?;
    let (before, after) = minimise_folder(&args.dir, settings, Budget::default())?;
    anstream::println!("{}: {before} edits before, {after} now", args.dir.display());
    Ok(OK)
}
