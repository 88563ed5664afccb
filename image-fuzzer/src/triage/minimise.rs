//! Making an example small, in steps that can be left and taken up again: it is confirmed,
//! reduced while its variations are told apart coarsely and in a short time, and judged in
//! full; where that was too coarse, it is reduced again more carefully.

use std::time::{Duration, Instant};

use super::Key;
use super::judge::Judge;
pub use super::reduce::Budget;
use super::reduce::{Precision, reduce};
use crate::input::recipe::Recipe;
use crate::oracle::runner::Outcome;
use crate::oracle::timeout::TimeoutPolicy;

/// An example on its way to be made small.
#[derive(Clone, Debug)]
pub struct Task {
    /// The group.
    pub key: Key,
    /// The smallest recipe that was judged in full, at first the one that was found.
    sure: Recipe,
    /// The smallest recipe so far.
    best: Recipe,
    phase: Phase,
    /// What came of the recipe in `sure` when it was last run in full.
    outcome: Option<Outcome>,
    /// Whether the finding was reproduced.
    confirmed: bool,
    /// In how many of ten runs the example that was found showed it.
    hits_in_10: u8,
    /// What may still be spent.
    budget: Budget,
    /// The time to be had besides where a first attempt was too coarse.
    more: Duration,
}

/// How far a task has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It is to be seen whether the finding shows again.
    Confirm,
    /// Variations are told apart under [`TimeoutPolicy::Short`].
    ShortTimeout,
    /// That was too coarse for a hang: they are given the time that separates it from what is
    /// slow, [`TimeoutPolicy::Once`].
    FullTimeout,
    /// That was too coarse: they are judged in full.
    Full,
}

