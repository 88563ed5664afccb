//! The one thread that decides what starts and sends events to reporters.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Instant, SystemTime};

use anyhow::Context;
use childproc::Keeper;
use signal_hook::consts::SIGUSR1;

use super::attempt::Shared;
use super::cores::Cores;
use super::dirs::{Names, check_sock_dir};
use super::load::{Governor, LOOK_EVERY};
use super::order::{Choice, Queued, keep_long_apart, long_from, order};
use super::scratch::Spares;
use super::signals::Signals;
use super::stop::{Stop, Urgency};
use super::workers::{Message, Workers};
use super::{Parallel, RunHost, Settings, Summary, job};
use crate::golden;
use crate::model::{Combo, Event, Finished, Job, JobId, Reporter, Verdict};

/// Runs `jobs` and tells `reporters` (their `finish` is left to the caller).
///
/// `keeper` was started at the very beginning of the program. SIGINT, SIGTERM
/// and SIGHUP end the run while it lasts, the first with time to tidy up, the
/// second at once; SIGUSR1 asks how things stand.
///
/// # Errors
///
/// What keeps any job from being run: directories that cannot be made or are too
/// long for sockets, or no descriptors left. Reporters have been told nothing
/// then.
pub fn run(
    keeper: &Keeper,
    settings: &Settings,
    jobs: Vec<Job>,
    host: &dyn RunHost,
    reporters: &mut [Box<dyn Reporter>],
) -> anyhow::Result<Summary> {
    let names = Names::new(&jobs);
    let mut settings = settings.clone();
    for dir in [&mut settings.test_dir, &mut settings.sock_dir] {
        std::fs::create_dir_all(&*dir)
            .and_then(|()| dir.canonicalize())
            .map(|absolute| *dir = absolute)
            .with_context(|| format!("cannot create the directory {}", dir.display()))?;
    }
    check_sock_dir(&settings.sock_dir, &names, &jobs)?;
    let stop = Stop::new().context("cannot create a pipe")?;
    let cores = Cores::of_this_system();
    let spares = Spares::new(&[&settings.test_dir, &settings.sock_dir]);
    let shared = Shared {
        keeper,
        settings: &settings,
        host,
        names: &names,
        stop: &stop,
        cores: &cores,
        spares: &spares,
        settling: Mutex::default(),
    };
    let (sender, receiver) = channel();
    let to_signals = sender.clone();
    let signals = Signals::forward(move |signal| to_signals.send(Message::Signal(signal)).is_ok())
        .context("cannot handle signals")?;
    let summary = thread::scope(|scope| {
        let mut dispatcher = Dispatcher {
            shared: &shared,
            workers: Workers::new(scope, &shared, sender),
            receiver,
            reporters,
            governor: Governor::new(),
            queue: VecDeque::new(),
            running: 0,
            alone: false,
            stopping: false,
            not_reached: Vec::new(),
            summary: Summary::default(),
            long_from: f64::INFINITY,
            long_running: BTreeSet::new(),
        };
        dispatcher.run(&jobs)
    });
    drop(signals);
    Ok(summary)
}

struct Dispatcher<'s, 'env: 's, 'r> {
    shared: &'s Shared<'s>,
    workers: Workers<'s, 'env>,
    receiver: Receiver<Message>,
    reporters: &'r mut [Box<dyn Reporter>],
    governor: Governor,
    queue: VecDeque<Queued>,
    running: usize,
    /// Whether what runs must be alone.
    alone: bool,
    /// Nothing new is started.
    stopping: bool,
    not_reached: Vec<Job>,
    summary: Summary,
    /// From how many seconds on a job is a long one.
    long_from: f64,
    /// Those that run.
    long_running: BTreeSet<JobId>,
}

