//! What waits until there is time for it, examples to be minimised and suspected hangs to be
//! confirmed, and how much of the workers' time goes into that.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::finding::Example;
use crate::input::recipe::Recipe;
use crate::oracle::runner::Suspect;
use crate::triage::Key;
use crate::triage::minimise::{Budget, Task};

/// How long a worker minimises one example before it goes on with tests or another one.
pub(super) const SLICE: Duration = Duration::from_secs(3);

/// The share of the workers' time, one in so many, that goes into this as long as there are
/// tests to run.
const SHARE: u32 = 6;

/// How many times the time limit of a command a suspected hang takes at most: it is run for
/// that long, and then for six times as long.
const HANG_FACTOR: u32 = 7;

/// How many suspected hangs wait at most: those that are found meanwhile are most often the
/// same.
const MOST_PARKED: usize = 16;

/// How many of the same place or command wait at most.
const MOST_ALIKE: usize = 2;

/// A test with a command that may hang.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parked {
    /// The number of the test.
    pub(super) number: u64,
    pub(super) recipe: Recipe,
    /// The command that may hang; `None` for a test of an earlier run.
    pub(super) suspect: Option<Suspect>,
}

/// Something that is to be worked on.
#[derive(Debug)]
pub(super) enum Work {
    /// An example is to be minimised.
    Minimise(Box<Task>),
    /// A test is to be run again, for longer.
    Confirm(Box<Parked>),
}

/// What waits until there is time for it.
#[derive(Debug)]
pub(super) struct TaskQueue {
    examples: VecDeque<Task>,
    parked: VecDeque<Parked>,
    /// Whether the next is an example where both wait.
    examples_turn: bool,
    /// What those that are being worked on may take.
    reserved: Duration,
    /// Time that workers have spent.
    spent: Duration,
    began: Instant,
    workers: u32,
    /// The time limit of commands.
    limit: Duration,
    budget: Budget,
}

impl TaskQueue {
    /// An empty queue for so many workers, each command having the time `limit`, and each
    /// example this budget.
    pub(super) fn new(workers: usize, limit: Duration, budget: Budget) -> Self {
        Self {
            examples: VecDeque::new(),
            parked: VecDeque::new(),
            examples_turn: true,
            reserved: Duration::ZERO,
            spent: Duration::ZERO,
            began: Instant::now(),
            workers: u32::try_from(workers).unwrap_or(u32::MAX),
            limit,
            budget,
        }
    }

    /// A task for an example, with a share of the budget: one in `share`.
    pub(super) fn task(&self, key: Key, recipe: Recipe, share: u32) -> Task {
        let budget = Budget {
            tests: self.budget.tests / share,
            ..self.budget
        };
        Task::new(key, recipe, budget)
    }

    /// Adds a task.
    pub(super) fn add(&mut self, task: Task) {
        self.examples.push_back(task);
    }

    /// Adds a test that may hang; whether there was room for it.
    pub(super) fn park(&mut self, parked: Parked) -> bool {
        let alike = |other: &&Parked| match (&parked.suspect, &other.suspect) {
            (Some(one), Some(other)) => one.signature == other.signature,
            _ => false,
        };
        let room = self.parked.len() < MOST_PARKED
            && self.parked.iter().filter(alike).count() < MOST_ALIKE;
        if room {
            self.parked.push_back(parked);
        }
        room
    }

    /// How many tests that may hang wait.
    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// What is to be worked on next where a worker has `left` until the end of the campaign,
    /// unless this has had its share of the time.
    pub(super) fn next(&mut self, left: Duration) -> Option<Work> {
        self.next_at(self.began.elapsed(), left)
    }

    fn next_at(&mut self, elapsed: Duration, left: Duration) -> Option<Work> {
        let share = elapsed.saturating_mul(self.workers) / SHARE;
        let hang = self.limit * HANG_FACTOR;
        let confirms = !self.parked.is_empty() && hang <= left;
        let takes_example = match self.examples.front() {
            Some(_) if confirms => self.examples_turn,
            Some(_) => true,
            None if confirms => false,
            None => return None,
        };
        let expected = if takes_example {
            self.expected(self.examples.front()?)
        } else {
            hang
        };
        // Where others go on with tests, the time may be had in advance.
        let saved = match self.workers {
            1 => expected,
            _ => expected.min(SLICE),
        };
        if self.spent + self.reserved + saved > share {
            return None;
        }
        self.take(takes_example)
    }

    /// What is to be worked on next, when there is nothing else to do.
    pub(super) fn pop(&mut self) -> Option<Work> {
        self.take(!self.examples.is_empty())
    }

