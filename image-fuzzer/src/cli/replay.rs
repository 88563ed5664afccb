//! `reproduce` and `minimise`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::args::{ReplayArgs, ReproduceArgs, RunArgs};
use super::fuzz::print_outcome;
use super::interrupt::{self, unless_stopped};
use super::program_check::ProgramCheck;
use super::{FINDINGS, OK};
use crate::commands::Command;
use crate::exec::trace::Trace;
use crate::finding::{Record, Replay, minimise_folder, records, reproduce_folder, stack_of};
use crate::input::recipe::Recipe;
use crate::oracle::runner::Settings;
use crate::output::{self, counted};
use crate::triage::minimise::Budget;
use image_mutations::base::Formats;

/// Runs the recipe of a finding, or those of several.
///
/// # Errors
///
/// There is no recipe, or it or its programs cannot be run.
pub(super) fn reproduce(args: &ReproduceArgs) -> Result<u8> {
    let start = Start::new(&args.run, args.qemu.as_deref())?;
    let [dir] = &args.dirs[..] else {
        return reproduce_all(&args.dirs, &start);
    };
    if is_work_folder(dir) {
        return reproduce_all(&args.dirs, &start);
    }
    start.check_programs([dir.as_path()])?;
    let replay = reproduce_folder(dir, &start.settings, &start.stop)?;
    let stack = stack_of(dir, &replay, &start.settings)?;
    unless_stopped(&start.stop, || {
        print_outcome(&replay.recipe, &replay.outcome)?;
        if let Some(stack) = &stack {
            print_stack(stack, &replay)?;
        }
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

/// Prints the stack of a crash, and what there is to say of names that are missing.
fn print_stack(stack: &Trace, replay: &Replay) -> Result<()> {
    let title = if replay.is_reproduced() {
        "stack"
    } else {
        "stack, as it was recorded"
    };
    output::print(&format!("{title}:\n{stack}"))?;
    if let Some(ids) = stack.build_ids() {
        output::line(&ids)?;
    }
    if let Some(install) = &stack.install {
        output::line(&format!("To install the debug symbols: {install}"))?;
    }
    Ok(())
}

/// Whether `dir` is the work folder of a campaign.
fn is_work_folder(dir: &Path) -> bool {
    dir.join("findings").is_dir()
}

/// The findings that folders hold or are, each with its record where it has one.
///
/// # Errors
///
/// A record is damaged.
pub(super) fn findings(dirs: &[PathBuf]) -> Result<Vec<(PathBuf, Option<Record>)>> {
    let mut findings = Vec::new();
    for dir in dirs {
        if is_work_folder(dir) {
            let records = records(dir)?.into_iter();
            findings.extend(records.map(|(folder, record)| (folder, Some(record))));
        } else {
            findings.push((dir.clone(), Record::read(dir)?));
        }
    }
    Ok(findings)
}

/// Runs the recipes of all findings in folders, and prints of each whether it was
/// reproduced.
fn reproduce_all(dirs: &[PathBuf], start: &Start) -> Result<u8> {
    let findings = findings(dirs)?;
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
        let name = record.as_ref().map(|record| record.key.to_string());
        let name = name.unwrap_or_else(|| folder.display().to_string());
        output::line(&format!("{word}: {name}"))?;
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
    let folder = args.emulator.qemu.as_deref().filter(|path| path.is_dir());
    let start = Start::new(&args.run, folder)?;
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

/// What runs recipes: settings, and the flag that an interrupt sets.
pub(super) struct Start {
    pub(super) settings: Settings,
    pub(super) stop: Arc<AtomicBool>,
}

impl Start {
    /// The settings of the command line.
    ///
    /// # Errors
    ///
    /// They name a program that is not found, or the signals cannot be handled.
    pub(super) fn new(run: &RunArgs, qemu: Option<&Path>) -> Result<Self> {
        let fallback = std::env::temp_dir();
        Ok(Self {
            settings: run.settings(qemu, &fallback)?,
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
        let mut check = ProgramCheck::new(
            &self.settings,
            &Formats::default(),
            "the recipe",
            &self.stop,
        )?;
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
