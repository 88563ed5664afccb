//! The examples that wait to be made small, and how much of the time goes into that.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::finding::Example;
use crate::input::recipe::Recipe;
use crate::triage::Key;
use crate::triage::minimise::{Budget, Task};

/// How long a worker stays with one example, before it goes on with tests or another one.
pub(super) const SLICE: Duration = Duration::from_secs(3);

/// One part in so many of the workers' time goes into making examples small, as long as
/// there are tests to do.
const SHARE: u32 = 4;

/// Examples that wait to be made small.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Task>,
    /// How many are being worked on.
    busy: u32,
    /// Time that workers have spent here.
    spent: Duration,
    began: Instant,
    workers: u32,
    budget: Budget,
}

impl Queue {
    /// An empty queue for so many workers, each example having this budget.
    pub(super) fn new(workers: usize, budget: Budget) -> Self {
        Self {
            waiting: VecDeque::new(),
            busy: 0,
            spent: Duration::ZERO,
            began: Instant::now(),
            workers: u32::try_from(workers).unwrap_or(u32::MAX),
            budget,
        }
    }

    /// A task for an example, with one part in `part` of the budget.
    pub(super) fn task(&self, key: Key, recipe: Recipe, part: u32) -> Task {
        let budget = Budget {
            tests: self.budget.tests / part,
            ..self.budget
        };
        Task::new(key, recipe, budget)
    }

    /// Adds a task.
    pub(super) fn add(&mut self, task: Task) {
        self.waiting.push_back(task);
    }

    /// An example to work on for a while, if it is its turn.
    pub(super) fn next(&mut self) -> Option<Task> {
        let time = self.began.elapsed().saturating_mul(self.workers);
        let spent = self.spent + SLICE * self.busy;
        if spent > time / SHARE {
            return None;
        }
        self.any()
    }

    /// An example to work on.
    pub(super) fn any(&mut self) -> Option<Task> {
        let task = self.waiting.pop_front()?;
        self.busy += 1;
        Some(task)
    }

    /// Takes a task back that was worked on for `time`. One that is not done waits again.
    pub(super) fn give_back(&mut self, task: Task, example: &Example, time: Duration) {
        self.busy -= 1;
        self.spent += time;
        if !example.minimised {
            self.waiting.push_back(task);
        }
    }
}
