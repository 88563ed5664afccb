//! What the workers of a campaign share: statistics, feedback, corpus, findings.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::afl_stats::{FUZZER_STATS, PLOT_DATA, PLOT_HEADER, Values, fuzzer_stats, plot_line};
use super::corpus::{Added, Corpus, REACH};
use super::finished::Finished;
use super::fleet::{Exchange, Import, Source};
use super::novelty::{Changes, Gain, Guidance, NoveltySources};
use super::reached::{FIRST_PAUSE, FIRST_SAMPLES, Reached, SAMPLE_PAUSE};
use super::stats::Stats;
use super::store::{Progress, Store};
use super::sweep::{SweepQueue, index_of};
use super::task_queue::{Parked, TaskQueue};
use super::totals::{Pace, STATS, Totals, unix_time};
use crate::exec::blocks::{BlockId, ProgramBlocks};
use crate::files::write_whole;
use crate::finding::Findings;
use crate::input::recipe::Recipe;
use crate::oracle::Class;
use crate::oracle::runner::Outcome;
use image_mutations::mutate::{FAMILIES, first_weights};
use image_mutations::named_file::NamedFile;
use image_mutations::rng::Rng;

/// What so many new blocks count beside new messages: a message stands for all the blocks that
/// are reached with it.
fn block_novelty(blocks: usize) -> u64 {
    u64::from(blocks.checked_ilog2().map_or(0, |log| log + 1))
}

/// What decides which recipes are varied, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Feedback {
    /// New blocks, messages and exit statuses.
    #[default]
    Blocks,
    /// New messages and exit statuses. Blocks are noted where they can be, and affect nothing.
    Messages,
    /// Nothing: each test is drawn anew.
    Off,
}

impl Feedback {
    /// How many blocks count, of so many.
    fn counted(self, blocks: usize) -> usize {
        match self {
            Self::Blocks => blocks,
            Self::Messages | Self::Off => 0,
        }
    }
}

/// The state of a campaign, behind one lock.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) feedback: Feedback,
    pub(super) findings: Findings,
    pub(super) finished: Finished,
    pub(super) seed: String,
    pub(super) stats: Stats,
    pub(super) pace: Pace,
    /// What earlier runs came to.
    earlier: Totals,
    next: u64,
    /// Tests that the end of an earlier run interrupted.
    suspended: BTreeMap<u64, Recipe>,
    /// Those of them that are running again.
    resumed: BTreeSet<u64>,
    features: HashSet<u64>,
    reached: Reached,
    /// Blocks of programs that no test has run.
    waiting: Vec<BlockId>,
    /// How many tests were run to note all their blocks.
    samples: u64,
    /// Where blocks are read from; `None` where they are not noted.
    blocks: Option<Arc<ProgramBlocks>>,
    pub(super) tasks: TaskQueue,
    /// CPU time of all programs since the fuzzer was started.
    cpu: Duration,
    pub(super) corpus: Corpus,
    pub(super) sweep: SweepQueue,
    /// What passes between this and the other instances of its fleet, where it has one.
    pub(super) exchange: Option<Exchange>,
    /// The weights of the families.
    weights: Vec<u64>,
    /// Where novelty came from.
    sources: NoveltySources,
    /// What variations are drawn by, worked out of the weights and these now and then.
    guidance: Arc<Guidance>,
    notes: BTreeSet<String>,
}

