//! The recipes worth varying: those that showed something new.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::cover::{Candidate, cover};
use super::fleet::operation;
use super::reach_log::{self, Reach};
use super::reached::Reached;
use crate::exec::blocks::BlockId;
use crate::input::recipe::Recipe;
use image_mutations::rng::Rng;

/// The log of what recipes of the queue reach, in the work folder.
pub(super) const REACH: &str = "reach";

/// The recipes of the queue.
#[derive(Debug)]
pub(super) struct Corpus {
    entries: Vec<Entry>,
    next_id: usize,
    /// The indexes of those that are varied.
    scheduled: Vec<usize>,
    /// Those that are to be run to learn all that they reach.
    untraced: VecDeque<usize>,
    /// How many there were of which that is known, when they were minimised last.
    minimised: usize,
    /// Small numbers of what recipes reach.
    elements: HashMap<u64, u32>,
    /// What most recipes reach, which tells nothing of one.
    common: HashSet<u32>,
}

/// A recipe worth varying.
#[derive(Debug)]
struct Entry {
    /// The name of its image in the queue.
    name: String,
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
    /// Its messages and exit statuses.
    features: Vec<u64>,
    /// All that it reaches, messages included, where that is known.
    reach: Option<Vec<u32>>,
}

/// What is known of a recipe that is added.
#[derive(Debug)]
pub(super) struct Added<'a> {
    /// How many new features it showed.
    pub(super) novelty: u64,
    /// Whether its image got past being opened.
    pub(super) opened: bool,
    /// Its CPU time as a multiple of the mean, at least one.
    pub(super) cost: u64,
    /// The blocks that it reached first.
    pub(super) blocks: &'a [BlockId],
    /// All its messages and exit statuses.
    pub(super) features: &'a [u64],
    /// Whether all its commands exited, so that it can be run again to note its blocks.
    pub(super) exits: bool,
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

    /// What it costs to run it and to read it.
    fn weight(&self) -> u64 {
        let parts = 1 + self.recipe.edits.len() + self.recipe.commands.len();
        self.cost.saturating_mul(parts as u64)
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

/// The queue is minimised when a quarter more recipes, and so many, are known than the last
/// time.
const MORE_KNOWN: usize = 32;

/// What minimising came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Minimised {
    /// How many recipes were compared: those of which all that they reach is known.
    pub(super) known: usize,
    /// How many of them are left.
    pub(super) left: usize,
    /// How many different blocks and messages they reach, before as after.
    pub(super) reach: usize,
}

impl fmt::Display for Minimised {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { known, left, reach } = self;
        write!(
            to,
            "queue: {left} of {known} recipes reach the same {reach} blocks and messages; the \
             others are set aside"
        )
    }
}

impl Corpus {
    /// The recipes of an earlier run, by the names of their images.
    pub(super) fn new(queue: Vec<(String, Recipe)>) -> Self {
        // Names are numbered on from the highest there is.
        let numbers = queue
            .iter()
            .filter_map(|(name, _)| name.get(3..9)?.parse::<usize>().ok());
        Self {
            next_id: numbers.max().map_or(0, |highest| highest + 1),
            scheduled: (0..queue.len()).collect(),
            untraced: VecDeque::new(),
            minimised: 0,
            elements: HashMap::new(),
            common: HashSet::new(),
            entries: queue
                .into_iter()
                .map(|(name, recipe)| {
                    let (novelty, opened) = parse_name(&name);
                    Entry {
                        name,
                        recipe: recipe.into(),
                        novelty,
                        opened,
                        varied: 0,
                        cost: 1,
                        blocks: Vec::new(),
                        features: Vec::new(),
                        reach: None,
                    }
                })
                .collect(),
        }
    }

    /// Takes in what the work folder has of these recipes: lines of [`REACH`], and the names of
    /// those that are set aside.
    pub(super) fn resume(&mut self, reach: &str, set_aside: &HashSet<String>) {
        let known: HashMap<&str, Reach> = reach_log::parse(reach).collect();
        for index in 0..self.entries.len() {
            let entry = &mut self.entries[index];
            match entry.name.get(..ID).and_then(|id| known.get(id)) {
                Some(reach) => {
                    entry.features.clone_from(&reach.features);
                    entry.cost = reach.cost;
                    self.set_reach(index, &reach.blocks);
                }
                None if entry.opened => self.untraced.push_back(index),
                None => {}
            }
        }
        let entries = self.entries.iter().enumerate();
        let left = entries.filter(|(_, entry)| !set_aside.contains(&entry.name));
        self.scheduled = left.map(|(index, _)| index).collect();
        self.minimised = self.known().count();
    }

