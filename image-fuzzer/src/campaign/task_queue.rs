//! The examples that wait to be minimised, and how much of the workers' time goes into that.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::finding::Example;
use crate::input::recipe::Recipe;
use crate::triage::Key;
use crate::triage::minimise::{Budget, Task};

/// How long a worker minimises one example before it goes on with tests or another one.
pub(super) const SLICE: Duration = Duration::from_secs(3);

/// The share of the workers' time, one in so many, that goes into minimising as long as there
/// are tests to run.
const SHARE: u32 = 4;

/// Examples that wait to be minimised.
#[derive(Debug)]
pub(super) struct TaskQueue {
    waiting: VecDeque<Task>,
    /// How many are being minimised.
    in_progress: u32,
    /// Time that workers have spent minimising.
    spent: Duration,
    began: Instant,
    workers: u32,
    budget: Budget,
}

impl TaskQueue {
    /// An empty queue for so many workers, each example having this budget.
    pub(super) fn new(workers: usize, budget: Budget) -> Self {
        Self {
            waiting: VecDeque::new(),
            in_progress: 0,
            spent: Duration::ZERO,
            began: Instant::now(),
            workers: u32::try_from(workers).unwrap_or(u32::MAX),
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
        self.waiting.push_back(task);
    }

    /// The next example, unless minimising has had its share of the time.
    pub(super) fn next(&mut self) -> Option<Task> {
        let time = self.began.elapsed().saturating_mul(self.workers);
        let spent = self.spent + SLICE * self.in_progress;
        if spent > time / SHARE {
            return None;
        }
        self.pop()
    }

    /// The next example.
    pub(super) fn pop(&mut self) -> Option<Task> {
        let task = self.waiting.pop_front()?;
        self.in_progress += 1;
        Some(task)
    }

    /// Takes a task back that a worker spent `time` on. One that is not done is queued again.
    pub(super) fn give_back(&mut self, task: Task, example: &Example, time: Duration) {
        self.in_progress -= 1;
        self.spent += time;
        if !example.minimised {
            self.waiting.push_back(task);
        }
    }
}
