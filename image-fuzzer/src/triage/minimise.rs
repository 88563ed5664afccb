//! Making an example small: fewer commands, fewer edits, a simpler base image,
//! simpler values, fewer bytes; after each step the group must be the same.

use std::time::{Duration, Instant};

use image_formats::qcow2::{Compression, Image, Placement, Spec};

use super::Key;
use crate::base::Base;
use crate::case::Maker;
use crate::commands::Command;
use crate::oracle::Class;
use crate::recipe::{Edit, Number, Recipe};
use crate::trial::{Bench, HASTE, Outcome};

/// Carries out a recipe and says which groups it falls into.
pub trait Judge {
    /// The groups of the faults that `recipe` shows; none where it cannot be made.
    fn groups(&mut self, recipe: &Recipe) -> Vec<Key>;

    /// The base image of `recipe`, for the values its fields had.
    fn base(&mut self, recipe: &Recipe) -> Option<Image>;

    /// Whether to stop for now: time is over or the user wants the machine back.
    fn is_over(&self) -> bool {
        false
    }

    /// Whether the end of time cut the last recipe short, so that it says nothing.
    fn is_cut(&self) -> bool {
        false
    }
}

/// How often an example is tried that does not show its fault again: what depends on where
/// the kernel puts a program in memory shows now and then.
const AGAIN: usize = 4;

/// A bench that judges.
pub struct Judging<'a> {
    /// Where programs run.
    pub bench: &'a mut Bench,
    /// Where images are made.
    pub maker: &'a mut Maker,
    /// Says when to stop before the budget is spent.
    pub stop: &'a dyn Fn() -> bool,
}

impl Judging<'_> {
    /// What comes of `recipe`, and its groups, named in full; none where it cannot
    /// be made.
    fn full(&mut self, recipe: &Recipe) -> (Vec<Key>, Option<Outcome>) {
        let Ok(files) = self.maker.files(recipe) else {
            return (Vec::new(), None);
        };
        let Ok(outcome) = self.bench.run(recipe, &files) else {
            return (Vec::new(), None);
        };
        let keys = super::name(self.bench, recipe, &files, &outcome);
        (keys.unwrap_or_default(), Some(outcome))
    }

    /// Works on `task` until it is done or it is time to stop, and gives the smallest
    /// recipe of the group that is known by then.
    ///
    /// The many variations are told apart roughly and in a short time; the result
    /// is judged in full once more, and given up where it is of another group.
    pub fn advance(&mut self, task: &mut Task) -> Smallest {
        if task.phase == Phase::Confirm && !self.confirm(task) {
            // A hang takes longer than a slice, and was tried to its end nevertheless.
            let tried = is_of_time(&task.key) && !self.is_cut();
            let done = tried || !self.is_over();
            return task.smallest(None, done);
        }
        while let Phase::Roughly | Phase::Patiently = task.phase {
            let limit = self.bench.settings().limits.wall;
            let patient = task.phase == Phase::Patiently;
            self.bench
                .set_haste(Some(if patient { limit } else { HASTE }));
            task.best = task.attempt(self, super::coarse_of);
            self.bench.set_haste(None);
            let stopped = self.is_over();
            // To find out that a hang still is one takes longer than there is.
            if task.best == task.sure || stopped && is_of_time(&task.key) {
                return task.smallest(None, !stopped);
            }
            let (keys, outcome) = self.full(&task.best);
            if task.key.is_among(&keys) {
                task.sure = task.best.clone();
                task.outcome = outcome;
                task.confirmed = true;
                return task.smallest(None, !stopped);
            }
            if stopped || self.is_cut() {
                return task.smallest(None, false);
            }
            task.best = task.sure.clone();
            task.budget.tests = task.budget.tests.max(16) / 2;
            task.budget.time += task.more;
            task.phase = match task.phase {
                Phase::Roughly if is_of_time(&task.key) => Phase::Patiently,
                Phase::Roughly => Phase::Thoroughly,
                // What only is slow is not told from what hangs: the example stays as it was.
                _ => return task.smallest(None, true),
            };
        }
        task.best = task.attempt(&mut Thorough(self), Key::clone);
        task.sure = task.best.clone();
        let done = !self.is_over();
        let outcome = done.then(|| self.full(&task.best).1).flatten();
        task.outcome.clone_from(&outcome);
        task.smallest(outcome, done)
    }

    /// Carries the example out as it was found; whether the fault shows again.
    fn confirm(&mut self, task: &mut Task) -> bool {
        let again = if is_of_time(&task.key) {
            let (keys, outcome) = self.full(&task.sure);
            task.outcome = outcome.filter(|_| !self.is_cut());
            keys.into_iter().find(|seen| task.key.covers(seen))
        } else {
            self.again(&task.key, &task.sure)
        };
        if again.as_ref().is_some_and(|again| task.key.covers(again)) {
            task.confirm(10);
        }
        task.confirmed
    }

    /// The group of the fault when `recipe`, an example of the group `key`, is carried out
    /// again: that one or, where it says no more than that there was a signal, the one
    /// that the stack tells this time. `None` where the fault does not show in a few runs,
    /// or time is over.
    pub fn again(&mut self, key: &Key, recipe: &Recipe) -> Option<Key> {
        let tries = if is_of_time(key) { 1 } else { AGAIN };
        (0..tries).find_map(|_| {
            if self.is_over() {
                return None;
            }
            let keys = self.full(recipe).0;
            let same = |seen: &&Key| key.covers(seen) || super::coarse_of(seen) == *key;
            keys.iter().find(same).cloned()
        })
    }

    /// In how many of ten runs `recipe` shows its fault, the group `key`; ten without trying
    /// for classes that chance has no part in, or that take long.
    pub fn of_ten(&mut self, key: &Key, recipe: &Recipe) -> u8 {
        if !matches!(key.class, Class::Crash | Class::Sanitizer) {
            return 10;
        }
        let key = super::coarse_of(key);
        let shown = (0..10).filter(|_| !self.is_over() && key.is_among(&self.groups(recipe)));
        u8::try_from(shown.count()).unwrap_or(10)
    }
}

