//! `reproduce` and `minimise`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::args::ReplayArgs;
use super::fuzz::print_outcome;
use super::interrupt::{self, unless_stopped};
use super::program_check::ProgramCheck;
use super::{FINDINGS, OK};
use crate::commands::Command;
use crate::finding::{minimise_folder, records, reproduce_folder};
use crate::input::recipe::Recipe;
use crate::oracle::runner::Settings;
use crate::output::{self, counted};
use crate::triage::minimise::Budget;

/// Runs the recipe of a finding, or those of all findings in a work folder.
///
/// # Errors
///
/// There is no recipe, or it or its programs cannot be run.
pub(super) fn reproduce(args: &ReplayArgs) -> Result<u8> {
    let start = Start::new(args)?;
    if args.dir.join("findings").is_dir() {
        return reproduce_all(args, &start);
    }
    start.check_programs([args.dir.as_path()])?;
    let replay = reproduce_folder(&args.dir, &start.settings, &start.stop)?;
    unless_stopped(&start.stop, || {
        print_outcome(&replay.recipe, &replay.outcome)?;
        let (message, status) = match (&replay.wanted, replay.found(), replay.elsewhere()) {
            (Some(wanted), Some(_), _) => (format!("reproduced: {wanted}"), OK),
            (Some(wanted), None, Some(seen)) => {
                let place = match seen.signature.frames() {
                    Some(_) => format!(
                        "at another place, {}, not {}",
                        seen.signature, wanted.signature
                    ),
                    None => format!("at an unknown place, not {}", wanted.signature),
                };
                (
                    format!("not reproduced: a crash by the same signal, but {place}"),
                    FINDINGS,
                )
            }
            (Some(wanted), None, None) => (format!("not reproduced: {wanted}"), FINDINGS),
            (None, Some(seen), _) => (format!("finding: {seen}"), OK),
            (None, None, _) => ("no findings".to_owned(), FINDINGS),
        };
        output::line(&message)?;
        Ok(status)
    })
}

/// Runs the recipes of all findings in a work folder, and prints of each whether it was
/// reproduced.
fn reproduce_all(args: &ReplayArgs, start: &Start) -> Result<u8> {
    let findings = records(&args.dir)?;
    start.check_programs(findings.iter().map(|(folder, _)| folder.as_path()))?;
    let mut reproduced = 0;
    for (folder, record) in &findings {
        let replay = reproduce_folder(folder, &start.settings, &start.stop)?;
        if start.stop.load(Ordering::SeqCst) {
            break;
        }
        let word = if replay.is_reproduced() {
            reproduced += 1;
            "reproduced"
        } else if replay.elsewhere().is_some() {
            "not reproduced (same signal at another place)"
        } else {
            "not reproduced"
        };
        output::line(&format!("{word}: {}", record.key))?;
    }
    unless_stopped(&start.stop, || {
        output::line(&match findings.len() {
            0 => "no findings to reproduce".to_owned(),
            count => format!(
                "reproduced {reproduced} of {}",
                counted(count as u64, "finding")
            ),
        })?;
        Ok(if reproduced == findings.len() {
            OK
        } else {
            FINDINGS
        })
    })
}

/// Minimises the example in a folder.
///
/// # Errors
///
/// There is no recipe, it or its programs cannot be run, or its finding is not reproduced.
pub(super) fn minimise(args: &ReplayArgs) -> Result<u8> {
    let start = Start::new(args)?;
    start.check_programs([args.dir.as_path()])?;
    let size = || Recipe::read(&args.dir.join("recipe.json")).map(|recipe| recipe.size());
    let size_before = size()?;
    let settings = start.settings.clone();
    let minimised = minimise_folder(&args.dir, settings, Budget::default(), &start.stop);
    unless_stopped(&start.stop, || {
        let (before, after) = minimised?;
        let edits = counted(after as u64, "edit");
        let result = if size()? == size_before {
            format!("already minimal ({edits})")
        } else {
            format!("minimised ({edits}, was {before})")
        };
        output::line(&format!("{}: {result}", args.dir.display()))?;
        Ok(OK)
    })
}

/// What `reproduce` and `minimise` need: settings, and the flag that an interrupt sets.
struct Start {
    settings: Settings,
    stop: Arc<AtomicBool>,
}

impl Start {
    fn new(args: &ReplayArgs) -> Result<Self> {
        let fallback = std::env::temp_dir();
        Ok(Self {
            settings: args.run.settings(&fallback)?,
            stop: interrupt::begin(&fallback)?,
        })
    }

    /// Checks the programs that the recipes in `folders` name.
    ///
    /// # Errors
    ///
    /// One cannot be run, or there is no recipe.
    fn check_programs<'a>(&self, folders: impl IntoIterator<Item = &'a Path>) -> Result<()> {
        let recipes = folders
            .into_iter()
            .map(|dir| Recipe::read(&dir.join("recipe.json")));
        let recipes = recipes.collect::<Result<Vec<_>>>()?;
        let commands = recipes.iter().flat_map(|recipe| &recipe.commands);
        let by_program: BTreeMap<&str, &Command> = commands.map(|c| (c.program(), c)).collect();
        let mut check = ProgramCheck::new(&self.settings, "the recipe", &self.stop)?;
        check.tools(&by_program.keys().copied().collect())?;
        let others = by_program
            .iter()
            .filter(|(name, _)| !name.starts_with("qemu-"));
        for (_, command) in others {
            check.on_valid_image(command)?;
        }
        Ok(())
    }
}
