//! What must be known of a run before it is told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};

use super::source::{End, Source};
use crate::history::Previous;
use crate::model::{Combo, Event, Finished, HeaderLine, Job, JobId, Verdict};
use crate::report::{Decoded, Parts, RunInfo};

/// What is shown of a job that was running when the runner was killed.
const KILLED: &str = "no result: the file ends while it was running";

/// A run as a whole.
#[derive(Debug, Default)]
pub struct Survey {
    /// What reports are told besides events.
    pub info: RunInfo,
    /// The run before it.
    pub previous: Previous,
    pub(super) header: Vec<HeaderLine>,
    pub(super) jobs: usize,
    pub(super) combos: Vec<Arc<Combo>>,
    pub(super) tests: Vec<String>,
    /// How the jobs were shuffled, as a line of the header.
    pub(super) order: Option<HeaderLine>,
    pub(super) at: Option<SystemTime>,
    /// When it ended, as far as is known.
    pub(super) last: Option<SystemTime>,
    /// Jobs that were not started, once it has ended; absent where it was killed.
    ended: Option<Vec<Job>>,
    /// How many repetitions there are of each test under each combination.
    pub(super) repetitions: HashMap<(String, Arc<Combo>), u32>,
    /// The greatest number of a job, and one more.
    pub(super) ids: u32,
    running: BTreeMap<JobId, (Job, SystemTime)>,
    started: HashSet<JobId>,
}

impl Survey {
    /// Reads all of `source`.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is no file of one run; a run that was killed is none.
    pub fn new(source: &Source) -> Result<Self> {
        let mut survey = Self::default();
        let mut results = Vec::new();
        let mut before = (None, Vec::new());
        let end = source.each(&mut |decoded| {
            match (survey.at.is_some(), is_start(&decoded)) {
                (true, true) => bail!(
                    "a second run begins here; each needs a file of its own (check merge-results)"
                ),
                (false, false) => {
                    bail!("the first event is not run-started: the beginning is missing")
                }
                _ => {}
            }
            match decoded {
                Decoded::RunStarted {
                    event,
                    info,
                    previous_at,
                    previous_tests,
                } => {
                    survey.info = *info;
                    before = (previous_at, previous_tests);
                    survey.event(event);
                }
                Decoded::Finished {
                    event, previous, ..
                } => {
                    if let (Event::Finished(finished), Some(previous)) = (&event, previous) {
                        let job = &finished.job;
                        results.push((job.test.name.clone(), Arc::clone(&job.combo), previous));
                    }
                    survey.event(event);
                }
                Decoded::Other(event) => survey.event(event),
                Decoded::Unknown => {}
            }
            Ok(())
        })?;
        if survey.at.is_none() {
            let path = source.path().display();
            match end {
                End::Within => bail!("{path} ends within its first event: there is no run to show"),
                End::Whole => bail!("{path} has no event of a run"),
            }
        }
        let (at, tests) = before;
        survey.previous = Previous::collect(at, &tests, results);
        Ok(survey)
    }

    /// Whether the run was killed.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.ended.is_none()
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::RunStarted {
                header,
                jobs,
                combos,
                tests,
                shuffle,
                at,
            } => {
                self.header = header;
                self.order = shuffle.map(|seed| ("ORDER".to_owned(), format!("--shuffle={seed}")));
                self.jobs = jobs;
                self.combos = combos;
                self.tests = tests;
                self.at = Some(at);
                self.saw(at);
                let plan = std::mem::take(&mut self.info.plan);
                plan.iter().for_each(|job| self.count(job));
                self.info.plan = plan;
            }
            Event::Started { job, at, .. } => {
                self.saw(at);
                self.count(&job);
                self.started.insert(job.id);
                self.running.insert(job.id, (job, at));
            }
            Event::Slow { at, .. } | Event::StatusAsked { at } => self.saw(at),
            Event::Finished(finished) => {
                if let Some(outcome) = &finished.outcome {
                    self.saw(outcome.start + outcome.wall);
                }
                self.count(&finished.job);
                self.started.insert(finished.job.id);
                self.running.remove(&finished.job.id);
            }
            Event::WaitsForGdb { .. }
            | Event::Debugging { .. }
            | Event::Output { .. }
            | Event::Interrupting { .. } => {}
            Event::RunFinished {
                not_reached, wall, ..
            } => {
                not_reached.iter().for_each(|job| self.count(job));
                // The clock may have been set meanwhile; the duration is right.
                self.last = self.at.map(|at| at + wall);
                self.ended = Some(not_reached);
            }
        }
    }

    fn saw(&mut self, at: SystemTime) {
        self.last = self.last.max(Some(at));
    }

    fn count(&mut self, job: &Job) {
        self.ids = self.ids.max(job.id.0.saturating_add(1));
        let key = (job.test.name.clone(), Arc::clone(&job.combo));
        let count = self.repetitions.entry(key).or_default();
        *count = (*count).max(job.repetition.saturating_add(1));
    }

    /// How long it took, as far as is known.
    pub(super) fn wall(&self) -> Duration {
        let both = self.last.zip(self.at);
        let wall = both.and_then(|(last, at)| last.duration_since(at).ok());
        wall.unwrap_or_default()
    }

    /// Jobs that were not started; of a run that was killed, those that are planned.
    pub(super) fn not_reached(&self) -> Vec<Job> {
        match &self.ended {
            Some(not_reached) => not_reached.clone(),
            None => {
                let plan = self.info.plan.iter();
                let late = plan.filter(|job| !self.started.contains(&job.id));
                late.cloned().collect()
            }
        }
    }

    /// The results of the jobs that were running when the run was killed.
    pub(super) fn killed(&self) -> Vec<(Event, Option<Parts>)> {
        let running = match self.ended {
            Some(_) => None,
            None => Some(self.running.values()),
        };
        let event = |(job, at): &(Job, SystemTime)| {
            let finished = Finished {
                job: job.clone(),
                verdict: Verdict::Interrupted,
                outcome: None,
                reference: None,
                mismatch: None,
                cases_not_run: Vec::new(),
                last: None,
                retries: None,
                rerun: String::new(),
                notes: Vec::new(),
            };
            let parts = Parts::described(KILLED, *at);
            (Event::Finished(Box::new(finished)), Some(parts))
        };
        running.into_iter().flatten().map(event).collect()
    }

    /// What the run did not say any more, since it was killed.
    pub(super) fn after_kill(&self) -> Vec<(Event, Option<Parts>)> {
        let mut events = self.killed();
        if self.was_killed() {
            let end = Event::RunFinished {
                not_reached: self.not_reached(),
                interrupted: true,
                wall: self.wall(),
            };
            events.push((end, None));
        }
        events
    }
}

fn is_start(decoded: &Decoded) -> bool {
    matches!(decoded, Decoded::RunStarted { .. })
}