/// An example on its way to be made small, which can be left and taken up again.
#[derive(Clone, Debug)]
pub struct Task {
    /// The group.
    pub key: Key,
    /// The smallest recipe that was judged in full, at first the one that was found.
    sure: Recipe,
    /// The smallest recipe so far.
    best: Recipe,
    phase: Phase,
    /// What came of the recipe in `sure` when it was last carried out in full.
    outcome: Option<Outcome>,
    /// Whether the fault showed a second time.
    confirmed: bool,
    /// In how many of ten runs the example showed it that was found.
    of_ten: u8,
    /// What may still be spent.
    budget: Budget,
    /// The time to be had besides where a first attempt led astray.
    more: Duration,
}

/// Whether the fault is one of time.
pub fn is_of_time(key: &Key) -> bool {
    matches!(key.class, Class::Hang | Class::Slow)
}

/// How far a task has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It is to be seen whether the fault shows again.
    Confirm,
    /// Variations are told apart by what is quickly seen.
    Roughly,
    /// That led astray with a hang: what only is slow is given the time to end.
    Patiently,
    /// That led astray: they are judged in full.
    Thoroughly,
}

impl Task {
    /// A task for `recipe`, an example of the group `key`.
    pub fn new(key: Key, recipe: Recipe, budget: Budget) -> Self {
        Self {
            key,
            best: recipe.clone(),
            sure: recipe,
            phase: Phase::Confirm,
            outcome: None,
            confirmed: false,
            of_ten: 10,
            more: budget.time / 2,
            budget,
        }
    }

    /// Notes what came of the example when it was carried out in full, so that it need not be
    /// once more.
    pub fn set_outcome(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// Notes that the fault showed a second time, and in how many of ten runs it does.
    pub fn confirm(&mut self, of_ten: u8) {
        self.confirmed = true;
        self.of_ten = of_ten;
        self.phase = Phase::Roughly;
    }

    /// In how many of ten runs the example showed the fault that was found.
    pub fn of_ten(&self) -> u8 {
        self.of_ten
    }

    /// Makes the best recipe smaller as long as there is time, at the budget's expense.
    fn attempt(&mut self, judge: &mut dyn Judge, key: impl Fn(&Key) -> Key) -> Recipe {
        let began = Instant::now();
        let (best, tests) = minimise(&self.best, &key(&self.key), judge, self.budget);
        self.budget.tests = tests;
        self.budget.time = self.budget.time.saturating_sub(began.elapsed());
        best
    }

    /// What is known so far.
    fn smallest(&self, outcome: Option<Outcome>, done: bool) -> Smallest {
        Smallest {
            recipe: self.sure.clone(),
            outcome: outcome.or_else(|| self.outcome.clone()),
            confirmed: self.confirmed,
            done,
        }
    }
}

/// What minimising came to.
#[derive(Debug)]
pub struct Smallest {
    /// The smallest recipe.
    pub recipe: Recipe,
    /// What came of it when it was last carried out in full.
    pub outcome: Option<Outcome>,
    /// Whether the fault showed a second time.
    pub confirmed: bool,
    /// Whether the search came to its end; else it is worth going on.
    pub done: bool,
}

/// Judges in full, which takes a debugger's time for each crash.
struct Thorough<'a, 'b>(&'a mut Judging<'b>);

impl Judge for Thorough<'_, '_> {
    fn groups(&mut self, recipe: &Recipe) -> Vec<Key> {
        self.0.full(recipe).0
    }