/// What minimising came to.
#[derive(Debug)]
pub struct Smallest {
    /// The smallest recipe.
    pub recipe: Recipe,
    /// What came of it when it was last run in full.
    pub outcome: Option<Outcome>,
    /// Whether the finding was reproduced.
    pub confirmed: bool,
    /// Whether the search came to its end; else it is worth going on.
    pub done: bool,
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
            hits_in_10: 10,
            more: budget.time / 2,
            budget,
        }
    }

    /// Notes what came of the example when it was run in full, so that it need not be once
    /// more.
    pub fn set_outcome(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// Notes that the finding was reproduced, and in how many of ten runs it shows.
    pub fn confirm(&mut self, hits_in_10: u8) {
        self.confirmed = true;
        self.hits_in_10 = hits_in_10;
        self.phase = Phase::ShortTimeout;
    }

    /// In how many of ten runs the example that was found showed its finding.
    pub fn hits_in_10(&self) -> u8 {
        self.hits_in_10
    }

    /// Works until it is done or it is time to stop, and gives the smallest recipe of the
    /// group that is known by then.
    pub fn advance(&mut self, judge: &mut dyn Judge) -> Smallest {
        let done = loop {
            let done = match self.phase {
                Phase::Confirm => self.reproduce(judge),
                Phase::ShortTimeout => self.reduce_coarsely(judge, TimeoutPolicy::Short),
                Phase::FullTimeout => self.reduce_coarsely(judge, TimeoutPolicy::Once),
                Phase::Full => Some(self.reduce_in_full(judge)),
            };
            if let Some(done) = done {
                break done;
            }
        };
        Smallest {
            recipe: self.sure.clone(),
            outcome: self.outcome.clone(),
            confirmed: self.confirmed,
            done,
        }
    }

    /// Runs the example as it was found. `None` where the finding shows again; else whether
    /// the task is done.
    fn reproduce(&mut self, judge: &mut dyn Judge) -> Option<bool> {
        let of_time = self.key.is_of_time();
        let again = if of_time {
            let (keys, outcome) = judge.full_keys(&self.sure);
            self.outcome = outcome.filter(|_| !judge.is_aborted());
            keys.into_iter().find(|seen| self.key.covers(seen))
        } else {
            judge.again(&self.key, &self.sure)
        };
        if again.is_some_and(|again| self.key.covers(&again)) {
            self.confirm(10);
            return None;
        }
        // A hang takes longer than a slice, and was run to its end nevertheless.
        let tried = of_time && !judge.is_aborted();
        Some(tried || !judge.is_over())
    }

    /// Reduces the example by variations that are told apart coarsely, and judges the result
    /// in full; it is given up where it is of another group. `None` where the next phase is
    /// to go on; else whether the task is done.
    fn reduce_coarsely(&mut self, judge: &mut dyn Judge, policy: TimeoutPolicy) -> Option<bool> {
        self.reduce(judge, Precision::Coarse(policy));
        let stopped = judge.is_over();
        // To find out that a hang still is one takes longer than there is.
        if self.best == self.sure || stopped && self.key.is_of_time() {
            return Some(!stopped);
        }
        let (keys, outcome) = judge.full_keys(&self.best);
        if self.key.is_among(&keys) {
            self.sure = self.best.clone();
            self.outcome = outcome;
            self.confirmed = true;
            return Some(!stopped);
        }
        if stopped || judge.is_aborted() {
            return Some(false);
        }
        self.best = self.sure.clone();
        self.budget.tests = self.budget.tests.max(16) / 2;
        self.budget.time += self.more;
        if !self.key.is_of_time() {
            self.phase = Phase::Full;
        } else if self.phase == Phase::ShortTimeout {
            self.phase = Phase::FullTimeout;
        } else {
            // What is slow is not told from what hangs: the example stays as it was.
            return Some(true);
        }
        None
    }

    /// Reduces the example by variations that are judged in full; whether the task is done.
    fn reduce_in_full(&mut self, judge: &mut dyn Judge) -> bool {
        self.reduce(judge, Precision::Full);
        self.sure = self.best.clone();
        let done = !judge.is_over();
        let outcome = done.then(|| judge.full_keys(&self.best).1);
        self.outcome = outcome.flatten();
        done
    }

    /// Makes the best recipe smaller as long as there is time, at the budget's expense.
    fn reduce(&mut self, judge: &mut dyn Judge, precision: Precision) {
        let began = Instant::now();
        let (best, tests) = reduce(&self.best, &self.key, judge, precision, self.budget);
        self.best = best;
        self.budget.tests = tests;
        self.budget.time = self.budget.time.saturating_sub(began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use image_formats::AnyImage;
    use image_formats::qcow2::Spec;

    use super::*;
    use crate::commands::Command;
    use crate::input::recipe::FUZZER;
    use crate::oracle::Class;
    use image_mutations::base::{Base, Qcow2Base};
    use image_mutations::edit::{Edit, Mutation, Number};

    /// Judges by functions of the recipe, and notes how it was asked.
    struct Fake<C, F> {
        coarse: C,
        full: F,
        policies: Vec<TimeoutPolicy>,
        /// After how many recipes time is over.
        most: usize,
        runs: usize,
    }

    impl<C: Fn(&Recipe, TimeoutPolicy) -> Key, F: Fn(&Recipe) -> Key> Judge for Fake<C, F> {
        fn coarse_keys(&mut self, recipe: &Recipe, policy: TimeoutPolicy) -> Vec<Key> {
            self.runs += 1;
            if self.policies.last() != Some(&policy) {
                self.policies.push(policy);
            }
            vec![(self.coarse)(recipe, policy)]
        }

        fn full_keys(&mut self, recipe: &Recipe) -> (Vec<Key>, Option<Outcome>) {
            self.runs += 1;
            (vec![(self.full)(recipe)], Some(Outcome::default()))
        }

        fn base(&mut self, _: &Recipe) -> Option<AnyImage> {
            None
        }

        fn is_over(&self) -> bool {
            self.runs >= self.most
        }

        fn is_aborted(&self) -> bool {
            false
        }
    }

    fn judge<C, F>(coarse: C, full: F) -> Fake<C, F>
    where
        C: Fn(&Recipe, TimeoutPolicy) -> Key,
        F: Fn(&Recipe) -> Key,
    {
        Fake {
            coarse,
            full,
            policies: Vec::new(),
            most: usize::MAX,
            runs: 0,
        }
    }

    /// A recipe with the edits `field.0` to `field.7`.
    fn recipe() -> Recipe {
        let edit = |number| Mutation {
            family: "test".into(),
            edit: Edit::Set {
                path: format!("field.{number}"),
                value: Number(1),
            },
        };
        Recipe {
            fuzzer: FUZZER.into(),
            seed: "fake".into(),
            base: Base::Qcow2(Qcow2Base {
                image: Spec::default(),
                backing: None,
            }),
            edits: (0..8).map(edit).collect(),
            commands: [["true", "$test_img"], ["false", "$test_img"]]
                .map(Command::new)
                .into(),
            fresh_copies: true,
            guard: None,
        }
    }

    /// Whether a recipe has the edit of a field.
    fn has(recipe: &Recipe, field: &str) -> bool {
        let is = |edit: &Edit| matches!(edit, Edit::Set { path, .. } if path == field);
        recipe.edits.iter().any(|mutation| is(&mutation.edit))
    }

    fn key(class: Class, signature: &str) -> Key {
        Key::new(class, signature)
    }

    fn task(key: &Key) -> Task {
        let budget = Budget {
            tests: 200,
            time: Duration::from_secs(600),
        };
        Task::new(key.clone(), recipe(), budget)
    }

    #[test]
    fn a_crash_is_left_with_what_causes_it() {
        let wanted = key(Class::Crash, "SIGSEGV in a < b");
        let other = key(Class::Crash, "SIGABRT");
        let causes = |recipe: &Recipe| has(recipe, "field.5");
        let of = |recipe: &Recipe, key: Key| if causes(recipe) { key } else { other.clone() };
        let mut judge = judge(
            |recipe, _| of(recipe, key(Class::Crash, "SIGSEGV")),
            |recipe| of(recipe, wanted.clone()),
        );
        let smallest = task(&wanted).advance(&mut judge);
        assert!(smallest.confirmed && smallest.done && smallest.outcome.is_some());
        assert_eq!(smallest.recipe.edits.len(), 1);
        assert!(has(&smallest.recipe, "field.5"));
        assert_eq!(smallest.recipe.commands.len(), 1);
        assert_eq!(judge.policies, [TimeoutPolicy::Short]);
    }

    /// Without a debugger both crashes look the same.
    #[test]
    fn a_crash_elsewhere_is_told_by_its_stack() {
        let wanted = key(Class::Crash, "SIGSEGV in a < b");
        let mut judge = judge(
            |_, _| key(Class::Crash, "SIGSEGV"),
            |recipe| match has(recipe, "field.5") {
                true => wanted.clone(),
                false => key(Class::Crash, "SIGSEGV in c < d"),
            },
        );
        let smallest = task(&wanted).advance(&mut judge);
        assert!(smallest.confirmed && smallest.done);
        assert_eq!(smallest.recipe.edits.len(), 1);
        assert!(has(&smallest.recipe, "field.5"));
    }

    /// In a short time what is slow looks like what hangs.
    #[test]
    fn a_hang_is_told_from_what_is_slow_by_more_time() {
        let wanted = key(Class::Hang, "hung in a < b");
        let coarse = key(Class::Hang, "true");
        let mut judge = judge(
            |recipe, policy| match policy == TimeoutPolicy::Short || has(recipe, "field.2") {
                true => coarse.clone(),
                false => key(Class::ResourceUse, "memory true"),
            },
            |recipe| match has(recipe, "field.2") {
                true => wanted.clone(),
                false => key(Class::Slow, "true"),
            },
        );
        let smallest = task(&wanted).advance(&mut judge);
        assert!(smallest.confirmed && smallest.done);
        assert_eq!(smallest.recipe.edits.len(), 1);
        assert!(has(&smallest.recipe, "field.2"));
        assert_eq!(judge.policies, [TimeoutPolicy::Short, TimeoutPolicy::Once]);
    }

    #[test]
    fn what_does_not_show_again_is_left_as_it_was() {
        let other = || key(Class::Crash, "SIGABRT");
        let mut judge = judge(|_, _| other(), |_| other());
        let smallest = task(&key(Class::Crash, "SIGSEGV in a < b")).advance(&mut judge);
        assert!(!smallest.confirmed && smallest.done);
        assert_eq!(smallest.recipe, recipe());
        assert_eq!(judge.policies, []);
    }

    #[test]
    fn a_task_is_taken_up_where_it_was_left() {
        let wanted = key(Class::Crash, "a.c: f: x < y");
        let of = |recipe: &Recipe| match has(recipe, "field.7") {
            true => wanted.clone(),
            false => key(Class::Crash, "SIGABRT"),
        };
        let mut judge = judge(|recipe, _| of(recipe), of);
        let mut task = task(&wanted);
        let mut slices = 1;
        judge.most = 4;
        let smallest = loop {
            let smallest = task.advance(&mut judge);
            if smallest.done {
                break smallest;
            }
            assert!(has(&smallest.recipe, "field.7"));
            slices += 1;
            judge.most = judge.runs + 4;
        };
        assert!(slices > 2, "{slices}");
        assert!(smallest.confirmed);
        assert_eq!(smallest.recipe.edits.len(), 1);
    }
}
