//! `reproduce` and `minimise`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::args::ReplayArgs;
use super::fuzz::{settings, tell};
use super::interrupt::{self, unless_stopped};
use super::ready::Ready;
use super::{FAULTS, OK};
use crate::commands::Command;
use crate::finding::{minimise_folder, records, reproduce_folder};
use crate::input::recipe::Recipe;
use crate::oracle::runner::Settings;
use crate::output::{self, counted};
use crate::triage::minimise::Budget;

/// Carries out a recipe again, or all of a work folder.
pub(super) fn reproduce(args: &ReplayArgs) -> Result<u8> {
    let start = Start::new(args)?;
    if args.dir.join("findings").is_dir() {
        return all(args, &start);
    }
    start.try_programs([args.dir.as_path()])?;
    let again = reproduce_folder(&args.dir, &start.settings, &start.stop)?;
    unless_stopped(&start.stop, || {
        tell(&again.recipe, &again.outcome)?;
        let (told, status) = match (&again.wanted, again.found(), again.elsewhere()) {
            (Some(wanted), Some(_), _) => (format!("the fault shows: {wanted}"), OK),
            (Some(wanted), None, Some(seen)) => (
                match seen.signature.frames() {
                    Some(_) => format!(
                        "a crash shows by the same signal, at another place: {} and not {}",
                        seen.signature, wanted.signature
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
    })
}

/// Carries out the recipes of all findings in a work folder, and says of each whether the
/// fault shows.
fn all(args: &ReplayArgs, start: &Start) -> Result<u8> {
    let found = records(&args.dir)?;
    start.try_programs(found.iter().map(|(folder, _)| folder.as_path()))?;
    let mut shown = 0;
    for (folder, record) in &found {
        let again = reproduce_folder(folder, &start.settings, &start.stop)?;
        if start.stop.load(Ordering::SeqCst) {
            break;
        }
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
    unless_stopped(&start.stop, || {
        output::line(&format!("{shown} of {} faults show", found.len()))?;
        Ok(if shown == found.len() { OK } else { FAULTS })
    })
}

/// Makes an example smaller.
pub(super) fn minimise(args: &ReplayArgs) -> Result<u8> {
    let start = Start::new(args)?;
    start.try_programs([args.dir.as_path()])?;
    let settings = start.settings.clone();
    let done = minimise_folder(&args.dir, settings, Budget::default(), &start.stop);
    unless_stopped(&start.stop, || {
        let (before, after) = done?;
        let before = counted(before as u64, "edit");
        output::line(&format!(
            "{}: {before} before, {after} now",
            args.dir.display()
        ))?;
        Ok(OK)
    })
}

/// What both begin with.
struct Start {
    settings: Settings,
    stop: Arc<AtomicBool>,
}

impl Start {
    fn new(args: &ReplayArgs) -> Result<Self> {
        let fallback = std::env::temp_dir();
        Ok(Self {
            settings: settings(&args.run, &fallback)?,
            stop: interrupt::begin(&fallback)?,
        })
    }

    /// Tries the programs that the recipes in `folders` name.
    ///
    /// Fails where one cannot run, or there is no recipe.
    fn try_programs<'a>(&self, folders: impl IntoIterator<Item = &'a Path>) -> Result<()> {
        let recipes = folders
            .into_iter()
            .map(|dir| Recipe::read(&dir.join("recipe.json")));
        let recipes = recipes.collect::<Result<Vec<_>>>()?;
        let commands = recipes.iter().flat_map(|recipe| &recipe.commands);
        let by_program: BTreeMap<&str, &Command> = commands.map(|c| (c.program(), c)).collect();
        let mut ready = Ready::new(&self.settings, "the recipe", &self.stop)?;
        ready.tools(&by_program.keys().copied().collect())?;
        let others = by_program
            .iter()
            .filter(|(name, _)| !name.starts_with("qemu-"));
        for (_, command) in others {
            ready.on_valid_image(command)?;
        }
        Ok(())
    }
}