impl Shared {
    pub(super) fn new(
        store: Store,
        mut findings: Findings,
        progress: Progress,
        seed: String,
        mut tasks: TaskQueue,
        sweep: SweepQueue,
        blocks: Option<Arc<ProgramBlocks>>,
    ) -> Self {
        let Progress {
            finished,
            suspended,
            parked,
            queue,
            set_aside,
            reach,
            features,
            blocks: log,
        } = progress;
        let reached = Reached::of(&log);
        let mut corpus = Corpus::new(queue);
        corpus.resume(&reach, &set_aside);
        for (key, recipe) in findings.unfinished() {
            let task = tasks.task(key, recipe, 1);
            tasks.add(task);
        }
        for (number, recipe) in parked {
            tasks.park(Parked {
                number,
                recipe,
                suspect: None,
            });
        }
        let sources = NoveltySources::read(store.root());
        let stats = Stats {
            suspected: tasks.parked(),
            queue: corpus.len(),
            scheduled: corpus.scheduled(),
            groups: findings.len(),
            messages: features.len(),
            blocks: reached.len(),
            sweep: sweep.progress(),
            ..Stats::default()
        };
        Self {
            earlier: Totals::resumed(store.root(), finished.count()),
            pace: Pace::new(),
            next: finished.below,
            suspended,
            resumed: BTreeSet::new(),
            guidance: Arc::new(sources.guidance(first_weights())),
            sources,
            feedback: Feedback::default(),
            store,
            findings,
            finished,
            seed,
            stats,
            features,
            reached,
            waiting: Vec::new(),
            samples: 0,
            blocks,
            tasks,
            cpu: Duration::ZERO,
            corpus,
            sweep,
            exchange: None,
            weights: first_weights(),
            notes: BTreeSet::new(),
        }
    }

    /// An interrupted test, to be run again.
    pub(super) fn resume(&mut self) -> Option<(u64, Recipe)> {
        let (number, recipe) = self.suspended.pop_first()?;
        self.resumed.insert(number);
        Some((number, recipe))
    }

    /// Counts test `number` among the finished, after all it found is on disk.
    ///
    /// # Errors
    ///
    /// The work folder cannot be written.
    pub(super) fn finish(&mut self, number: u64, recipe: &Recipe) -> Result<()> {
        if let Some(index) = index_of(recipe) {
            self.store.finish_swept(index)?;
            self.sweep.finish(index);
            self.stats.sweep = self.sweep.progress();
        }
        self.store.finish(number)?;
        self.finished.add(number);
        if self.resumed.remove(&number) {
            self.store.forget(number)?;
        }
        Ok(())
    }

