//! What the workers of a campaign share: numbers, feedback, queue, groups.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::stats::Stats;
use super::triage::Queue;
use crate::campaign::store::{Finished, Past, Store};
use crate::finding::Findings;
use crate::input::mutate::FAMILIES;
use crate::input::recipe::Recipe;
use crate::named_file::NamedFile;
use crate::oracle::runner::Outcome;
use crate::rng::Rng;

/// The state of a campaign, behind one lock.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) findings: Findings,
    pub(super) finished: Finished,
    pub(super) seed: String,
    pub(super) stats: Stats,
    next: u64,
    /// Tests that the end of an earlier run cut short.
    suspended: BTreeMap<u64, Recipe>,
    /// Those of them that are being done.
    resumed: BTreeSet<u64>,
    features: HashSet<u64>,
    pub(super) triage: Queue,
    /// Processor time that programs took since the fuzzer was started.
    cpu: Duration,
    queue: Vec<Entry>,
    next_queue: usize,
    weights: Vec<u64>,
    pub(super) notes: BTreeSet<String>,
}

/// What the name of an image in the queue ends with when it got past being opened.
const OPENED: &str = ",+opened";

/// What the name of an image in the queue says of its worth: how many new features it showed,
/// and whether it opened.
fn worth_in(name: &str) -> (u64, bool) {
    let novelty = name.split(',').find_map(|part| {
        let (label, number) = part.split_once(':')?;
        // `news` is what version 0.2 wrote.
        ["novelty", "news"]
            .contains(&label)
            .then(|| number.parse().ok())?
    });
    let novelty = novelty.unwrap_or(1);
    (novelty, name.ends_with(OPENED))
}

/// A recipe worth varying.
struct Entry {
    recipe: std::sync::Arc<Recipe>,
    /// How many new features it showed.
    novelty: u64,
    /// Whether its image got past being opened.
    opened: bool,
    /// How often it was varied.
    varied: u64,
    /// How many times as long as others it kept the programs busy, at least one.
    cost: u64,
}

impl Entry {
    /// New features are worth much, and less with every variation; so is what takes long,
    /// since many others could be tried in its time. What was refused is worth nothing:
    /// one mutation more meets the same check, which refuses it again.
    fn energy(&self) -> u64 {
        if !self.opened {
            return 0;
        }
        let spent = self.cost.saturating_mul(self.varied + 1);
        (self.novelty * 256).div_ceil(spent)
    }
}

impl Shared {
    pub(super) fn new(
        store: Store,
        mut findings: Findings,
        past: Past,
        seed: String,
        mut triage: Queue,
    ) -> Self {
        let Past {
            finished,
            suspended,
            queue,
            features,
        } = past;
        // Names are counted on from the highest there is.
        let next_queue = queue
            .iter()
            .filter_map(|(name, _)| name.get(3..9)?.parse::<usize>().ok())
            .max()
            .map_or(0, |highest| highest + 1);
        let queue = queue
            .into_iter()
            .map(|(name, recipe)| {
                let (novelty, opened) = worth_in(&name);
                Entry {
                    recipe: recipe.into(),
                    novelty,
                    opened,
                    varied: 0,
                    cost: 1,
                }
            })
            .collect::<Vec<_>>();
        for (key, recipe) in findings.unfinished() {
            let task = triage.task(key, recipe, 1);
            triage.add(task);
        }
        let stats = Stats {
            queue: queue.len(),
            groups: findings.len(),
            messages: features.len(),
            ..Stats::default()
        };
        Self {
            next: finished.below,
            suspended,
            resumed: BTreeSet::new(),
            store,
            findings,
            finished,
            seed,
            stats,
            features,
            triage,
            cpu: Duration::ZERO,
            queue,
            next_queue,
            weights: crate::input::mutate::first_weights(),
            notes: BTreeSet::new(),
        }
    }

    /// A test that was cut short, to be done again.
    pub(super) fn resume(&mut self) -> Option<(u64, Recipe)> {
        let (number, recipe) = self.suspended.pop_first()?;
        self.resumed.insert(number);
        Some((number, recipe))
    }

    /// Counts test `number` among the finished, after all it found is on disk.
    pub(super) fn finish(&mut self, number: u64) -> Result<()> {
        self.store.finish(number)?;
        self.finished.add(number);
        if self.resumed.remove(&number) {
            self.store.forget(number)?;
        }
        Ok(())
    }