    /// How many recipes there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of them are varied.
    pub(super) fn scheduled(&self) -> usize {
        self.scheduled.len()
    }

    /// The names of those that are not.
    pub(super) fn set_aside(&self) -> Vec<&str> {
        let scheduled: HashSet<&usize> = self.scheduled.iter().collect();
        let entries = self.entries.iter().enumerate();
        entries
            .filter(|(index, _)| !scheduled.contains(index))
            .map(|(_, entry)| entry.name.as_str())
            .collect()
    }

    /// A recipe to vary, for some of the tests once there are a few.
    pub(super) fn choose(&mut self, rng: &mut Rng, reached: &Reached) -> Option<Arc<Recipe>> {
        if self.scheduled.len() < FEWEST || !rng.chance(VARIATION_PERCENT) {
            return None;
        }
        let candidates = (0..CANDIDATES).map(|_| self.scheduled[rng.index(self.scheduled.len())]);
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
    pub(super) fn add(&mut self, number: u64, recipe: &Recipe, added: &Added<'_>) -> String {
        let operation = match recipe.base.imported() {
            Some(_) if recipe.edits.is_empty() => "sync".to_owned(),
            _ => operation(&recipe.edits),
        };
        let id = self.next_id;
        self.next_id += 1;
        let novelty = added.novelty;
        let opened = if added.opened { OPENED } else { "" };
        let name = format!("id:{id:06},src:{number:06},op:{operation},novelty:{novelty}{opened}");
        let index = self.entries.len();
        self.scheduled.push(index);
        // What was refused is not varied anyway.
        if added.exits && added.opened {
            self.untraced.push_back(index);
        }
        self.entries.push(Entry {
            name: name.clone(),
            recipe: recipe.clone().into(),
            novelty,
            opened: added.opened,
            varied: 0,
            cost: added.cost,
            // Those that were reached last are the furthest in.
            blocks: (added.blocks.iter().rev())
                .take(BLOCKS_KEPT)
                .copied()
                .collect(),
            features: added.features.to_vec(),
            reach: None,
        });
        name
    }

    /// The next recipe to run to learn all that it reaches.
    pub(super) fn next_untraced(&mut self) -> Option<(usize, Arc<Recipe>)> {
        let index = self.untraced.pop_front()?;
        let entry = self.entries.get(index)?;
        Some((index, Arc::clone(&entry.recipe)))
    }

    /// Takes in all that a recipe reaches; gives the line for the log.
    pub(super) fn traced(&mut self, index: usize, blocks: &[BlockId]) -> Option<String> {
        let entry = self.entries.get(index)?;
        let reach = Reach {
            cost: entry.cost,
            features: entry.features.clone(),
            blocks: blocks.to_vec(),
        };
        let line = reach_log::line(entry.name.get(..ID)?, &reach);
        self.set_reach(index, blocks);
        Some(line)
    }

    fn set_reach(&mut self, index: usize, blocks: &[BlockId]) {
        let entry = &mut self.entries[index];
        let features = entry.features.iter().copied();
        let keys: Vec<u64> = features.chain(blocks.iter().map(key)).collect();
        let numbers = keys.into_iter().map(|key| number(&mut self.elements, key));
        entry.reach = Some(numbers.collect());
    }

    /// Takes in that most recipes reach these blocks.
    pub(super) fn ignore(&mut self, common: &[BlockId]) {
        let numbers = common.iter().map(|it| number(&mut self.elements, key(it)));
        self.common.extend(numbers);
    }

    /// Those of which all that they reach is known.
    fn known(&self) -> impl Iterator<Item = (usize, &[u32])> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(index, entry)| Some((index, entry.reach.as_deref()?)))
    }

    /// Sets those recipes aside that reach nothing which others do not, where enough is known
    /// that was not the last time. Those of which little is known stay.
    pub(super) fn minimise(&mut self) -> Option<Minimised> {
        let known = self.known().count();
        if known < self.minimised + self.minimised / 4 + MORE_KNOWN {
            return None;
        }
        self.minimised = known;
        let (indexes, reaches): (Vec<usize>, Vec<Vec<u32>>) = self
            .known()
            .map(|(index, reach)| {
                let rare = reach.iter().filter(|it| !self.common.contains(it));
                (index, rare.copied().collect())
            })
            .unzip();
        let candidates: Vec<_> = indexes
            .iter()
            .zip(&reaches)
            .map(|(index, reach)| Candidate {
                reaches: reach.as_slice(),
                cost: self.entries[*index].weight(),
            })
            .collect();
        let taken = cover(&candidates);
        let left: HashSet<usize> = taken.iter().map(|place| indexes[*place]).collect();
        let stays = |(index, entry): (usize, &Entry)| {
            (entry.reach.is_none() || left.contains(&index)).then_some(index)
        };
        self.scheduled = self.entries.iter().enumerate().filter_map(stays).collect();
        let all: HashSet<&u32> = reaches.iter().flatten().collect();
        Some(Minimised {
            known,
            left: left.len(),
            reach: all.len(),
        })
    }
}

