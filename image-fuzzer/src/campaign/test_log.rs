//! `run.log` and the folders of single tests, as the fuzzer that this one replaces kept them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::commands::quote;
use crate::files::{append, write_whole};
use crate::input::recipe::Recipe;
use crate::named_file::NamedFile;
use crate::oracle::end_word;
use crate::oracle::runner::Outcome;

/// The most folders of failed tests in a work folder; the folders of the groups hold an
/// example of each anyway.
const MOST_FAILED: usize = 200;

/// Which tests are logged, and where. Failed tests are, and some of their folders are kept.
#[derive(Clone, Copy, Debug)]
pub struct TestLog<'a> {
    /// The work folder.
    pub dir: &'a Path,
    /// Folders of all tests are kept.
    pub keep_passed: bool,
    /// Tests that passed are logged.
    pub verbose: bool,
}

impl TestLog<'_> {
    /// Logs test `number`; `fresh` tells whether its seed alone gives it again.
    ///
    /// # Errors
    ///
    /// The work folder cannot be written.
    pub fn log(
        &self,
        number: u64,
        recipe: &Recipe,
        fresh: bool,
        files: &[NamedFile],
        outcome: &Outcome,
    ) -> Result<()> {
        let failed = !outcome.violations.is_empty();
        let folder = self.dir.join(format!("test-{number}"));
        let kept = self.keep_passed || (failed && self.count_folders() < MOST_FAILED);
        if kept {
            keep(&folder, recipe, files, outcome)?;
        }
        if failed || self.verbose {
            let lines = lines(
                kept.then_some(folder.as_path()),
                number,
                recipe,
                fresh,
                outcome,
            );
            append(&self.dir.join("run.log"), &lines)?;
        }
        Ok(())
    }

    /// How many folders of tests there are.
    fn count_folders(&self) -> usize {
        let Ok(entries) = fs::read_dir(self.dir) else {
            return 0;
        };
        entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("test-"))
            .count()
    }
}

/// The lines about a test: its seed where that alone gives it again, its folder where it was
/// kept, how to reproduce it, its commands, the result of each.
fn lines(
    folder: Option<&Path>,
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
    let reproduce = match folder {
        _ if fresh => format!("image-fuzzer -s {} with the same options", quote(seed)),
        Some(folder) => format!(
            "image-fuzzer reproduce {}",
            quote(&folder.to_string_lossy())
        ),
        None => "not kept; 'findings' has an example of each group".into(),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n  reproduce: {reproduce}");
    if let Some(backing) = &recipe.base.image.backing {
        let _ = writeln!(text, "  backing file {}", backing.name);
    }
    for ran in &outcome.ran {
        let shell = shell(recipe, ran.index);
        let mut violations = outcome.violations.iter();
        let result = violations
            .find(|violation| violation.command == ran.index)
            .map_or_else(
                || format!("PASS ({})", end_word(&ran.seen.end)),
                |violation| format!("FAIL {}: {}", violation.class, violation.summary),
            );
        let _ = writeln!(text, "  {shell}: {result}");
    }
    text
}

/// A command of a recipe as it is typed.
fn shell(recipe: &Recipe, index: usize) -> String {
    let command = recipe.commands.get(index);
    command.map_or_else(String::new, |command| command.shell())
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
        text.extend_from_slice(format!("$ {}\n", shell(recipe, ran.index)).as_bytes());
        text.extend_from_slice(&ran.seen.stdout);
        text.extend_from_slice(&ran.seen.stderr);
        text.extend_from_slice(format!("({})\n", end_word(&ran.seen.end)).as_bytes());
    }
    write_whole(&folder.join("test.log"), &text)
}
