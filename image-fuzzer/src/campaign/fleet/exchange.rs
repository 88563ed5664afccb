//! What passes between the workers of a campaign and the thread that writes and reads the folder
//! of its fleet.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::entry::operation;
use crate::input::recipe::Recipe;
use crate::output::counted;
use image_mutations::base::ImportedBase;

/// The fleet that a campaign is an instance of.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The folder that all instances have theirs in.
    pub dir: PathBuf,
    /// The name of this one's.
    pub name: String,
    /// How long it is between two looks at the others.
    pub interval: Duration,
}

/// What an instance gave and took since the fuzzer was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FleetStats {
    /// Other instances.
    pub siblings: usize,
    /// Images that it wrote for others.
    pub written: u64,
    /// Images of others that it ran.
    pub run: u64,
    /// Those of them that showed something new and were kept.
    pub kept: u64,
    /// Images of others that could not be read or used.
    pub passed_over: u64,
}

impl fmt::Display for FleetStats {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            siblings,
            written,
            run,
            kept,
            passed_over,
        } = self;
        let others = counted(*siblings as u64, "other instance");
        write!(
            to,
            "{others}, {written} images written, {run} of others run, {kept} of them kept"
        )?;
        match passed_over {
            0 => Ok(()),
            count => write!(to, ", {count} unusable"),
        }
    }
}

/// Where an image of another instance comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::campaign) struct Source {
    pub(in crate::campaign) sibling: String,
    pub(in crate::campaign) id: u32,
}

impl Source {
    /// What stands for a seed in its recipe.
    pub(in crate::campaign) fn seed(&self) -> String {
        format!("sync/{}/{}", self.sibling, self.id)
    }
}

/// An image of another instance.
#[derive(Clone, Debug)]
pub(in crate::campaign) struct Import {
    pub(in crate::campaign) base: ImportedBase,
    pub(in crate::campaign) source: Source,
}

/// Whether a recipe has an image as another instance made it, which is not written for others.
fn is_foreign(recipe: &Recipe) -> bool {
    recipe.base.imported().is_some() && recipe.edits.is_empty()
}

/// What passes between the workers and the thread that writes and reads the folder.
#[derive(Debug, Default)]
pub(in crate::campaign) struct Exchange {
    /// Images to be run.
    incoming: VecDeque<Import>,
    /// Those that were.
    finished: Vec<Source>,
    /// Images of the queue to be written.
    outgoing: VecDeque<Outgoing>,
    /// How many tests were begun.
    turn: u64,
    pub(in crate::campaign) stats: FleetStats,
}

/// An image of the queue.
#[derive(Debug)]
pub(in crate::campaign) struct Outgoing {
    /// Its name there.
    pub(in crate::campaign) name: String,
    /// Milliseconds and commands from the beginning of the campaign until it was made.
    pub(in crate::campaign) made: (u64, u64),
    /// The families of its mutations.
    pub(in crate::campaign) operation: String,
}

impl Exchange {
    /// One in so many tests is of another instance's image, where there are any.
    const SHARE: u64 = 2;

    /// The next image to be run, where it is the turn of one.
    pub(in crate::campaign) fn next(&mut self) -> Option<Import> {
        self.turn += 1;
        match self.turn.is_multiple_of(Self::SHARE) {
            true => self.incoming.pop_front(),
            false => None,
        }
    }

    /// Puts an image back that no test was made of.
    pub(in crate::campaign) fn put_back(&mut self, import: Import) {
        self.incoming.push_front(import);
    }

    /// Takes in that an image was run, and whether it was kept. Gives whether more are wanted.
    pub(in crate::campaign) fn finish(&mut self, source: Source, kept: bool) -> bool {
        self.finished.push(source);
        self.stats.run += 1;
        self.stats.kept += u64::from(kept);
        self.incoming.is_empty()
    }

    /// Takes what is there for the thread: the images that were run and, where it is to write
    /// them, those to be written.
    pub(in crate::campaign) fn take(&mut self, writes: bool) -> (Vec<Source>, VecDeque<Outgoing>) {
        let outgoing = match writes {
            true => std::mem::take(&mut self.outgoing),
            false => VecDeque::new(),
        };
        (std::mem::take(&mut self.finished), outgoing)
    }

    /// Adds images to be run.
    pub(in crate::campaign) fn add(&mut self, imports: Vec<Import>) {
        self.incoming.extend(imports);
    }

    /// Takes in an image of the queue, to be written for others unless it is of another.
    pub(in crate::campaign) fn offer(&mut self, name: &str, recipe: &Recipe, made: (u64, u64)) {
        if !is_foreign(recipe) {
            self.outgoing.push_back(Outgoing {
                name: name.to_owned(),
                made,
                operation: operation(&recipe.edits),
            });
        }
    }
}
