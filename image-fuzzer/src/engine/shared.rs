//! What the workers of a campaign share: numbers, feedback, queue, groups.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::stats::Stats;
use crate::finding::Findings;
use crate::mutate::FAMILIES;
use crate::recipe::Recipe;
use crate::rng::Rng;
use crate::store::{Finished, Store};
use crate::trial::Outcome;

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
    marks: HashSet<u64>,
    queue: Vec<Entry>,
    next_queue: usize,
    weights: Vec<u64>,
    pub(super) notes: BTreeSet<String>,
}

/// A recipe worth varying.
struct Entry {
    recipe: std::sync::Arc<Recipe>,
    /// How many new marks it showed.
    news: u64,
    /// Whether its image got past being opened.
    opened: bool,
    /// How often it was varied.
    varied: u64,
}

impl Entry {
    /// New marks are worth much, and less with every variation. What was refused is
    /// worth nothing: one lie more is told to the same check, which refuses it again.
    fn energy(&self) -> u64 {
        if !self.opened {
            return 0;
        }
        (self.news * 256).div_ceil(self.varied + 1).max(1)
    }
}

impl Shared {
    pub(super) fn new(
        store: Store,
        findings: Findings,
        finished: Finished,
        suspended: BTreeMap<u64, Recipe>,
        queue: Vec<(String, Recipe)>,
        seed: String,
    ) -> Self {
        // Names are counted on from the highest there is.
        let next_queue = queue
            .iter()
            .filter_map(|(name, _)| name.get(3..9)?.parse::<usize>().ok())
            .max()
            .map_or(0, |highest| highest + 1);
        let queue = queue
            .into_iter()
            .map(|(_, recipe)| Entry {
                recipe: recipe.into(),
                news: 1,
                // Not known, and so worth a try.
                opened: true,
                varied: 0,
            })
            .collect::<Vec<_>>();
        let stats = Stats {
            queue: queue.len(),
            groups: findings.len(),
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
            marks: HashSet::new(),
            queue,
            next_queue,
            weights: crate::mutate::first_weights(),
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

    /// Takes in what a test showed; how many of its marks were new.
    pub(super) fn learn(&mut self, recipe: &Recipe, outcome: &Outcome) -> u64 {
        let before = self.marks.len();
        self.marks.extend(&outcome.marks);
        let news = (self.marks.len() - before) as u64;
        self.stats.messages = self.marks.len();
        self.stats.add(recipe, outcome, news);
        if news > 0 {
            self.reweigh();
        }
        news
    }

    /// Families that show new things become more likely, up to fourfold, those
    /// that do not less, down to a half.
    fn reweigh(&mut self) {
        let families = &self.stats.families;
        let uses: u64 = families.values().map(|used| used.images).sum();
        let news: u64 = families.values().map(|used| used.news).sum();
        let mean = (news as f64 + 1.0) / (uses as f64 + 1.0);
        for (family, weight) in FAMILIES.iter().zip(&mut self.weights) {
            let used = families.get(family.name).copied().unwrap_or_default();
            // A family of which little is known counts as an average one.
            let own = (used.news as f64 + 20.0 * mean) / (used.images as f64 + 20.0);
            *weight = (family.weight as f64 * 16.0 * (own / mean).clamp(0.5, 4.0)) as u64;
        }
    }

    /// Takes a recipe into the queue; the name under which its files go there.
    pub(super) fn enqueue(
        &mut self,
        recipe: &Recipe,
        number: u64,
        news: u64,
        opened: bool,
    ) -> String {
        let families: Vec<&str> = recipe.edits.iter().map(|lie| lie.family.as_str()).collect();
        let mut operation = families.join("+");
        operation.truncate(60);
        let name = format!("id:{:06},src:{number:06},op:{operation}", self.next_queue);
        self.next_queue += 1;
        self.queue.push(Entry {
            recipe: recipe.clone().into(),
            news,
            opened,
            varied: 0,
        });
        self.stats.queue = self.queue.len();
        name
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
