//! Which versions of the programs show a finding.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result};

use super::Record;
use super::record::every_run;
use super::reproduce::{Replay, Runs, replay};
use super::version_record::{NOT_SEEN, SEEN_WITH, VersionRecord, VersionResult, line, merge};
use crate::commands::Command;
use crate::commands::build::Build;
use crate::exec::End;
use crate::files::write_whole;
use crate::input::recipe::Recipe;
use crate::oracle::end_word;
use crate::oracle::runner::{Settings, TestRunner};

/// Runs the finding in `finding` with the programs in the folder `build`; where not every run
/// shows it, as often as it takes to be sure.
///
/// # Errors
///
/// There is no recipe, or the machine cannot run anything: that a program cannot be run is a
/// result.
pub fn run_build(
    finding: &Path,
    build: &Path,
    settings: &Settings,
    stop: &Arc<AtomicBool>,
) -> Result<VersionRecord> {
    let recipe = Recipe::read(&finding.join("recipe.json"))?;
    let record = Record::read(finding)?;
    let mut result = VersionRecord {
        version: None,
        folder: Some(std::path::absolute(build)?),
        result: VersionResult::CannotRun,
        detail: None,
    };
    let names = programs(&recipe);
    let build = match Build::open(build, &names) {
        Ok(build) => build,
        Err(why) => {
            result.detail = Some(format!("{why:#}"));
            return Ok(result);
        }
    };
    let mut settings = Settings {
        programs: build.programs.clone(),
        ..settings.clone()
    };
    settings.readable.extend(build.readable.iter().cloned());
    let mut runner = TestRunner::new(settings.clone())?;
    runner.set_stop(Arc::clone(stop));
    for name in names.iter().filter(|name| name.starts_with("qemu-")) {
        let command = Command::new([name, "--version"]);
        let seen = runner.start_with(&settings.programs, &command)?;
        if seen.end != End::Exit(0) {
            let why = first_line(&seen.stderr).unwrap_or_else(|| end_word(&seen.end));
            result.detail = Some(format!("{name} --version: {why}"));
            return Ok(result);
        }
        let shows = record
            .as_ref()
            .is_some_and(|it| it.command.starts_with(name));
        if shows || result.version.is_none() {
            result.version = seen.first_line();
        }
    }
    let hits_in_10 = record.as_ref().map_or(every_run(), |it| it.hits_in_10);
    let wanted = record.map(|record| record.key);
    let replay = replay(&recipe, wanted, &settings, stop, Runs::to_tell(hits_in_10))?;
    let other = replay.elsewhere().or(replay.seen.first());
    let unable = replay.outcome.ran.iter().find(|ran| ran.seen.cannot_run());
    (result.result, result.detail) = match (replay.is_reproduced(), unable, other) {
        (true, _, _) => (VersionResult::Shown, None),
        (false, Some(ran), _) => (VersionResult::CannotRun, Some(end_word(&ran.seen.end))),
        (false, None, Some(key)) => (VersionResult::Other, Some(key.to_string())),
        (false, None, None) => (VersionResult::NotShown, failure(&replay)),
    };
    Ok(result)
}

/// How the last command failed, and what it said: a version that refuses the command or the
/// image does not have the finding for another reason than one that was mended.
fn failure(replay: &Replay) -> Option<String> {
    let seen = &replay.outcome.ran.last()?.seen;
    (seen.end != End::Exit(0)).then(|| match first_line(&seen.stderr) {
        Some(said) => format!("{}: {said}", end_word(&seen.end)),
        None => end_word(&seen.end),
    })
}

/// The first line that says something.
fn first_line(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    let said = text.lines().find(|line| !line.trim().is_empty())?;
    Some(said.to_owned())
}

/// The programs that a recipe needs: those that its commands name, and `qemu-img`, with which
/// the oracles look at images.
fn programs(recipe: &Recipe) -> BTreeSet<&str> {
    let mut names: BTreeSet<&str> = recipe.commands.iter().map(Command::program).collect();
    if names.iter().any(|name| name.starts_with("qemu-")) {
        names.insert("qemu-img");
    }
    names
}

/// Adds results to the record of the finding in `folder`, and to its README.
///
/// # Errors
///
/// The folder cannot be written, or its record is damaged.
pub fn keep(folder: &Path, results: Vec<VersionRecord>) -> Result<()> {
    let Some(mut record) = Record::read(folder)? else {
        return Ok(());
    };
    let path = folder.join("README.md");
    let readme = fs::read_to_string(&path).unwrap_or_default();
    let old = readme
        .lines()
        .find(|line| line.starts_with(SEEN_WITH) || line.starts_with(NOT_SEEN));
    // Earlier versions noted the version apart, or in the README alone.
    let noted = old.and_then(|it| it.strip_prefix(SEEN_WITH));
    let noted = noted.map(|it| it.trim_end_matches('.').to_owned());
    if record.versions.is_empty()
        && let Some(version) = record.version.clone().or(noted)
    {
        record.versions.push(VersionRecord::of_campaign(&version));
    }
    merge(&mut record.versions, results);
    record.write(folder)?;
    let Some(new) = line(&record.versions).filter(|_| !readme.is_empty()) else {
        return Ok(());
    };
    let readme = match old {
        Some(old) => readme.replacen(old, &new, 1),
        None => readme.replacen("\n## ", &format!("\n{new}\n\n## "), 1),
    };
    write_whole(&path, readme.as_bytes())
        .with_context(|| format!("cannot write '{}'", path.display()))
}