    fn base(&mut self, recipe: &Recipe) -> Option<Image> {
        self.0.base(recipe)
    }

    fn is_over(&self) -> bool {
        self.0.is_over()
    }

    fn is_cut(&self) -> bool {
        self.0.is_cut()
    }
}

impl Judge for Judging<'_> {
    fn groups(&mut self, recipe: &Recipe) -> Vec<Key> {
        let Ok(files) = self.maker.files(recipe) else {
            return Vec::new();
        };
        let outcome = self.bench.run(recipe, &files);
        outcome.map_or_else(|_| Vec::new(), |outcome| super::coarse(&outcome))
    }

    fn base(&mut self, recipe: &Recipe) -> Option<Image> {
        let prepared = self.maker.prepared(&recipe.base).ok()?;
        Some(prepared.image.clone())
    }

    fn is_over(&self) -> bool {
        (self.stop)()
    }

    fn is_cut(&self) -> bool {
        self.bench.is_cut()
    }
}

/// How long minimising may take.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// The most tests.
    pub tests: u32,
    /// The most time.
    pub time: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            tests: 400,
            time: Duration::from_secs(40),
        }
    }
}

/// A smaller recipe of the same group, and how many tests of the budget are left.
pub fn minimise(
    recipe: &Recipe,
    key: &Key,
    judge: &mut dyn Judge,
    budget: Budget,
) -> (Recipe, u32) {
    let mut work = Work {
        best: recipe.clone(),
        key,
        judge,
        tests: budget.tests,
        end: Instant::now() + budget.time,
    };
    loop {
        let before = work.best.clone();
        work.commands();
        work.edits();
        work.base();
        work.values();
        if work.best == before || work.spent() {
            return (work.best, work.tests);
        }
    }
}

struct Work<'a> {
    best: Recipe,
    key: &'a Key,
    judge: &'a mut dyn Judge,
    tests: u32,
    end: Instant,
}

