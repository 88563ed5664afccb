//! Several runs as one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Result, bail};

use super::source::Source;
use super::survey::Survey;
use super::{Ending, replay};
use crate::history::Previous;
use crate::model::{Combo, Event, HeaderLine, Job, JobId};
use crate::report::{Parts, RunInfo};
use crate::words;

/// The header's name for shards of which there is no result.
const MISSING: &str = "MISSING";

/// Several runs that are told as one.
#[derive(Debug)]
pub struct Merged {
    runs: Vec<Run>,
    /// What reports are told besides events.
    pub info: RunInfo,
    /// The runs before them.
    pub previous: Previous,
    /// How many jobs the missing shards have.
    absent: usize,
}

/// One of the runs, and how its jobs are numbered among all.
#[derive(Debug)]
struct Run {
    source: Source,
    survey: Survey,
    /// Added to the numbers of jobs.
    ids: u32,
    /// Added to repetitions, where it is not 0.
    repetitions: HashMap<(String, Arc<Combo>), u32>,
}

impl Run {
    fn renumbered(&self, job: &mut Job) {
        job.id = JobId(job.id.0.saturating_add(self.ids));
        let key = (job.test.name.clone(), Arc::clone(&job.combo));
        let before = self.repetitions.get(&key).copied().unwrap_or(0);
        job.repetition = job.repetition.saturating_add(before);
    }

    fn all_renumbered(&self, mut jobs: Vec<Job>) -> Vec<Job> {
        jobs.iter_mut().for_each(|job| self.renumbered(job));
        jobs
    }
}

impl Merged {
    /// Opens and surveys every file.
    ///
    /// # Errors
    ///
    /// One cannot be read, is of no run, or is named twice.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut seen = BTreeSet::new();
        let mut runs: Vec<Run> = Vec::new();
        let (mut ids, mut repetitions) = (0_u32, HashMap::new());
        for path in paths {
            if !seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
                bail!("{} is named twice", path.display());
            }
            let source = Source::open(path)?;
            let survey = Survey::new(&source)?;
            let run = Run {
                ids,
                repetitions: repetitions.clone(),
                source,
                survey,
            };
            let Some(next) = ids.checked_add(run.survey.ids) else {
                bail!("{}: too many jobs", path.display());
            };
            ids = next;
            for (key, count) in &run.survey.repetitions {
                *repetitions.entry(key.clone()).or_insert(0) += count;
            }
            runs.push(run);
        }
        let previous = runs.iter().map(|run| &run.survey.previous);
        let previous = previous.fold(Previous::default(), |all, one| all.and(one));
        let (missing_shards, absent) = missing_shards(&runs);
        let info = RunInfo {
            flaky_passes: runs.iter().all(|run| run.survey.info.flaky_passes),
            tap_numbers: runs.iter().any(|run| run.survey.info.tap_numbers),
            shard: None,
            missing_shards,
            plan: plan(&runs),
        };
        Ok(Self {
            runs,
            info,
            previous,
            absent,
        })
    }

    /// The runs that were killed, by their files.
    pub fn killed(&self) -> impl Iterator<Item = &Source> {
        let killed = self.runs.iter().filter(|run| run.survey.was_killed());
        killed.map(|run| &run.source)
    }

    /// Tells the events of all, as those of one run.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn replay(&self, tell: &mut dyn FnMut(&Event, Option<Parts>)) -> Result<Ending> {
        let mut ending = Ending::default();
        let (start, at) = self.start();
        tell(&start, None);
        let (mut late, mut last) = (Vec::new(), at);
        for run in &self.runs {
            last = last.max(run.survey.last.unwrap_or(at));
            late.extend(run.all_renumbered(run.survey.not_reached()));
            let one = replay(&run.source, &run.survey, &mut |event, parts| {
                if let Some(event) = run.renumbered_event(event) {
                    tell(&event, parts);
                }
            })?;
            ending.failed += one.failed;
            ending.flaky += one.flaky;
            ending.interrupted |= one.interrupted;
        }
        let end = Event::RunFinished {
            not_reached: late,
            // "Passed all" would not be true.
            interrupted: ending.interrupted || !self.info.missing_shards.is_empty(),
            wall: last.duration_since(at).unwrap_or_default(),
        };
        tell(&end, None);
        Ok(ending)
    }

    /// The beginning of the run that they are, and when that is.
    fn start(&self) -> (Event, SystemTime) {
        let surveys = || self.runs.iter().map(|run| &run.survey);
        let mut combos: Vec<Arc<Combo>> = Vec::new();
        for combo in surveys().flat_map(|survey| &survey.combos) {
            if !combos.contains(combo) {
                combos.push(Arc::clone(combo));
            }
        }
        let tests: BTreeSet<&String> = surveys().flat_map(|survey| &survey.tests).collect();
        let at = surveys().filter_map(|survey| survey.at).min();
        let at = at.unwrap_or(SystemTime::UNIX_EPOCH);
        let event = Event::RunStarted {
            // Of each run that was shuffled there is a line.
            header: header(&self.runs, &self.info.missing_shards),
            jobs: surveys().fold(self.absent, |sum, survey| sum.saturating_add(survey.jobs)),
            combos,
            tests: tests.into_iter().cloned().collect(),
            shuffle: None,
            at,
        };
        (event, at)
    }
}

