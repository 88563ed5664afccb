//! The image of a finding as a maintainer would make it: with `qemu-img create`, a few commands,
//! and pokes into fields, where that gives the same finding.

mod recreate;
mod translate;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use image_formats::{AnyImage, Format};

use recreate::{Creation, creations};
pub(super) use translate::Change;
use translate::{Offsets, Translator};

use crate::commands::Command;
use crate::input::recipe::Recipe;
use crate::oracle::runner::{Outcome, TestRunner};
use crate::oracle::timeout::TimeoutPolicy;
use crate::triage::judge::Judge;
use crate::triage::{Key, coarse_keys, full_keys};
use image_mutations::base::{BACKING_FILE, DATA_FILE, Prepared, TEST_IMG};
use image_mutations::edit::Number;
use image_mutations::named_file::NamedFile;

/// After this no further way to make the image is tried.
const MOST_TIME: Duration = Duration::from_secs(20);

/// How the image of a finding is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PokedImage {
    /// The commands that create it.
    pub(super) commands: Vec<Command>,
    /// What is then changed in it.
    pub(super) changes: Vec<Change>,
}

/// A finding whose image is to be made.
pub(super) struct Sought<'a> {
    /// The group.
    pub(super) key: &'a Key,
    /// A recipe that shows it.
    pub(super) recipe: &'a Recipe,
    /// The base image of that.
    pub(super) prepared: &'a Prepared,
    /// In how many of ten runs it does.
    pub(super) hits_in_10: u8,
}

impl Sought<'_> {
    /// The first way to make an image that shows the finding as often as that of the recipe;
    /// `None` where there is none, or `stop` was true before one was found.
    ///
    /// # Errors
    ///
    /// The scratch folder cannot be used, or a program cannot be run.
    pub(super) fn find(
        &self,
        runner: &mut TestRunner,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<PokedImage>> {
        let began = Instant::now();
        let Some(base) = self.recipe.base.qcow2() else {
            return Ok(None);
        };
        for creation in creations(base) {
            let names = [TEST_IMG, BACKING_FILE, DATA_FILE];
            let Some(files) = runner.make_files(&creation.commands, &names)? else {
                continue;
            };
            let mut tried: Vec<Vec<Change>> = Vec::new();
            for offsets in [Offsets::Translated, Offsets::Literal] {
                if stop() || began.elapsed() >= MOST_TIME {
                    return Ok(None);
                }
                let Some((files, changes)) = self.change(&creation, &files, offsets)? else {
                    continue;
                };
                if tried.contains(&changes) {
                    continue;
                }
                tried.push(changes.clone());
                let files = &files;
                let mut judge = FilesJudge {
                    runner,
                    files,
                    stop,
                };
                if self.is_shown(&mut judge) {
                    let commands = creation.commands;
                    return Ok(Some(PokedImage { commands, changes }));
                }
            }
        }
        Ok(None)
    }

    /// The files with the edits of the recipe, and these as changes; `None` where it has edits
    /// that cannot be made to them.
    fn change(
        &self,
        creation: &Creation,
        files: &[NamedFile],
        offsets: Offsets,
    ) -> Result<Option<(Vec<NamedFile>, Vec<Change>)>> {
        let Some((image, others)) = files.split_first() else {
            return Ok(None);
        };
        let mut translator = Translator {
            base: self.prepared,
            made: AnyImage::open(Arc::new(image.clone()), Format::Qcow2)?,
            offsets,
            changes: Vec::new(),
        };
        let set = |(path, value): &(String, u64)| translator.set(path, Number(*value));
        if !creation.fields.iter().map(set).all(|done| done.is_some()) {
            return Ok(None);
        }
        let edits = self.recipe.edits.iter();
        let mut done = edits.map(|mutation| translator.edit(&mutation.edit));
        if !done.all(|done| done.is_some()) {
            return Ok(None);
        }
        drop(done);
        let mut files = vec![NamedFile::new(TEST_IMG, translator.made.bytes())];
        files.extend_from_slice(others);
        Ok(Some((files, translator.changes)))
    }

    /// Whether the files show the finding in every run, or where chance has a part in it, in
    /// some of ten.
    fn is_shown(&self, judge: &mut FilesJudge<'_>) -> bool {
        let (key, recipe) = (self.key, self.recipe);
        let by_chance = self.hits_in_10 < 10;
        // This takes no debugger, and of hangs a second.
        let coarse = |judge: &mut FilesJudge<'_>| {
            let policy = if key.is_of_time() {
                TimeoutPolicy::Short
            } else {
                TimeoutPolicy::Confirm
            };
            key.coarse().is_among(&judge.coarse_keys(recipe, policy))
        };
        if !(by_chance || coarse(judge)) {
            return false;
        }
        // What three of ten runs show may not be among the few that are made for a group.
        let rounds = if by_chance { 5 } else { 1 };
        let shown = |judge: &mut FilesJudge<'_>| {
            let again = judge.again(key, recipe);
            again.is_some_and(|again| key.covers(&again))
        };
        if !(0..rounds).any(|_| shown(judge)) {
            return false;
        }
        let hits = judge.hits_in_10(key, recipe);
        if by_chance { hits > 0 } else { hits == 10 }
    }
}

/// Judges what the commands of a recipe do with other files than those of the recipe.
struct FilesJudge<'a> {
    runner: &'a mut TestRunner,
    files: &'a [NamedFile],
    stop: &'a dyn Fn() -> bool,
}

impl Judge for FilesJudge<'_> {
    fn coarse_keys(&mut self, recipe: &Recipe, policy: TimeoutPolicy) -> Vec<Key> {
        let outcome = self.runner.run_with(recipe, self.files, policy);
        outcome.map_or_else(|_| Vec::new(), |outcome| coarse_keys(&outcome))
    }

    fn full_keys(&mut self, recipe: &Recipe) -> (Vec<Key>, Option<Outcome>) {
        let Ok(outcome) = self.runner.run(recipe, self.files) else {
            return (Vec::new(), None);
        };
        let keys = full_keys(self.runner, recipe, self.files, &outcome);
        (keys.unwrap_or_default(), Some(outcome))
    }

    fn base(&mut self, _: &Recipe) -> Option<AnyImage> {
        None
    }

    fn is_over(&self) -> bool {
        (self.stop)()
    }

    fn is_aborted(&self) -> bool {
        self.runner.is_aborted()
    }
}