impl Dispatcher<'_, '_, '_> {
    fn run(&mut self, jobs: &[Job]) -> Summary {
        let began = Instant::now();
        self.tell_start(jobs);
        let mut round = 0;
        loop {
            self.run_round(jobs, round);
            if !self.shared.settings.until_fail || self.stopping || jobs.is_empty() {
                break;
            }
            round += 1;
        }
        self.summary.not_reached = self.not_reached.len();
        let event = Event::RunFinished {
            not_reached: std::mem::take(&mut self.not_reached),
            interrupted: self.summary.interrupted,
            wall: began.elapsed(),
        };
        self.tell(&event);
        self.summary.clone()
    }

    fn tell(&mut self, event: &Event) {
        for reporter in self.reporters.iter_mut() {
            reporter.event(event);
        }
    }

    fn tell_start(&mut self, jobs: &[Job]) {
        let mut combos: Vec<Arc<Combo>> = Vec::new();
        let (mut seen_combos, mut seen_tests) = (BTreeSet::new(), BTreeSet::new());
        let mut tests = Vec::new();
        for job in jobs {
            if seen_combos.insert(&job.combo) {
                combos.push(Arc::clone(&job.combo));
            }
            if seen_tests.insert(&job.test.name) {
                tests.push(job.test.name.clone());
            }
        }
        self.tell(&Event::RunStarted {
            header: self.shared.settings.header.clone(),
            jobs: jobs.len(),
            combos,
            tests,
            shuffle: self.shared.settings.shuffle,
            at: SystemTime::now(),
        });
    }

    /// Runs every job once; `round` counts from 0.
    fn run_round(&mut self, jobs: &[Job], round: u32) {
        let settings = self.shared.settings;
        // Each round has jobs and directories of its own.
        let repetitions = jobs.iter().map(|job| job.repetition + 1).max();
        let shift = round.saturating_mul(repetitions.unwrap_or(1));
        let count = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        let offset = round.saturating_mul(count);
        let of_this_round = jobs.iter().cloned().map(|mut job| {
            job.id = JobId(job.id.0.saturating_add(offset));
            job.repetition = job.repetition.saturating_add(shift);
            job
        });
        let alone = settings.alone || settings.stream || settings.is_debugged();
        self.queue = order(
            of_this_round,
            |job| {
                // The host knows the jobs of the first round.
                let mut known = job.clone();
                known.id = JobId(job.id.0.saturating_sub(offset));
                self.shared.host.past(&known)
            },
            alone,
            match settings.shuffle {
                Some(seed) => Choice::Shuffled(seed),
                None if settings.in_order => Choice::AsPlanned,
                None => Choice::LongestFirst,
            },
        );
        if settings.shuffle.is_none() && !settings.in_order {
            self.long_from = long_from(&self.queue);
        }
        loop {
            self.start_what_may();
            if self.running == 0 && self.queue.is_empty() {
                break;
            }
            self.wait();
        }
    }

    /// Starts jobs for as long as there is room for one more.
    fn start_what_may(&mut self) {
        if self.stopping {
            let left = self.queue.drain(..).map(|queued| queued.job);
            self.not_reached.extend(left);
            return;
        }
        let limit = self.limit();
        loop {
            if !self.long_running.is_empty() {
                keep_long_apart(&mut self.queue, self.long_from, limit);
            }
            let Some(next) = self.queue.front() else {
                break;
            };
            if let Some(reason) = &next.job.skip {
                let reason = reason.clone();
                self.not_run(reason);
                continue;
            }
            if self.running > 0 && (self.alone || next.alone || self.running >= limit) {
                break;
            }
            let reference = self.shared.host.reference(&next.job);
            let settings = self.shared.settings;
            let needs_reference = !settings.run_without_reference && settings.debugger.is_none();
            if reference.is_none() && needs_reference {
                let reason = golden::no_reference(&next.job.test);
                self.not_run(reason);
                continue;
            }
            if let Some(queued) = self.queue.pop_front() {
                self.start(queued, reference);
            }
            if self.stopping {
                break;
            }
        }
    }

    fn limit(&mut self) -> usize {
        match self.shared.settings.parallel {
            Parallel::Exactly(n) => n.max(1),
            Parallel::Auto => {
                self.governor.look(self.running);
                self.governor.limit()
            }
        }
    }

    /// Starts a job, after reporters were told.
    fn start(&mut self, queued: Queued, reference: Option<PathBuf>) {
        self.tell(&Event::Started {
            job: queued.job.clone(),
            last: queued.last(),
            at: SystemTime::now(),
        });
        self.alone = queued.alone;
        self.running += 1;
        if queued.last().is_some_and(|secs| secs >= self.long_from) {
            self.long_running.insert(queued.job.id);
        }
        self.workers.start(queued, reference);
    }

    /// The next job is not run, for this reason.
    fn not_run(&mut self, reason: String) {
        let Some(queued) = self.queue.pop_front() else {
            return;
        };
        let verdict = Verdict::NotRun(reason);
        self.finished(job::not_started(self.shared, queued, verdict));
    }

    /// Waits for a message.
    fn wait(&mut self) {
        let waits_for_room = !self.queue.is_empty()
            && self.shared.settings.parallel == Parallel::Auto
            && !self.alone;
        let message = if waits_for_room {
            self.receiver.recv_timeout(LOOK_EVERY)
        } else {
            self.receiver
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected)
        };
        match message {
            Ok(Message::Finished(finished, worker)) => {
                self.workers.is_free(worker);
                self.running -= 1;
                self.alone = false;
                self.long_running.remove(&finished.job.id);
                self.finished(*finished);
            }
            Ok(Message::Progress(job, progress, shown)) => {
                self.tell(&progress.event(job));
                drop(shown);
            }
            Ok(Message::Signal(SIGUSR1)) => {
                let at = SystemTime::now();
                self.tell(&Event::StatusAsked { at });
            }
            Ok(Message::Signal(_)) => self.interrupt(),
            // We hold a sender ourselves, so it is a time-out.
            Err(_) => {}
        }
    }

    fn interrupt(&mut self) {
        self.stopping = true;
        self.summary.interrupted = true;
        if self.shared.stop.step() == Urgency::Soon {
            let running = self.running;
            self.tell(&Event::Interrupting { running });
        }
    }

    /// Counts a finished job and reports it.
    fn finished(&mut self, finished: Finished) {
        let summary = &mut self.summary;
        let count = match finished.verdict {
            Verdict::Pass => &mut summary.passed,
            Verdict::Fail(_) => &mut summary.failed,
            Verdict::KnownFail(_) => &mut summary.known_failures,
            Verdict::NotRun(_) => &mut summary.not_run,
            Verdict::Flaky { .. } => &mut summary.flaky,
            Verdict::Interrupted => &mut summary.interrupted_jobs,
        };
        *count += 1;
        let settings = self.shared.settings;
        let failed = match finished.verdict {
            Verdict::Fail(_) => true,
            Verdict::Flaky { .. } => !settings.flaky_passes,
            _ => false,
        };
        if failed && (settings.fail_fast || settings.until_fail) {
            self.stopping = true;
        }
        self.tell(&Event::Finished(Box::new(finished)));
    }
}
