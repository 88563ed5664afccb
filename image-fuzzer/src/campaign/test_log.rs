//! `run.log` and the folders of single tests, as the fuzzer that this one replaces kept them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::commands::quote;
use crate::files::{append, write_whole};
use crate::input::recipe::Recipe;
use crate::oracle::end_word;
use crate::oracle::runner::Outcome;
use image_mutations::named_file::NamedFile;

/// Which tests are logged, and where. Failed tests are; the folders of those that show
/// something new are kept.
#[derive(Clone, Copy, Debug)]
pub struct TestLog<'a> {
    /// The work folder.
    pub dir: &'a Path,
    /// Folders of all tests are kept.
    pub keep_passed: bool,
    /// Tests that passed are logged.
    pub verbose: bool,
}

/// A test that was run.
#[derive(Clone, Copy, Debug)]
pub struct LoggedTest<'a> {
    /// Its number.
    pub number: u64,
    /// What it is made from.
    pub recipe: &'a Recipe,
    /// Its seed alone gives it again.
    pub fresh: bool,
    /// Its images.
    pub files: &'a [NamedFile],
    /// What came of it.
    pub outcome: &'a Outcome,
}

impl TestLog<'_> {
    /// Logs a test. Its folder is kept where it is `telling`: the first of a group, a smaller
    /// one, or one of its own; of the others, `findings` has an example.
    ///
    /// # Errors
    ///
    /// The work folder cannot be written.
    pub fn log(&self, test: &LoggedTest<'_>, telling: bool) -> Result<()> {
        let folder = self.dir.join(format!("test-{}", test.number));
        let kept = self.keep_passed || telling;
        if kept {
            keep(&folder, test)?;
        }
        if self.verbose || !test.outcome.violations.is_empty() {
            let lines = lines(kept.then_some(folder.as_path()), test);
            append(&self.dir.join("run.log"), &lines)?;
        }
        Ok(())
    }
}

/// The lines about a test: its seed where that alone gives it again, its folder where it was
/// kept, how to reproduce it, its commands, the result of each.
fn lines(folder: Option<&Path>, test: &LoggedTest<'_>) -> String {
    let &LoggedTest {
        number,
        recipe,
        fresh,
        outcome,
        ..
    } = test;
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
    let backing = recipe
        .base
        .qcow2()
        .and_then(|base| base.image.backing.as_ref());
    if let Some(backing) = backing {
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
fn keep(folder: &Path, test: &LoggedTest<'_>) -> Result<()> {
    let &LoggedTest {
        recipe, outcome, ..
    } = test;
    fs::create_dir_all(folder).with_context(|| format!("cannot make '{}'", folder.display()))?;
    for file in test.files {
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