    /// The number of the next new test; `None` at `most`.
    pub(super) fn number(&mut self, most: Option<u64>) -> Option<u64> {
        let taken = |number| {
            self.finished.contains(number)
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

    /// Where novelty came from.
    pub(super) fn sources(&self) -> &NoveltySources {
        &self.sources
    }

    /// What variations are drawn by.
    pub(super) fn guidance(&self) -> Arc<Guidance> {
        Arc::clone(&self.guidance)
    }

    /// The next image of another instance, and the number of its test, where it is the turn of
    /// one and there are tests left.
    pub(super) fn next_import(&mut self, most: Option<u64>) -> Option<(u64, Import)> {
        let import = self.exchange.as_mut()?.next()?;
        let number = self.number(most);
        if let (None, Some(exchange)) = (number, &mut self.exchange) {
            exchange.put_back(import);
            return None;
        }
        Some((number?, import))
    }

    /// Takes in that an image of another instance was run, and whether it was kept. Gives
    /// whether more are wanted.
    pub(super) fn finish_import(&mut self, source: Source, kept: bool) -> bool {
        let Some(exchange) = &mut self.exchange else {
            return false;
        };
        let wanted = exchange.finish(source, kept);
        self.stats.fleet = Some(exchange.stats);
        wanted
    }

    /// Takes in the feedback of a test. Where a feature of it is new, `image` goes into the
    /// queue; whether it did.
    ///
    /// # Errors
    ///
    /// The work folder cannot be written.
    pub(super) fn learn(
        &mut self,
        number: u64,
        recipe: &Recipe,
        changes: &Changes,
        image: Option<&NamedFile>,
        outcome: &Outcome,
    ) -> Result<bool> {
        let new: Vec<u64> = outcome
            .features
            .iter()
            .copied()
            .filter(|feature| self.features.insert(*feature))
            .collect();
        let blocks = self.reached.add(&outcome.blocks);
        let counted = self.feedback.counted(blocks.len());
        let novelty = new.len() as u64 + block_novelty(counted);
        let gain = Gain {
            blocks: blocks.len(),
            messages: new.len(),
            novelty: if outcome.opened { novelty } else { novelty / 4 },
            cpu_seconds: outcome.cpu.as_secs_f64(),
        };
        self.sources.add(changes, gain);
        self.cpu += outcome.cpu;
        self.stats.messages = self.features.len();
        self.stats.add(recipe, outcome, novelty);
        self.pace.image();
        let mut kept = false;
        if novelty > 0 {
            if self.feedback != Feedback::Off {
                self.reweigh();
            }
            if let Some(image) = image {
                let (opened, cost) = (outcome.opened, self.cost(outcome));
                let entry = Added {
                    novelty,
                    opened,
                    cost,
                    blocks: &blocks,
                    features: &outcome.features,
                    exits: outcome.all_exit(),
                };
                let name = self.corpus.add(number, recipe, &entry);
                self.stats.queue = self.corpus.len();
                self.stats.scheduled = self.corpus.scheduled();
                self.store.enqueue(&name, recipe, image)?;
                kept = true;
                let totals = self.totals();
                if let Some(exchange) = &mut self.exchange {
                    let time_ms = (totals.seconds * 1000.0) as u64;
                    exchange.offer(&name, recipe, (time_ms, totals.commands));
                }
            }
        }
        // After the image, so that each known feature has an image in the queue.
        if !new.is_empty() {
            self.pace.message();
            self.store.log_features(&new)?;
        }
        self.log_blocks(number, &blocks)?;
        Ok(kept)
    }

    /// Takes in blocks that no test reached, but what was done besides tests. Those of programs
    /// that no test has run wait until one does: they are not what is tested.
    ///
    /// # Errors
    ///
    /// The work folder cannot be written.
    pub(super) fn add_blocks(&mut self, number: u64, blocks: &[BlockId]) -> Result<()> {
        self.waiting.extend_from_slice(blocks);
        let reached = &self.reached;
        let tested = self
            .waiting
            .extract_if(.., |block| reached.has_file(block.file));
        let tested: Vec<BlockId> = tested.collect();
        let new = self.reached.add(&tested);
        self.log_blocks(number, &new)
    }

    fn log_blocks(&mut self, number: u64, new: &[BlockId]) -> Result<()> {
        if new.is_empty() {
            return Ok(());
        }
        self.pace.block();
        self.stats.blocks = self.reached.len();
        let seconds = self.totals().seconds;
        let source = self.blocks.clone();
        let files = || source.map_or_else(Vec::new, |source| source.files());
        let lines = self.reached.lines(new, number, seconds, files);
        self.store.log_blocks(&lines)
    }

    /// A recipe to vary, for some of the tests once there are a few.
    pub(super) fn choose(&mut self, rng: &mut Rng) -> Option<Arc<Recipe>> {
        match self.feedback {
            Feedback::Off => None,
            Feedback::Messages | Feedback::Blocks => self.corpus.choose(rng, &self.reached),
        }
    }

    /// Takes in all the blocks of a test that is a sample.
    pub(super) fn sample(&mut self, blocks: &[BlockId]) {
        if self.feedback == Feedback::Blocks {
            self.take_common();
            self.reached.sample(blocks);
        }
    }

    /// Takes in which blocks are not noted in samples any more, since most runs reach them.
    fn take_common(&mut self) {
        let source = self.blocks.as_ref();
        let common = source.map_or_else(Vec::new, |source| source.take_common());
        self.reached.ignore(&common);
        self.corpus.ignore(&common);
    }

    /// How long a worker takes no sample that has taken one, as a multiple of that.
    pub(super) fn sample_pause(&mut self) -> u32 {
        self.samples += 1;
        match self.samples {
            0..=FIRST_SAMPLES => FIRST_PAUSE,
            _ => SAMPLE_PAUSE,
        }
    }

    /// A recipe of the queue all of whose blocks are to be noted next, and its number there.
    pub(super) fn next_untraced(&mut self) -> Option<(usize, Arc<Recipe>)> {
        match self.feedback {
            Feedback::Blocks => self.corpus.next_untraced(),
            Feedback::Messages | Feedback::Off => None,
        }
    }

    /// Takes in all the blocks that a recipe of the queue reaches. Now and then those recipes
    /// are set aside that reach nothing which others do not.
    ///
    /// # Errors
    ///
    /// The work folder cannot be written.
    pub(super) fn traced(&mut self, index: usize, blocks: &[BlockId]) -> Result<()> {
        self.take_common();
        if let Some(line) = self.corpus.traced(index, blocks) {
            self.store.log(REACH, &line)?;
        }
        if let Some(minimised) = self.corpus.minimise() {
            self.store.set_aside(&self.corpus.set_aside())?;
            self.store.log("run.log", &minimised.to_string())?;
            self.stats.scheduled = self.corpus.scheduled();
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
        self.guidance = Arc::new(self.sources.guidance(self.weights.clone()));
    }

    /// The CPU time of a test as a multiple of the mean, rounded down to a power of two, so
    /// that the variance of one run does not matter.
    fn cost(&self, outcome: &Outcome) -> u64 {
        let mean = self.cpu.as_nanos() / u128::from(self.stats.images.max(1));
        let times = outcome.cpu.as_nanos() / mean.max(1);
        u64::try_from(times.max(1)).map_or(1, |times| 1 << times.ilog2())
    }

    /// Logs a note of the executors once: each worker has the same.
    ///
    /// # Errors
    ///
    /// The log cannot be written.
    pub(super) fn note(&mut self, note: &str) -> Result<()> {
        if self.notes.insert(note.to_owned()) {
            self.store.log("run.log", &format!("note: {note}"))?;
        }
        Ok(())
    }

    /// Keeps a test that may hang until there is time for it, unless enough of its kind wait.
    ///
    /// # Errors
    ///
    /// The work folder cannot be written.
    pub(super) fn park(&mut self, parked: Parked) -> Result<()> {
        let Parked { number, .. } = parked;
        let text = parked.recipe.to_json()?;
        if self.tasks.park(parked) {
            self.store.park(number, &text)?;
            self.stats.suspected = self.tasks.parked();
        }
        Ok(())
    }

    /// Forgets a parked test that was run again.
    ///
    /// # Errors
    ///
    /// The work folder cannot be written.
    pub(super) fn unpark(&self, number: u64) -> Result<()> {
        self.store.unpark(number)
    }

    /// What this and earlier runs come to.
    pub(super) fn totals(&self) -> Totals {
        self.earlier.with(&self.stats, &self.pace)
    }

    /// Stores what this and earlier runs come to, for the run after a kill.
    ///
    /// # Errors
    ///
    /// The work folder cannot be written.
    pub(super) fn store_totals(&self) -> Result<()> {
        self.totals().store(self.store.root())
    }

    /// Appends to the log of statistics.
    ///
    /// # Errors
    ///
    /// The log cannot be written.
    pub(super) fn log_stats(&self, started: Instant) -> Result<()> {
        let mut line = serde_json::to_value(&self.stats)?;
        let totals = self.totals();
        totals.store(self.store.root())?;
        self.sources.store(self.store.root())?;
        let total = serde_json::to_value(totals)?;
        let seconds = started.elapsed().as_secs_f64();
        if let Some(fields) = line.as_object_mut() {
            fields.insert("total".into(), total);
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
        self.store.log(STATS, &line.to_string())
    }

    /// Writes what AFL++'s tools read.
    ///
    /// # Errors
    ///
    /// The work folder cannot be written.
    pub(super) fn write_afl_stats(
        &self,
        rate: f64,
        timeout: Duration,
        command_line: &str,
    ) -> Result<()> {
        let hangs = self.findings.classes().into_iter();
        let (hangs, crashes): (Vec<_>, Vec<_>) = hangs.partition(|(class, _)| class.is_of_time());
        let count = |groups: Vec<(Class, usize)>| groups.iter().map(|(_, count)| count).sum();
        let values = Values {
            totals: &self.totals(),
            now: unix_time(),
            queue: self.stats.queue,
            imported: self.exchange.as_ref().map_or(0, |it| it.stats.kept),
            edges: match self.stats.blocks {
                0 => self.stats.messages,
                blocks => blocks,
            },
            crashes: count(crashes),
            hangs: count(hangs),
            rate,
            timeout_ms: timeout.as_millis(),
            command_line,
        };
        let root = self.store.root();
        write_whole(&root.join(FUZZER_STATS), fuzzer_stats(&values).as_bytes())?;
        if !root.join(PLOT_DATA).exists() {
            self.store.log(PLOT_DATA, PLOT_HEADER)?;
        }
        self.store.log(PLOT_DATA, &plot_line(&values))
    }
}
