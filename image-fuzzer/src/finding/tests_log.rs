//! `run.log` and the folders of single tests, as the old fuzzer kept them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::base::NamedFile;
use crate::engine::Campaign;
use crate::oracle::end_word;
use crate::recipe::Recipe;
use crate::store::write_whole;
use crate::trial::Outcome;

/// The most folders of failed tests that a work folder gets; the folders of the
/// groups hold an example of each anyway.
const MOST_FAILED: usize = 200;

/// Logs a test that failed, and keeps its folder; one that passed where that was
/// asked for.
///
/// Fails where the work folder cannot be written.
pub fn log_test(
    campaign: &Campaign,
    number: u64,
    recipe: &Recipe,
    files: &[NamedFile],
    outcome: &Outcome,
) -> Result<()> {
    let failed = !outcome.suspicions.is_empty();
    if failed || campaign.verbose {
        let lines = log(&campaign.dir, number, recipe, outcome);
        append(&campaign.dir.join("run.log"), &lines)?;
    }
    let folder = campaign.dir.join(format!("test-{number}"));
    if campaign.keep_passed || (failed && failed_folders(&campaign.dir) < MOST_FAILED) {
        keep(&folder, recipe, files, outcome)?;
    }
    Ok(())
}

/// The lines about a test: its seed, its commands, its folder, what came of it.
fn log(dir: &Path, number: u64, recipe: &Recipe, outcome: &Outcome) -> String {
    let mut text = String::new();
    let folder = dir.join(format!("test-{number}"));
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "test {number} seed {} dir {}",
        recipe.seed,
        folder.display()
    );
    if let Some(backing) = &recipe.base.image.backing {
        let _ = writeln!(text, "  backing file {}", backing.name);
    }
    for ran in &outcome.ran {
        let command = recipe.commands.get(ran.index);
        let shell = command.map_or_else(String::new, |command| command.shell());
        let fault = outcome.suspicions.iter().find(|s| s.command == ran.index);
        let result = fault.map_or_else(
            || format!("PASS ({})", end_word(&ran.seen.end)),
            |fault| format!("FAIL {}: {}", fault.class, fault.summary),
        );
        let _ = writeln!(text, "  {shell}: {result}");
    }
    text
}

/// Keeps the images of a test and what was printed.
fn keep(folder: &Path, recipe: &Recipe, files: &[NamedFile], outcome: &Outcome) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make '{}'", folder.display()))?;
    for file in files {
        file.write_into(folder)
            .context("cannot keep the image of a test")?;
    }
    write_whole(&folder.join("recipe.json"), recipe.to_json()?.as_bytes())?;
    let mut text = Vec::new();
    for ran in &outcome.ran {
        let command = recipe.commands.get(ran.index);
        let shell = command.map_or_else(String::new, |command| command.shell());
        text.extend_from_slice(format!("$ {shell}\n").as_bytes());
        text.extend_from_slice(&ran.seen.stdout);
        text.extend_from_slice(&ran.seen.stderr);
        text.extend_from_slice(format!("({})\n", end_word(&ran.seen.end)).as_bytes());
    }
    write_whole(&folder.join("test.log"), &text)
}

/// How many folders of tests there are.
fn failed_folders(dir: &Path) -> usize {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("test-"))
        .count()
}

/// Appends lines to a log in one write.
fn append(path: &Path, lines: &str) -> Result<()> {
    use std::io::Write as _;
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut log| log.write_all(lines.as_bytes()))
        .with_context(|| format!("cannot write to '{}'", path.display()))
}