impl Work<'_> {
    fn spent(&self) -> bool {
        self.tests == 0 || Instant::now() >= self.end || self.judge.is_over()
    }

    /// Takes `candidate` for the best where it is another recipe of the group.
    fn attempt(&mut self, candidate: Recipe) -> bool {
        if self.spent() || candidate == self.best {
            return false;
        }
        self.tests -= 1;
        let same = self.key.is_among(&self.judge.groups(&candidate));
        let same = same && !self.judge.is_cut();
        if same {
            self.best = candidate;
        }
        same
    }

    /// Tries a change to the best recipe.
    fn change(&mut self, change: impl FnOnce(&mut Recipe)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        self.attempt(candidate)
    }

    /// Drops what can be dropped of a list, larger pieces first.
    fn thin<T>(&mut self, list: impl Fn(&mut Recipe) -> &mut Vec<T>, least: usize) {
        let mut piece = list(&mut self.best).len().div_ceil(2);
        while piece > 0 {
            let mut at = 0;
            while at < list(&mut self.best).len() {
                let len = list(&mut self.best).len();
                let end = (at + piece).min(len);
                let enough = len - (end - at) >= least;
                let dropped = enough && self.change(|recipe| drop(list(recipe).drain(at..end)));
                if !dropped {
                    at = end;
                }
            }
            piece /= 2;
        }
    }

    fn commands(&mut self) {
        self.thin(|recipe| &mut recipe.commands, 1);
        for index in 0..self.best.commands.len() {
            self.script(index);
        }
    }

    /// Drops operations of a `qemu-io` script, and options of any command.
    fn script(&mut self, index: usize) {
        let mut at = 1;
        while at < self.best.commands[index].0.len() {
            let Command(words) = &self.best.commands[index];
            let pair = ["-c", "-o", "-d", "-f", "-g", "-l"].contains(&words[at].as_str());
            let scripts = words.iter().filter(|word| *word == "-c").count();
            let script = words[0] == "qemu-io" && words[at] == "-c";
            let option = words[at].starts_with('-') && words[at] != "-r";
            let end = (at + if pair { 2 } else { 1 }).min(words.len());
            let able = option && words[end - 1] != "$test_img" && (!script || scripts > 1);
            let removed =
                able && self.change(|recipe| drop(recipe.commands[index].0.drain(at..end)));
            if !removed {
                at = end;
            }
        }
    }

    fn edits(&mut self) {
        self.thin(|recipe| &mut recipe.edits, 0);
        for index in 0..self.best.edits.len() {
            if let Edit::Extensions { list } = &self.best.edits[index].edit {
                for at in (0..list.len()).rev() {
                    self.change(|recipe| {
                        if let Edit::Extensions { list } = &mut recipe.edits[index].edit {
                            list.remove(at);
                        }
                    });
                }
            }
        }
    }

    fn base(&mut self) {
        self.change(|recipe| recipe.base.image.bitmaps.clear());
        self.change(|recipe| recipe.base.image.snapshots.clear());
        self.thin(|recipe| &mut recipe.base.image.snapshots, 0);
        self.thin(|recipe| &mut recipe.base.image.bitmaps, 0);
        self.thin(|recipe| &mut recipe.base.image.clusters, 0);
        self.change(|recipe| {
            recipe.base.backing = None;
            recipe.base.image.backing = None;
        });
        for simplify in SIMPLER {
            self.change(|recipe| simplify(&mut recipe.base));
        }
    }

    fn values(&mut self) {
        let Some(image) = self.judge.base(&self.best) else {
            return;
        };
        for index in 0..self.best.edits.len() {
            match self.best.edits[index].edit.clone() {
                Edit::Set { path, value } => {
                    let before = image.get_uint(&path).unwrap_or(0);
                    self.number(index, before, value.0);
                }
                Edit::Bytes { at, bytes } => self.bytes(index, at.0, bytes.0.len(), &image),
                _ => {}
            }
        }
    }

    /// A simpler number in edit `index`: a plain small one, else the old one with
    /// as few bytes changed as will do.
    fn number(&mut self, index: usize, before: u64, value: u64) {
        let put = |recipe: &mut Recipe, number: u64| {
            if let Edit::Set { value, .. } = &mut recipe.edits[index].edit {
                *value = Number(number);
            }
        };
        for simple in [0, 1, before.wrapping_add(1), before.wrapping_add(512)] {
            if simple == value {
                return;
            }
            if simple != before && self.change(|recipe| put(recipe, simple)) {
                return;
            }
        }
        let mut number = value;
        for byte in 0..8 {
            let mask = 0xff_u64 << (byte * 8);
            for plain in [before & mask, 0] {
                let candidate = number & !mask | plain;
                if candidate != number
                    && candidate != before
                    && self.change(|recipe| put(recipe, candidate))
                {
                    number = candidate;
                    break;
                }
            }
        }
    }

    /// Fewer bytes in edit `index`: ends cut off, the rest put back one by one.
    fn bytes(&mut self, index: usize, at: u64, len: usize, image: &Image) {
        let mut old = vec![0; len.min(1 << 16)];
        image.bytes().read(at, &mut old);
        let mut piece = old.len().div_ceil(2);
        while piece > 0 {
            for start in (0..old.len()).step_by(piece) {
                let end = (start + piece).min(old.len());
                self.change(|recipe| {
                    if let Edit::Bytes { bytes, .. } = &mut recipe.edits[index].edit {
                        bytes.0[start..end].copy_from_slice(&old[start..end]);
                    }
                });
            }
            piece /= 2;
        }
        self.change(|recipe| {
            if let Edit::Bytes { at, bytes } = &mut recipe.edits[index].edit {
                let same = |(byte, old): &(&u8, &u8)| byte == old;
                let front = bytes.0.iter().zip(&old).take_while(same).count();
                let back = bytes
                    .0
                    .iter()
                    .rev()
                    .zip(old.iter().rev())
                    .take_while(same)
                    .count();
                let end = bytes.0.len().saturating_sub(back).max(front);
                bytes.0 = bytes.0[front..end].to_vec();
                at.0 += front as u64;
            }
        });
    }
}

/// Ways to make a base image simpler.
const SIMPLER: [fn(&mut Base); 14] = [
    |base| base.image.placement = Placement::default(),
    |base| base.image.extensions.clear(),
    |base| base.image.feature_names = false,
    |base| base.image.lazy_refcounts = false,
    |base| base.image.extra_l1_entries = 0,
    |base| base.image.data_file = None,
    |base| base.image.compression = Compression::Deflate,
    |base| base.image.refcount_order = 4,
    |base| base.image.extended_l2 = false,
    |base| base.image.header_length = Spec::default().header_length,
    |base| base.image.version = 3,
    |base| base.image.cluster_bits = 16,
    |base| base.image.virtual_size = 1 << 20,
    |base| {
        for snapshot in &mut base.image.snapshots {
            snapshot.clusters = None;
            snapshot.vm_state.clear();
            snapshot.icount = None;
        }
    },
];
