//! The recipes worth varying: those that showed something new.

use std::sync::Arc;

use super::reached::Reached;
use crate::exec::blocks::BlockId;
use crate::input::recipe::Recipe;
use crate::rng::Rng;

/// The recipes of the queue.
#[derive(Debug)]
pub(super) struct Corpus {
    entries: Vec<Entry>,
    next_id: usize,
}

/// A recipe worth varying.
#[derive(Debug)]
struct Entry {
    recipe: Arc<Recipe>,
    /// How many new features it showed.
    novelty: u64,
    /// Whether its image got past being opened.
    opened: bool,
    /// How often it was varied.
    varied: u64,
    /// Its CPU time as a multiple of the mean, at least one.
    cost: u64,
    /// Some of the blocks that it reached first.
    blocks: Vec<BlockId>,
}

impl Entry {
    /// New features are worth much, and less with every variation; so is what takes long,
    /// since many others could be tried in its time. What was refused is worth nothing:
    /// one mutation more meets the same check, which refuses it again.
    ///
    /// So are blocks that it reached first and that tests have seldom reached since.
    fn energy(&self, reached: &Reached) -> f64 {
        if !self.opened {
            return 0.0;
        }
        let spent = self.cost.saturating_mul(self.varied + 1);
        (self.novelty as f64 + reached.worth(&self.blocks)) / spent as f64
    }
}

/// How many of its new blocks an entry keeps: enough to tell how rare they are.
const BLOCKS_KEPT: usize = 16;

/// The least number of entries that are chosen from.
const FEWEST: usize = 8;

/// How many tests are variations of an entry, in percent.
const VARIATION_PERCENT: u64 = 40;

/// Among how many entries, drawn at random, the best is chosen: this keeps it short for a
/// long queue.
const CANDIDATES: usize = 4;

impl Corpus {
    /// The recipes of an earlier run, by the names of their images.
    pub(super) fn new(queue: Vec<(String, Recipe)>) -> Self {
        // Names are numbered on from the highest there is.
        let numbers = queue
            .iter()
            .filter_map(|(name, _)| name.get(3..9)?.parse::<usize>().ok());
        Self {
            next_id: numbers.max().map_or(0, |highest| highest + 1),
            entries: queue
                .into_iter()
                .map(|(name, recipe)| {
                    let (novelty, opened) = parse_name(&name);
                    Entry {
                        recipe: recipe.into(),
                        novelty,
                        opened,
                        varied: 0,
                        cost: 1,
                        blocks: Vec::new(),
                    }
                })
                .collect(),
        }
    }

    /// How many recipes there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A recipe to vary, for some of the tests once there are a few.
    pub(super) fn choose(&mut self, rng: &mut Rng, reached: &Reached) -> Option<Arc<Recipe>> {
        if self.entries.len() < FEWEST || !rng.chance(VARIATION_PERCENT) {
            return None;
        }
        let candidates = (0..CANDIDATES).map(|_| rng.index(self.entries.len()));
        let (best, energy) = candidates
            .map(|index| (index, self.entries[index].energy(reached)))
            .reduce(|best, other| if other.1 > best.1 { other } else { best })?;
        if energy <= 0.0 {
            return None;
        }
        let entry = &mut self.entries[best];
        entry.varied += 1;
        Some(Arc::clone(&entry.recipe))
    }

    /// Adds the recipe of test `number`; returns the name of its image in the queue.
    pub(super) fn add(
        &mut self,
        number: u64,
        recipe: &Recipe,
        novelty: u64,
        opened: bool,
        cost: u64,
        blocks: &[BlockId],
    ) -> String {
        let families = recipe.edits.iter().map(|mutation| mutation.family.as_str());
        let mut operation = families.collect::<Vec<_>>().join("+");
        operation.truncate(60);
        let id = self.next_id;
        self.next_id += 1;
        self.entries.push(Entry {
            recipe: recipe.clone().into(),
            novelty,
            opened,
            varied: 0,
            cost,
            // Those that were reached last are the furthest in.
            blocks: blocks.iter().rev().take(BLOCKS_KEPT).copied().collect(),
        });
        let opened = if opened { OPENED } else { "" };
        format!("id:{id:06},src:{number:06},op:{operation},novelty:{novelty}{opened}")
    }
}

/// What the name of an image in the queue ends with when it got past being opened.
const OPENED: &str = ",+opened";

/// What the name of an image in the queue says: how many new features it showed, and whether
/// it opened.
fn parse_name(name: &str) -> (u64, bool) {
    let novelty = name.split(',').find_map(|part| {
        let (label, number) = part.split_once(':')?;
        // `news` is what version 0.2 wrote.
        ["novelty", "news"]
            .contains(&label)
            .then(|| number.parse().ok())?
    });
    (novelty.unwrap_or(1), name.ends_with(OPENED))
}
