//! `run.log` and the folders of single tests, as the old fuzzer kept them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::campaign::Campaign;
use crate::commands::quote;
use crate::files::write_whole;
use crate::input::recipe::Recipe;
use crate::named_file::NamedFile;
use crate::oracle::end_word;
use crate::oracle::runner::Outcome;

/// The most folders of failed tests that a work folder gets; the folders of the
/// groups hold an example of each anyway.
const MOST_FAILED: usize = 200;

/// Logs a test that failed, and keeps its folder; one that passed where that was
/// asked for. `fresh` tells whether its seed alone gives it again.
///
/// Fails where the work folder cannot be written.
pub fn log_test(
    campaign: &Campaign,
    number: u64,
    recipe: &Recipe,
    fresh: bool,
    files: &[NamedFile],
    outcome: &Outcome,
) -> Result<()> {
    let failed = !outcome.violations.is_empty();
    let folder = campaign.dir.join(format!("test-{number}"));
    let kept = campaign.keep_passed || (failed && failed_folders(&campaign.dir) < MOST_FAILED);
    if kept {
        keep(&folder, recipe, files, outcome)?;
    }
    if failed || campaign.verbose {
        let lines = log(kept.then_some(&folder), number, recipe, fresh, outcome);
        append(&campaign.dir.join("run.log"), &lines)?;
    }
    Ok(())
}

/// The lines about a test: its seed where that alone gives it again, its folder where it has
/// one, how to get it again, its commands, what came of it.
fn log(
    folder: Option<&PathBuf>,
    number: u64,
    recipe: &Recipe,
    fresh: bool,
    outcome: &Outcome,
) -> String {
    let mut text = format!("test {number}");
    let seed = &recipe.seed;
    if fresh {
        text.push_str(&format!(" seed {seed}"));
    }
    if let Some(folder) = folder {
        text.push_str(&format!(" dir {}", folder.display()));
    }
    let again = match folder {
        _ if fresh => format!("image-fuzzer -s {} with the same options", quote(seed)),
        Some(folder) => format!(
            "image-fuzzer reproduce {}",
            quote(&folder.to_string_lossy())
        ),
        None => "not kept; 'findings' has an example of each fault".into(),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n  again: {again}");
    if let Some(backing) = &recipe.base.image.backing {
        let _ = writeln!(text, "  backing file {}", backing.name);
    }
    for ran in &outcome.ran {
        let command = recipe.commands.get(ran.index);
        let shell = command.map_or_else(String::new, |command| command.shell());
        let fault = outcome.violations.iter().find(|s| s.command == ran.index);
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
