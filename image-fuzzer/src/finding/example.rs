//! An example of a group: a test that shows the finding, and its outcome.

use std::sync::Arc;

use anyhow::Result;

use super::poked::{PokedImage, Sought};
use super::record::every_run;
use crate::exec::Limits;
use crate::exec::symbols::Symbols;
use crate::exec::trace::Trace;
use crate::input::recipe::Recipe;
use crate::oracle::runner::{Outcome, TestRunner};
use crate::oracle::{Class, Violation};
use crate::triage::Key;
use crate::triage::judge::{Judge as _, RunnerJudge};
use crate::triage::minimise::{Smallest, Task};
use image_mutations::base::Prepared;
use image_mutations::case::Maker;
use image_mutations::named_file::NamedFile;

/// An example of a group.
#[derive(Clone, Debug)]
pub struct Example {
    /// The group.
    pub key: Key,
    /// How it is made.
    pub recipe: Recipe,
    /// Its files.
    pub files: Vec<NamedFile>,
    /// Its base image.
    pub prepared: Arc<Prepared>,
    /// What the programs did with it.
    pub outcome: Outcome,
    /// The stack at the signal that ended the program.
    pub stack: Option<Trace>,
    /// Whether a second run reproduced the finding.
    pub confirmed: bool,
    /// How many of ten runs reproduce the finding.
    pub hits_in_10: u8,
    /// Whether the recipe is minimal.
    pub minimised: bool,
    /// The limits that the programs ran under.
    pub limits: Limits,
    /// The version that the program with the finding reports.
    pub version: Option<String>,
    /// Variables that configured its sanitizers.
    pub sanitizers: Vec<(&'static str, String)>,
    /// How its image is made with QEMU's tools, where that shows the finding too.
    pub poked: Option<PokedImage>,
}

/// Whether a signal ends the program, at which a debugger shows its stack.
pub(super) fn has_stack(class: Class) -> bool {
    matches!(class, Class::Crash | Class::MemoryError)
}

impl Example {
    /// An example of the group `key` that is not confirmed and not minimised, with the outcome
    /// of its run.
    ///
    /// # Errors
    ///
    /// Its files cannot be made again.
    pub fn new(
        key: &Key,
        recipe: &Recipe,
        outcome: &Outcome,
        runner: &mut TestRunner,
        maker: &mut Maker,
    ) -> Result<Self> {
        let mut example = Self {
            key: key.clone(),
            recipe: recipe.clone(),
            files: maker.files(&recipe.base, &recipe.edits)?,
            prepared: maker.prepared(&recipe.base)?,
            outcome: outcome.clone(),
            stack: None,
            confirmed: false,
            hits_in_10: every_run(),
            minimised: false,
            limits: runner.settings().limits.clone(),
            version: None,
            sanitizers: Vec::new(),
            poked: None,
        };
        if let Some(command) = recipe.commands.get(example.command()) {
            example.version = runner.version(command.program());
            example.sanitizers = runner.sanitizer_options(command);
        }
        Ok(example)
    }

    /// The smallest example that is known when `task` is done or `stop` interrupts it.
    ///
    /// # Errors
    ///
    /// Its files cannot be made, or a program cannot be run.
    pub fn minimise(
        task: &mut Task,
        runner: &mut TestRunner,
        maker: &mut Maker,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self> {
        let Smallest {
            recipe,
            outcome,
            confirmed,
            done,
        } = task.advance(&mut RunnerJudge {
            runner,
            maker,
            stop,
        });
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => {
                let outcome = runner.run(&recipe, &maker.files(&recipe.base, &recipe.edits)?)?;
                task.set_outcome(outcome.clone());
                outcome
            }
        };
        let mut example = Self::new(&task.key, &recipe, &outcome, runner, maker)?;
        example.confirmed = confirmed;
        example.minimised = done;
        example.hits_in_10 = task.hits_in_10();
        if confirmed && done {
            example.hits_in_10 = RunnerJudge {
                runner,
                maker,
                stop,
            }
            .hits_in_10(&task.key, &recipe);
        }
        if has_stack(task.key.class) && done {
            let stack = runner.stack(&recipe, &example.files, example.command())?;
            let mut symbols = Symbols::new(&runner.settings().debug_folders);
            example.stack = stack.map(|stack| Trace::new(&stack, &mut symbols));
        }
        Ok(example)
    }

    /// Looks for a way to make its image with QEMU's tools, once it is minimal. Where `stop`
    /// interrupts that, it is taken up again with minimising.
    ///
    /// # Errors
    ///
    /// The scratch folder cannot be used, or a program cannot be run.
    pub fn find_poked(&mut self, runner: &mut TestRunner, stop: &dyn Fn() -> bool) -> Result<()> {
        if !(self.confirmed && self.minimised) {
            return Ok(());
        }
        let sought = Sought {
            key: &self.key,
            recipe: &self.recipe,
            prepared: &self.prepared,
            hits_in_10: self.hits_in_10,
        };
        self.poked = sought.find(runner, stop)?;
        self.minimised = self.poked.is_some() || !stop();
        Ok(())
    }

    /// The violation that this run showed, where it did.
    pub fn violation(&self) -> Option<&Violation> {
        let class = |violation: &&Violation| violation.class == self.key.class;
        self.outcome.violations.iter().find(class)
    }

    /// Index of the command that showed the violation; the last where none did.
    pub fn command(&self) -> usize {
        let last = self.recipe.commands.len().saturating_sub(1);
        self.violation().map_or(last, |violation| violation.command)
    }

    /// The offsets of the bytes in which the image differs from its base.
    pub fn changed_bytes(&self) -> Vec<u64> {
        let Some(image) = self.files.first() else {
            return Vec::new();
        };
        image.differences(self.prepared.image.bytes())
    }
}