impl Run {
    /// An event as one of the merged run; those about a run as a whole are none.
    fn renumbered_event(&self, event: &Event) -> Option<Event> {
        let mut event = event.clone();
        match &mut event {
            Event::RunStarted { .. }
            | Event::StatusAsked { .. }
            | Event::Interrupting { .. }
            | Event::RunFinished { .. } => return None,
            Event::Started { job, .. }
            | Event::Slow { job, .. }
            | Event::WaitsForGdb { job, .. }
            | Event::Debugging { job, .. }
            | Event::Output { job, .. } => self.renumbered(job),
            Event::Finished(finished) => self.renumbered(&mut finished.job),
        }
        Some(event)
    }

    fn name(&self) -> String {
        words::path(self.source.path())
    }
}

/// The plans of all as one; empty where one is not known, since positions are numbers.
fn plan(runs: &[Run]) -> Vec<Job> {
    let mut all = Vec::new();
    for run in runs {
        if u32::try_from(all.len()) != Ok(run.ids) {
            return Vec::new();
        }
        all.extend(run.all_renumbered(run.survey.info.plan.clone()));
    }
    all
}

/// The lines of all headers: once where all say the same, else with the files that say it.
fn header(runs: &[Run], missing: &[String]) -> Vec<HeaderLine> {
    let mut names: Vec<&str> = Vec::new();
    let mut values: HashMap<&str, Vec<(&str, Vec<String>)>> = HashMap::new();
    for run in runs {
        for (name, value) in run.survey.header.iter().chain(&run.survey.order) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
            let said = values.entry(name).or_default();
            match said.iter_mut().find(|(known, _)| known == value) {
                Some((_, files)) => files.push(run.name()),
                None => said.push((value, vec![run.name()])),
            }
        }
    }
    let mut lines = Vec::new();
    for name in names {
        for (value, files) in values.remove(name).unwrap_or_default() {
            let line = match files.len() == runs.len() {
                true => value.to_owned(),
                false => format!("{value} ({})", files.join(", ")),
            };
            lines.push((name.to_owned(), line));
        }
    }
    lines.extend(
        missing
            .iter()
            .map(|what| (MISSING.to_owned(), what.clone())),
    );
    lines
}

/// The shards of which there is no result, a line each, and how many jobs they have.
fn missing_shards(runs: &[Run]) -> (Vec<String>, usize) {
    // By the plan that was shared out.
    let mut plans: BTreeMap<(&str, usize), There> = BTreeMap::new();
    let mut missing: Vec<String> = Vec::new();
    for run in runs {
        missing.extend(run.survey.info.missing_shards.iter().cloned());
        if let Some(shard) = &run.survey.info.shard {
            let key = (shard.plan.as_str(), shard.of);
            let there = plans.entry(key).or_insert_with(|| There {
                file: run.name(),
                absent: shard.jobs,
                shards: BTreeSet::new(),
            });
            if there.shards.insert(shard.index) {
                there.absent = there.absent.saturating_sub(run.survey.jobs);
            }
        }
    }
    let several = plans.len() > 1;
    let mut jobs = 0_usize;
    for ((_, of), there) in plans {
        // As many as a person can read.
        let absent = (1..=of).filter(|index| !there.shards.contains(index));
        let before = missing.len();
        missing.extend(absent.take(100).map(|index| match several {
            true => format!("shard {index} of {of} of the run in {}", there.file),
            false => format!("shard {index} of {of}"),
        }));
        if missing.len() > before {
            jobs = jobs.saturating_add(there.absent);
        }
    }
    (missing, jobs)
}

/// What there is of a run that was shared out.
struct There {
    /// One of its files.
    file: String,
    shards: BTreeSet<usize>,
    /// How many jobs are in none of them.
    absent: usize,
}
