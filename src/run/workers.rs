//! The threads that jobs run on.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

use super::attempt::Shared;
use super::job;
use super::order::Queued;
use super::progress::Progress;
use crate::model::{Failure, Finished, Job, Verdict};

/// What the dispatcher is told.
pub(super) enum Message {
    /// A job has finished; which worker has nothing to do now.
    Finished(Box<Finished>, usize),
    /// Of a running job, which goes on when the other end of the last is dropped.
    Progress(Job, Progress, Sender<()>),
    Signal(i32),
}

/// A job and its reference.
type Work = (Queued, Option<PathBuf>);

/// As many threads as jobs have ever run at once; they go when this is dropped.
pub(super) struct Workers<'s, 'env: 's> {
    scope: &'s Scope<'s, 'env>,
    shared: &'s Shared<'s>,
    /// Where they send messages.
    sender: Sender<Message>,
    all: Vec<Sender<Work>>,
    free: Vec<usize>,
}

impl<'s, 'env> Workers<'s, 'env> {
    /// None yet.
    pub(super) fn new(
        scope: &'s Scope<'s, 'env>,
        shared: &'s Shared<'s>,
        sender: Sender<Message>,
    ) -> Self {
        Self {
            scope,
            shared,
            sender,
            all: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Runs a job on an idle worker or a new one.
    pub(super) fn start(&mut self, queued: Queued, reference: Option<PathBuf>) {
        let worker = self.free.pop().unwrap_or_else(|| self.hire());
        // Workers outlive the dispatcher, so the send succeeds.
        let _ = self.all[worker].send((queued, reference));
    }

    /// This worker's job has finished.
    pub(super) fn is_free(&mut self, worker: usize) {
        self.free.push(worker);
    }

    fn hire(&mut self) -> usize {
        let worker = self.all.len();
        let (work, orders) = channel();
        let (shared, sender) = (self.shared, self.sender.clone());
        self.scope
            .spawn(move || run_jobs(shared, worker, &orders, &sender));
        self.all.push(work);
        worker
    }
}

/// Runs one job after the other until there will be none.
fn run_jobs(shared: &Shared<'_>, worker: usize, orders: &Receiver<Work>, sender: &Sender<Message>) {
    for (queued, reference) in orders {
        let job = queued.job.clone();
        let tell = |progress| {
            let (shown, until) = channel();
            // The dispatcher receives until its last job has finished.
            let _ = sender.send(Message::Progress(job.clone(), progress, shown));
            // Nothing is sent; reporters have been told when this fails. What a debugger
            // writes comes after it, and a test that floods is read no faster than shown.
            let _ = until.recv();
        };
        let kept = queued.clone();
        let ran = catch_unwind(AssertUnwindSafe(|| {
            job::run(shared, queued, reference, &tell)
        }));
        // A panic in the runner fails this job, not the run.
        let finished = ran.unwrap_or_else(|panic| {
            let why = format!("internal error of the runner: {}", panic_message(&*panic));
            let verdict = Verdict::Fail(vec![Failure::NotStarted(why)]);
            job::not_started(shared, kept, verdict)
        });
        let _ = sender.send(Message::Finished(Box::new(finished), worker));
    }
}

/// The message of a panic.
fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown panic")
}