    /// The number of a test that nobody has done; `None` at `most`.
    pub(super) fn number(&mut self, most: Option<u64>) -> Option<u64> {
        let taken = |number| {
            self.finished.has(number)
                || self.suspended.contains_key(&number)
                || self.resumed.contains(&number)
        };
        while taken(self.next) {
            self.next += 1;
        }
        if most.is_some_and(|most| self.next >= most) {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    /// The weights of the families as they are now.
    pub(super) fn weights(&self) -> Vec<u64> {
        self.weights.clone()
    }

    /// A recipe to vary, for some of the tests once there are a few.
    pub(super) fn parent(&mut self, rng: &mut Rng) -> Option<std::sync::Arc<Recipe>> {
        if self.queue.len() < 8 || !rng.chance(40) {
            return None;
        }
        // Choosing among a few at random keeps it short for a long queue.
        let mut best: Option<usize> = None;
        for _ in 0..4 {
            let candidate = rng.index(self.queue.len());
            if best.is_none_or(|b| self.queue[candidate].energy() > self.queue[b].energy()) {
                best = Some(candidate);
            }
        }
        let entry = &mut self.queue[best?];
        if entry.energy() == 0 {
            return None;
        }
        entry.varied += 1;
        Some(std::sync::Arc::clone(&entry.recipe))
    }

    /// Takes in what a test showed. Where a feature of it is new, `image` goes into the queue.
    ///
    /// Fails where the work folder cannot be written.
    pub(super) fn learn(
        &mut self,
        number: u64,
        recipe: &Recipe,
        image: Option<&NamedFile>,
        outcome: &Outcome,
    ) -> Result<()> {
        let new: Vec<u64> = outcome
            .features
            .iter()
            .copied()
            .filter(|feature| self.features.insert(*feature))
            .collect();
        let novelty = new.len() as u64;
        self.cpu += outcome.cpu;
        self.stats.messages = self.features.len();
        self.stats.add(recipe, outcome, novelty);
        if novelty > 0 {
            self.reweigh();
            if let Some(image) = image {
                let name = self.enqueue(number, recipe, outcome, novelty);
                self.store.enqueue(&name, recipe, image)?;
            }
            // Behind the image: what is known to have been seen is in the queue.
            self.store.note_features(&new)?;
        }
        Ok(())
    }

    /// Families that show new things become more likely, up to fourfold, those
    /// that do not less, down to a half.
    fn reweigh(&mut self) {
        let families = &self.stats.families;
        let uses: u64 = families.values().map(|used| used.images).sum();
        let novelty: u64 = families.values().map(|used| used.novelty).sum();
        let mean = (novelty as f64 + 1.0) / (uses as f64 + 1.0);
        for (family, weight) in FAMILIES.iter().zip(&mut self.weights) {
            let used = families.get(family.name).copied().unwrap_or_default();
            // A family of which little is known counts as an average one.
            let own = (used.novelty as f64 + 20.0 * mean) / (used.images as f64 + 20.0);
            *weight = (family.weight as f64 * 16.0 * (own / mean).clamp(0.5, 4.0)) as u64;
        }
    }

    /// Takes a recipe into the queue; the name under which its files go there.
    fn enqueue(&mut self, number: u64, recipe: &Recipe, outcome: &Outcome, novelty: u64) -> String {
        let families: Vec<&str> = recipe
            .edits
            .iter()
            .map(|mutation| mutation.family.as_str())
            .collect();
        let mut operation = families.join("+");
        operation.truncate(60);
        let opened = outcome.opened;
        let mut name = format!(
            "id:{:06},src:{number:06},op:{operation},novelty:{novelty}",
            self.next_queue
        );
        if opened {
            name.push_str(OPENED);
        }
        self.next_queue += 1;
        self.queue.push(Entry {
            recipe: recipe.clone().into(),
            novelty,
            opened,
            varied: 0,
            cost: self.cost(outcome),
        });
        self.stats.queue = self.queue.len();
        name
    }

    /// How many times as long as the mean a test kept the programs busy. In whole powers of
    /// two, so that the accidents of one run do not matter.
    fn cost(&self, outcome: &Outcome) -> u64 {
        let mean = self.cpu.as_nanos() / u128::from(self.stats.images.max(1));
        let times = outcome.cpu.as_nanos() / mean.max(1);
        u64::try_from(times.max(1)).map_or(1, |times| 1 << times.ilog2())
    }

    /// Says once what the executors had to say: it is the same for every worker.
    pub(super) fn note(&mut self, note: &str) -> Result<()> {
        if self.notes.insert(note.to_owned()) {
            self.store.log("run.log", &format!("note: {note}"))?;
        }
        Ok(())
    }

    /// Appends the numbers to the log of statistics.
    pub(super) fn log_stats(&self, started: Instant) -> Result<()> {
        let mut line = serde_json::to_value(&self.stats)?;
        let seconds = started.elapsed().as_secs_f64();
        if let Some(fields) = line.as_object_mut() {
            fields.insert("time".into(), json!(jiff::Timestamp::now().to_string()));
            fields.insert("seconds".into(), json!((seconds * 10.0).round() / 10.0));
            fields.insert(
                "opened_percent".into(),
                json!(self.stats.opened_percent().round()),
            );
            fields.insert(
                "images_per_second".into(),
                json!((self.stats.images as f64 / seconds.max(0.001)).round()),
            );
        }
        self.store.log("stats.jsonl", &line.to_string())
    }
}