    fn take(&mut self, takes_example: bool) -> Option<Work> {
        self.examples_turn = !takes_example;
        let work = if takes_example {
            Work::Minimise(Box::new(self.examples.pop_front()?))
        } else {
            Work::Confirm(Box::new(self.parked.pop_front()?))
        };
        self.reserved += self.cost(&work);
        Some(work)
    }

    /// What some work may take.
    fn cost(&self, work: &Work) -> Duration {
        match work {
            Work::Minimise(task) => self.expected(task),
            Work::Confirm(_) => self.limit * HANG_FACTOR,
        }
    }

    /// What a worker may take for an example before it gives it back.
    fn expected(&self, task: &Task) -> Duration {
        if task.key.is_of_time() {
            self.limit * HANG_FACTOR
        } else {
            SLICE
        }
    }

    /// Takes an example back that a worker spent `time` on. One that is not done is queued
    /// again.
    pub(super) fn give_back(&mut self, task: Task, example: &Example, time: Duration) {
        self.reserved = self.reserved.saturating_sub(self.expected(&task));
        self.spent += time;
        if !example.minimised {
            self.examples.push_back(task);
        }
    }

    /// Notes that a worker spent `time` on a test that may hang; `again` where that was
    /// aborted.
    pub(super) fn confirmed(&mut self, again: Option<Parked>, time: Duration) {
        self.reserved = self.reserved.saturating_sub(self.limit * HANG_FACTOR);
        self.spent += time;
        self.parked.extend(again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Class;
    use crate::signature::Signature;

    const LIMIT: Duration = Duration::from_secs(5);
    const LONG: Duration = Duration::MAX;

    fn recipe() -> Recipe {
        Recipe {
            fuzzer: crate::input::recipe::FUZZER.into(),
            seed: "tasks".into(),
            base: image_mutations::base::draw(&mut image_mutations::rng::Rng::from_text("tasks")),
            edits: Vec::new(),
            commands: Vec::new(),
            fresh_copies: false,
            guard: None,
        }
    }

    fn parked(number: u64, place: &str) -> Parked {
        Parked {
            number,
            recipe: recipe(),
            suspect: Some(Suspect {
                command: 0,
                signature: Signature::hang(place),
            }),
        }
    }

    fn queue(workers: usize) -> TaskQueue {
        TaskQueue::new(workers, LIMIT, Budget::default())
    }

    /// A resumed campaign once ran the hangs of the last run for 40 s before it made an image.
    #[test]
    fn nothing_is_worked_on_before_there_is_time_for_it() {
        let seconds = Duration::from_secs;
        let mut single = queue(1);
        assert!(single.park(parked(0, "hung in a")));
        assert!(single.next_at(seconds(0), LONG).is_none());
        assert!(single.next_at(seconds(209), LONG).is_none());
        // Not where it would be aborted.
        assert!(single.next_at(seconds(210), seconds(34)).is_none());
        assert!(single.next_at(seconds(210), LONG).is_some());
        let mut three = queue(3);
        let hang = Key::new(Class::Hang, "hung in a");
        three.add(three.task(hang, recipe(), 1));
        three.add(three.task(Key::new(Class::Crash, "SIGSEGV"), recipe(), 1));
        assert!(three.next_at(seconds(5), LONG).is_none());
        assert!(three.next_at(seconds(6), LONG).is_some());
        // The rest waits until the hang has had its share.
        assert!(three.next_at(seconds(75), LONG).is_none());
        assert!(three.next_at(seconds(76), LONG).is_some());
    }

    #[test]
    fn few_of_a_kind_are_parked() {
        let mut queue = queue(2);
        let parks: Vec<bool> = (0..3)
            .map(|number| queue.park(parked(number, "hung in a")))
            .collect();
        assert_eq!(parks, [true, true, false]);
        let more =
            (0..40).filter(|number| queue.park(parked(*number, &format!("hung in b{number}"))));
        assert_eq!(more.count(), MOST_PARKED - 2);
        assert_eq!(queue.parked(), MOST_PARKED);
    }

    #[test]
    fn examples_and_hangs_take_turns() {
        let mut queue = queue(2);
        for number in 0..2 {
            queue.park(parked(number, "hung in a"));
            queue.add(queue.task(Key::new(Class::Crash, "SIGSEGV"), recipe(), 1));
        }
        let later = Duration::from_secs(10_000);
        let turns: Vec<bool> = std::iter::from_fn(|| queue.next_at(later, LONG))
            .map(|work| matches!(work, Work::Minimise(_)))
            .collect();
        assert_eq!(turns, [true, false, true, false]);
    }
}