/// How long the part of a name is that tells it from others: `id:000012`.
pub(super) const ID: usize = 9;

/// A block among all that recipes reach.
pub(super) fn key(block: &BlockId) -> u64 {
    let address = u64::from(block.address);
    block.file ^ address.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The small number of something that recipes reach.
fn number(elements: &mut HashMap<u64, u32>, key: u64) -> u32 {
    let next = u32::try_from(elements.len()).unwrap_or(u32::MAX);
    *elements.entry(key).or_insert(next)
}

/// What the name of an image in the queue ends with when it got past being opened.
const OPENED: &str = ",+opened";

/// What the name of an image in the queue says: how many new features it showed, and whether
/// it opened.
pub(super) fn parse_name(name: &str) -> (u64, bool) {
    let novelty = name.split(',').find_map(|part| {
        let (label, number) = part.split_once(':')?;
        // `news` is what version 0.2 wrote.
        ["novelty", "news"]
            .contains(&label)
            .then(|| number.parse().ok())?
    });
    (novelty.unwrap_or(1), name.ends_with(OPENED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::recipe::FUZZER;

    fn recipe(seed: &str) -> Recipe {
        Recipe {
            fuzzer: FUZZER.into(),
            seed: seed.into(),
            base: image_mutations::base::draw(&mut Rng::from_text("corpus")),
            edits: Vec::new(),
            commands: Vec::new(),
            fresh_copies: false,
            guard: None,
        }
    }

    fn blocks(addresses: std::ops::Range<u32>) -> Vec<BlockId> {
        let block = |address| BlockId { file: 7, address };
        addresses.map(block).collect()
    }

    /// Recipe N reaches blocks N and N + 1, and the last one all.
    fn corpus(count: u32) -> (Corpus, Vec<String>, String) {
        let mut corpus = Corpus::new(Vec::new());
        let mut log = String::new();
        let mut names = Vec::new();
        for number in 0..count {
            let reaches = match number + 1 == count {
                true => blocks(0..count + 1),
                false => blocks(number..number + 2),
            };
            let added = Added {
                novelty: 1,
                opened: true,
                cost: 1,
                blocks: &reaches,
                features: &[],
                exits: true,
            };
            names.push(corpus.add(number.into(), &recipe(&format!("{number}")), &added));
            let (index, _) = corpus.next_untraced().unwrap();
            log += &corpus.traced(index, &reaches).unwrap();
            log.push('\n');
        }
        (corpus, names, log)
    }

    #[test]
    fn what_reaches_nothing_of_its_own_is_set_aside() {
        let (mut corpus, names, log) = corpus(40);
        let minimised = corpus.minimise().unwrap();
        let expected = Minimised {
            known: 40,
            left: 1,
            reach: 41,
        };
        assert_eq!(minimised, expected);
        assert_eq!((corpus.len(), corpus.scheduled()), (40, 1));
        assert_eq!(corpus.set_aside(), names[..39]);
        // Not again before more is known.
        assert_eq!(corpus.minimise(), None);
        // What nothing is known of is varied.
        let added = Added {
            novelty: 1,
            opened: true,
            cost: 1,
            blocks: &[],
            features: &[],
            exits: false,
        };
        corpus.add(99, &recipe("new"), &added);
        assert_eq!(corpus.scheduled(), 2);

        // Another run goes on with it.
        let queue = names.iter().map(|name| (name.clone(), recipe(name)));
        let mut again = Corpus::new(queue.collect());
        let set_aside = names[..39].iter().cloned().collect();
        again.resume(&log, &set_aside);
        assert_eq!((again.len(), again.scheduled()), (40, 1));
        assert!(again.next_untraced().is_none() && again.minimise().is_none());
    }

    #[test]
    fn messages_are_reached_too() {
        let mut corpus = Corpus::new(Vec::new());
        for number in 0..40 {
            let added = Added {
                novelty: 1,
                opened: true,
                cost: 1,
                blocks: &[],
                features: &[number % 4],
                exits: true,
            };
            corpus.add(number, &recipe("any"), &added);
            corpus.traced(usize::try_from(number).unwrap(), &blocks(0..3));
        }
        corpus.ignore(&blocks(0..3));
        let minimised = corpus.minimise().unwrap();
        assert_eq!((minimised.left, minimised.reach), (4, 4));
    }
}
