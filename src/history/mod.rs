//! Results of earlier runs: verdicts and times by test and
//! combination.
//!
//! A [`History`] is a reporter that records what it is told; what was known when it
//! was opened is in its [`Memory`], which the planning of a run reads.

mod elapsed;
mod journal;
mod selection;
mod view;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;

use crate::model::{Combo, Event, Finished, Job, Kind, Reporter, Test};
use crate::words;
use elapsed::{Elapsed, Times};
use journal::{Journal, Record};
use selection::{Runs, Selected};

pub use selection::Selection;
pub use view::render;

/// What is remembered of a test under a combination.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Past {
    /// How long it took when it last passed (seconds).
    pub last_passed_secs: Option<f64>,
    /// The last verdict; absent where only the old runner's times are known.
    pub last_verdict: Option<Kind>,
}

/// Test and combination, as the journal writes them. Each text is held once,
/// however many tests and combinations there are.
type Key = (Arc<str>, Arc<str>);

fn key(test: &str, combo: &Combo) -> Key {
    (test.into(), combo_key(combo).into())
}

/// Verdicts, of several repetitions the worst, and seconds.
type Results = HashMap<Key, (Kind, f64)>;

/// The last run of the same selection, for comparison with the next. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Previous {
    results: Arc<Results>,
    tests: Arc<Vec<Arc<str>>>,
    latest: Arc<Results>,
    /// When it began; absent where there was no run.
    pub at: Option<SystemTime>,
}

impl Previous {
    /// A run that began `at`, from the names of all tests that were selected and its results:
    /// tests, each with its combination, verdict and seconds.
    #[must_use]
    pub fn collect(
        at: Option<SystemTime>,
        tests: &[String],
        results: impl IntoIterator<Item = (String, Arc<Combo>, (Kind, f64))>,
    ) -> Self {
        let results = results.into_iter();
        let results = results.map(|(test, combo, result)| (key(&test, &combo), result));
        Self {
            results: Arc::new(results.collect()),
            tests: Arc::new(tests.iter().map(|test| test.as_str().into()).collect()),
            latest: Arc::default(),
            at,
        }
    }

    /// The results of both; where both have one, this one's.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        let results = Arc::make_mut(&mut self.results);
        for (key, result) in &*other.results {
            results.entry(key.clone()).or_insert(*result);
        }
        let tests = Arc::make_mut(&mut self.tests);
        tests.extend(other.tests.iter().cloned());
        tests.sort();
        tests.dedup();
        self.at = self.at.into_iter().chain(other.at).min();
        self
    }

    /// Verdict and seconds of `test` under `combo`, where it was part of that run.
    #[must_use]
    pub fn get(&self, test: &str, combo: &Combo) -> Option<(Kind, f64)> {
        self.results.get(&key(test, combo)).copied()
    }

    /// The same of the latest run of all, whatever was selected there.
    #[must_use]
    pub fn latest(&self, test: &str, combo: &Combo) -> Option<(Kind, f64)> {
        self.latest.get(&key(test, combo)).copied()
    }

    /// Names of all tests that were selected, in order.
    pub fn tests(&self) -> impl Iterator<Item = &str> {
        self.tests.iter().map(|test| &**test)
    }
}

/// Adds a result of a run to its results.
fn add(results: &mut Results, key: Key, verdict: Kind, secs: f64) {
    // Of several repetitions the worst one counts.
    let old = results.get(&key);
    // Of a pass and a test that was not run, the later one counts.
    if old.is_none_or(|(kind, _)| *kind <= verdict.max(Kind::Pass)) {
        results.insert(key, (verdict, secs));
    }
}

/// The last run, as it is read from the journal.
#[derive(Debug, Default)]
struct LastRun {
    id: String,
    combos: Vec<String>,
    tests: Vec<String>,
    results: Arc<Results>,
    ended: Option<Vec<Key>>,
}

/// What was known when the history was opened: of use until a run is planned.
#[derive(Debug, Default)]
pub struct Memory {
    past: HashMap<Key, Past>,
    /// What failed and has not passed since, each with the run in which it failed last.
    failing: HashMap<Key, String>,
    last_run: LastRun,
    runs: Runs,
    /// The journal all this was read from.
    journal: PathBuf,
    elapsed: Option<Times>,
    /// Every text in a key.
    texts: HashSet<Arc<str>>,
}

impl Memory {
    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Run {
                run,
                at,
                combos,
                tests,
                selection,
                ..
            } => {
                let selected = Selected {
                    id: run.clone(),
                    at,
                    tests: tests.iter().map(|text| self.text(text)).collect(),
                    combos: combos.iter().map(|text| self.text(text)).collect(),
                    under: String::new(),
                };
                self.runs.begin(selection, selected);
                self.last_run = LastRun {
                    id: run,
                    combos,
                    tests,
                    ..LastRun::default()
                };
            }
            Record::Done {
                run,
                test,
                combo,
                verdict,
                secs,
                under,
                ..
            } => {
                let key = (self.text(&test), self.text(&combo));
                match verdict {
                    Kind::Fail | Kind::Flaky => {
                        self.failing.insert(key.clone(), run.clone());
                    }
                    // It is expected from now on.
                    Kind::KnownFail => {
                        self.failing.remove(&key);
                    }
                    // Of several repetitions one that failed counts.
                    Kind::Pass if self.failing.get(&key).is_some_and(|at| *at != run) => {
                        self.failing.remove(&key);
                    }
                    // It says nothing of what failed before.
                    Kind::Pass | Kind::NotRun | Kind::Interrupted => {}
                }
                if run == self.last_run.id {
                    let results = Arc::make_mut(&mut self.last_run.results);
                    add(results, key.clone(), verdict, secs);
                }
                self.runs.result(&run);
                let past = self.past.entry(key).or_insert(Past {
                    last_passed_secs: None,
                    last_verdict: None,
                });
                past.last_verdict = Some(verdict);
                if verdict == Kind::Pass && under.is_empty() {
                    past.last_passed_secs = Some(secs);
                }
            }
            Record::End {
                run, not_reached, ..
            } => {
                if run == self.last_run.id {
                    let keys = not_reached.iter();
                    let keys = keys.map(|(test, combo)| (self.text(test), self.text(combo)));
                    self.last_run.ended = Some(keys.collect());
                }
            }
        }
    }

    /// What is remembered of `test` under `combo`.
    #[must_use]
    pub fn last(&self, test: &Test, combo: &Combo) -> Option<Past> {
        let past = self.past.get(&key(&test.name, combo));
        let old_runner = || self.elapsed.as_ref()?.get(test, combo);
        match past {
            Some(past) if past.last_passed_secs.is_some() => Some(*past),
            past => {
                let secs = old_runner();
                (past.is_some() || secs.is_some()).then(|| Past {
                    last_passed_secs: secs,
                    last_verdict: past.and_then(|p| p.last_verdict),
                })
            }
        }
    }

    /// What failed, if only now and then, and has not passed since in a later run: names of
    /// tests with their combinations, in order of the names.
    #[must_use]
    pub fn failing(&self) -> Vec<(String, Combo)> {
        sorted(self.failing.keys().cloned())
    }

    /// Whether `test` is one of [`Memory::failing`] under `combo`.
    #[must_use]
    pub fn is_failing(&self, test: &Test, combo: &Combo) -> bool {
        self.failing.contains_key(&key(&test.name, combo))
    }

    /// What failed in the last run, if only now and then: names of tests with their
    /// combinations, in order of the names.
    #[must_use]
    pub fn failed_last(&self) -> Vec<(String, Combo)> {
        let results = self.last_run.results.iter();
        let failed = results.filter(|(_, (kind, _))| matches!(kind, Kind::Fail | Kind::Flaky));
        sorted(failed.map(|(key, _)| key.clone()))
    }

    /// What the last run did not get to, or was interrupted in; for a run that was
    /// killed, all it had not finished.
    #[must_use]
    pub fn not_reached_last(&self) -> Vec<(String, Combo)> {
        let run = &self.last_run;
        let mut keys: HashSet<Key> = match &run.ended {
            Some(not_reached) => not_reached.iter().cloned().collect(),
            None => {
                let key =
                    |test: &String, combo: &String| (test.as_str().into(), combo.as_str().into());
                let tests = run.tests.iter();
                let all = tests.flat_map(|t| run.combos.iter().map(move |c| key(t, c)));
                all.filter(|key| !run.results.contains_key(key)).collect()
            }
        };
        let results = run.results.iter();
        let incomplete = results.filter(|(_, (kind, _))| *kind == Kind::Interrupted);
        keys.extend(incomplete.map(|(key, _)| key.clone()));
        sorted(keys.into_iter())
    }

    /// Whether any run is remembered.
    #[must_use]
    pub fn has_runs(&self) -> bool {
        !self.last_run.id.is_empty()
    }

    /// The last run of this selection; where there was none, the last of one that is much
    /// like it. A journal that cannot be read any more has none.
    #[must_use]
    pub fn previous(&self, selection: &Selection) -> Previous {
        let latest = Arc::clone(&self.last_run.results);
        let Some(run) = self.runs.find(selection) else {
            return Previous {
                latest,
                ..Previous::default()
            };
        };
        let results = if run.id == self.last_run.id {
            Arc::clone(&latest)
        } else {
            let mut results = Results::new();
            let read = journal::read_run(&self.journal, &run.id, |record| {
                if let Record::Done {
                    test,
                    combo,
                    verdict,
                    secs,
                    ..
                } = record
                {
                    let key = (test.as_str().into(), combo.as_str().into());
                    add(&mut results, key, verdict, secs);
                }
            });
            read.map(|()| Arc::new(results)).unwrap_or_default()
        };
        Previous {
            results,
            tests: Arc::new(run.tests.clone()),
            latest,
            at: Some(UNIX_EPOCH + std::time::Duration::from_secs(run.at)),
        }
    }
}

fn sorted(keys: impl Iterator<Item = Key>) -> Vec<(String, Combo)> {
    let mut keys: Vec<Key> = keys.collect();
    keys.sort();
    let parsed = keys
        .into_iter()
        .filter_map(|(test, combo)| Some((test.to_string(), parse_combo(&combo)?)));
    parsed.collect()
}

/// The combination as a text; the options, which may hold anything, come last, before the folder
/// of QEMU.
fn combo_key(combo: &Combo) -> String {
    let Combo {
        format,
        protocol,
        cache,
        aio,
        options,
        qemu,
    } = combo;
    let mut key = format!("{format}/{protocol}/{cache}/{aio}/{options}");
    if !qemu.is_empty() {
        key = format!("{key}{QEMU_AT}{qemu}");
    }
    key
}

/// What stands before the folder of QEMU: no option has it.
const QEMU_AT: char = '\n';

fn parse_combo(key: &str) -> Option<Combo> {
    let (key, qemu) = key.split_once(QEMU_AT).unwrap_or((key, ""));
    let mut parts = key.splitn(5, '/').map(str::to_owned);
    Some(Combo {
        qemu: qemu.to_owned(),
        format: parts.next()?,
        protocol: parts.next()?,
        cache: parts.next()?,
        aio: parts.next()?,
        options: parts.next()?,
    })
}

/// The history, open for reading and for the run's own results.
#[derive(Debug)]
pub struct History {
    memory: Memory,
    elapsed: Option<Elapsed>,
    journal: Option<Journal>,
    run: String,
    under: &'static str,
    selection: String,
    trouble: Option<String>,
}

impl History {
    /// Opens the history in `dir`, which is made where it does not exist. Several
    /// runs may have it open at the same time.
    ///
    /// # Errors
    ///
    /// The directory or its files cannot be made, locked or read.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let journal = Journal::open(dir)?;
        let path = journal::path(dir);
        let mut memory = Memory {
            journal: path.clone(),
            ..Memory::default()
        };
        journal::read(&path, |record| memory.take(record))
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            journal: Some(journal),
            memory,
            ..Self::unrecorded()
        })
    }

    /// An empty history that records nothing.
    #[must_use]
    pub fn unrecorded() -> Self {
        Self {
            memory: Memory::default(),
            elapsed: None,
            journal: None,
            run: String::new(),
            under: "",
            selection: String::new(),
            trouble: None,
        }
    }

    /// Reads times from the old runner's `.last-elapsed-cache` at `path` too, and
    /// keeps it up to date.
    #[must_use]
    pub fn with_elapsed_cache(mut self, path: &Path) -> Self {
        self.memory.elapsed = Some(Times::read(path));
        self.elapsed = Some(Elapsed::new(path));
        self
    }

    /// Notes that QEMU's programs run under `tool` (`valgrind`), or under none (an empty
    /// text): verdicts are remembered all the same, but times are then no measure of what
    /// the tests take without it.
    #[must_use]
    pub fn under(mut self, tool: &'static str) -> Self {
        self.under = tool;
        self
    }

    /// Notes what is selected in the run that is recorded.
    #[must_use]
    pub fn selecting(mut self, selection: &Selection) -> Self {
        selection.hash().clone_into(&mut self.selection);
        self
    }

    /// What was known when the history was opened, for whoever plans the run; the
    /// history itself needs it no more.
    #[must_use]
    pub fn take_memory(&mut self) -> Memory {
        std::mem::take(&mut self.memory)
    }

    fn append(&mut self, record: &Record) {
        if let Some(journal) = &mut self.journal
            && let Err(e) = journal.append(record)
        {
            self.trouble
                .get_or_insert_with(|| format!("cannot write the history: {e}"));
        }
    }

    fn finished(&mut self, finished: &Finished) {
        let kind = Kind::from(&finished.verdict);
        let secs = finished
            .outcome
            .as_ref()
            .map_or(0.0, |o| o.wall.as_secs_f64());
        let Job { test, combo, .. } = &finished.job;
        if kind == Kind::Pass
            && self.under.is_empty()
            && let Some(elapsed) = &mut self.elapsed
        {
            elapsed.passed(test, combo, secs);
        }
        let record = Record::Done {
            run: self.run.clone(),
            test: test.name.clone(),
            combo: combo_key(combo),
            verdict: kind,
            secs: (secs * 1000.0).round() / 1000.0,
            at: seconds(SystemTime::now()),
            why: match kind {
                Kind::Pass => String::new(),
                _ => words::short(finished),
            },
            under: self.under.to_owned(),
        };
        self.append(&record);
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl Reporter for History {
    fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted {
                jobs,
                combos,
                tests,
                at,
                ..
            } => {
                let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
                self.run = format!("{}-{}", since.as_millis(), std::process::id());
                let record = Record::Run {
                    run: self.run.clone(),
                    at: since.as_secs(),
                    jobs: *jobs,
                    combos: combos.iter().map(|c| combo_key(c)).collect(),
                    tests: tests.clone(),
                    selection: self.selection.clone(),
                };
                self.append(&record);
            }
            Event::Finished(finished) => self.finished(finished),
            Event::RunFinished {
                not_reached,
                interrupted,
                wall,
            } => {
                let key = |job: &Job| (job.test.name.clone(), combo_key(&job.combo));
                let record = Record::End {
                    run: self.run.clone(),
                    wall: wall.as_secs_f64(),
                    interrupted: *interrupted,
                    not_reached: not_reached.iter().map(key).collect(),
                };
                self.append(&record);
                if let Some(elapsed) = &mut self.elapsed
                    && let Err(e) = elapsed.save()
                {
                    let said = format!("cannot save the times of passed tests: {e}");
                    self.trouble.get_or_insert(said);
                }
            }
            Event::Started { .. }
            | Event::Slow { .. }
            | Event::WaitsForGdb { .. }
            | Event::Debugging { .. }
            | Event::Output { .. }
            | Event::StatusAsked { .. }
            | Event::Interrupting { .. } => {}
        }
    }

    fn finish(&mut self) -> Vec<String> {
        self.trouble.take().into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Failure, Verdict};
    use crate::report::sample;

    fn done(name: &str, verdict: Verdict) -> Event {
        let job = sample::job(0, name, "qcow2");
        Event::Finished(Box::new(sample::finished(job, verdict)))
    }

    fn ended(not_reached: Vec<Job>) -> Event {
        Event::RunFinished {
            interrupted: !not_reached.is_empty(),
            not_reached,
            wall: Duration::from_secs(3),
        }
    }

    fn run(dir: &Path, events: &[Event]) {
        let mut history = History::open(dir).unwrap();
        for event in events {
            history.event(event);
        }
        assert_eq!(history.finish(), Vec::<String>::new());
    }

    fn memory(dir: &Path) -> Memory {
        History::open(dir).unwrap().take_memory()
    }

    fn names(list: &[(String, Combo)]) -> Vec<&str> {
        list.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn the_last_run_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let fail = || Verdict::Fail(vec![Failure::Output]);
        run(
            dir.path(),
            &[
                sample::run_started(&["001", "002", "003", "004"], 0),
                done("002", fail()),
                done("001", Verdict::Pass),
                done("003", Verdict::Interrupted),
                done(
                    "005",
                    Verdict::Fail(vec![Failure::ExitStatus(1), Failure::Output]),
                ),
                ended(vec![sample::job(3, "004", "qcow2")]),
            ],
        );
        let history = memory(dir.path());
        let combo = sample::combo("qcow2");
        assert_eq!(
            history.last(&sample::test("001"), &combo),
            Some(Past {
                last_passed_secs: Some(1.5),
                last_verdict: Some(Kind::Pass)
            })
        );
        assert_eq!(names(&history.failed_last()), ["002", "005"]);
        assert_eq!(names(&history.not_reached_last()), ["003", "004"]);
        let jobs = |names: &[&str]| -> Vec<Job> {
            let jobs = names.iter().map(|name| sample::job(0, name, "qcow2"));
            jobs.collect()
        };
        let all = Selection::of(&jobs(&["001", "002", "003", "004"]));
        let previous = history.previous(&all);
        assert_eq!(previous.get("001", &combo), Some((Kind::Pass, 1.5)));
        assert_eq!(previous.at, Some(sample::at(0)));
        assert_eq!(
            history.last(&sample::test("001"), &sample::combo("raw")),
            None
        );

        run(
            dir.path(),
            &[
                sample::run_started(&["002"], 9),
                done("002", Verdict::Pass),
                ended(vec![]),
            ],
        );
        let history = memory(dir.path());
        assert!(history.failed_last().is_empty());
        assert!(history.not_reached_last().is_empty());
        // A run of other tests in between is no reason to forget this one.
        let previous = history.previous(&all);
        assert_eq!(previous.get("002", &combo), Some((Kind::Fail, 1.5)));
        assert_eq!(previous.latest("002", &combo), Some((Kind::Pass, 1.5)));
        assert_eq!(previous.at, Some(sample::at(0)));
        assert_eq!(
            previous.tests().collect::<Vec<_>>(),
            ["001", "002", "003", "004"]
        );
        let one = history.previous(&Selection::of(&jobs(&["002"])));
        assert_eq!(one.at, Some(sample::at(9)));
        let others = history.previous(&Selection::of(&jobs(&["001", "003"])));
        assert_eq!((others.at, others.get("001", &combo)), (None, None));
        let past = history.last(&sample::test("001"), &combo).unwrap();
        assert_eq!(past.last_passed_secs, Some(1.5));
    }

    #[test]
    fn a_killed_run_did_not_reach_what_it_had_not_finished() {
        let dir = tempfile::tempdir().unwrap();
        run(
            dir.path(),
            &[
                sample::run_started(&["001", "002"], 0),
                done("001", Verdict::Pass),
            ],
        );
        let history = memory(dir.path());
        assert_eq!(names(&history.not_reached_last()), ["002"]);
    }

    /// Running one of three failed tests once made the other two forgotten.
    #[test]
    fn what_failed_is_kept_until_it_has_passed_under_the_same_combination() {
        let dir = tempfile::tempdir().unwrap();
        let fail = || Verdict::Fail(vec![Failure::Output]);
        let ran = |at: u64, verdicts: &[(&str, &str, Verdict)]| {
            let mut events = vec![sample::run_started(&[], at)];
            for (name, format, verdict) in verdicts {
                let job = sample::job(0, name, format);
                let finished = sample::finished(job, verdict.clone());
                events.push(Event::Finished(Box::new(finished)));
            }
            run(dir.path(), &events);
            let failing = memory(dir.path()).failing();
            let shown = failing
                .iter()
                .map(|(name, c)| format!("{name} {}", c.format));
            shown.collect::<Vec<_>>().join(", ")
        };
        let all = [
            ("001", "qcow2", fail()),
            ("002", "qcow2", fail()),
            (
                "003",
                "qcow2",
                Verdict::Flaky {
                    passed: 1,
                    tries: 2,
                },
            ),
        ];
        assert_eq!(ran(0, &all), "001 qcow2, 002 qcow2, 003 qcow2");
        assert_eq!(
            ran(1, &[("002", "qcow2", Verdict::Pass)]),
            "001 qcow2, 003 qcow2"
        );
        let other = [
            ("001", "raw", Verdict::Pass),
            ("003", "qcow2", Verdict::NotRun("x".into())),
            ("001", "qcow2", Verdict::Interrupted),
        ];
        assert_eq!(ran(2, &other), "001 qcow2, 003 qcow2");
        let repeated = [("001", "qcow2", fail()), ("001", "qcow2", Verdict::Pass)];
        assert_eq!(ran(3, &repeated), "001 qcow2, 003 qcow2");
        let repeated = [
            ("001", "qcow2", Verdict::Pass),
            ("003", "qcow2", Verdict::Pass),
        ];
        assert_eq!(ran(4, &repeated), "");
    }

    #[test]
    fn runs_at_the_same_time_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for n in 0..4 {
                let dir = dir.path();
                scope.spawn(move || {
                    let mut history = History::open(dir).unwrap();
                    history.event(&sample::run_started(&[], n));
                    for t in 0..100 {
                        history.event(&done(&format!("{n}{t:02}"), Verdict::Pass));
                    }
                });
            }
        });
        let history = memory(dir.path());
        assert_eq!(history.past.len(), 400);
    }

    #[test]
    fn the_old_runners_times_fill_in() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        std::fs::write(&cache, r#"{"/src/001": {"file": {"qcow2": 4.0}}}"#).unwrap();
        let mut history = History::open(dir.path())
            .unwrap()
            .with_elapsed_cache(&cache);
        let (test, combo) = (sample::test("001"), sample::combo("qcow2"));
        let past = history.take_memory().last(&test, &combo).unwrap();
        assert_eq!(
            (past.last_passed_secs, past.last_verdict),
            (Some(4.0), None)
        );
        history.event(&sample::run_started(&["001"], 0));
        history.event(&done("001", Verdict::Pass));
        history.event(&ended(vec![]));
        let text = std::fs::read_to_string(&cache).unwrap();
        assert_eq!(text, r#"{"/src/001":{"file":{"qcow2":1.5}}}"#);
    }

    /// The first plain run after one under valgrind once expected valgrind's times.
    #[test]
    fn times_under_valgrind_are_times_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let open = || History::open(dir.path()).unwrap();
        let mut history = open().under("valgrind").with_elapsed_cache(&cache);
        history.event(&sample::run_started(&["001", "002"], 0));
        history.event(&done("001", Verdict::Pass));
        history.event(&done("002", Verdict::Fail(vec![Failure::Output])));
        history.event(&ended(vec![]));
        assert!(!cache.exists());
        let past = open()
            .take_memory()
            .last(&sample::test("001"), &sample::combo("qcow2"));
        let expected = Past {
            last_passed_secs: None,
            last_verdict: Some(Kind::Pass),
        };
        assert_eq!(past, Some(expected));
        assert_eq!(names(&open().take_memory().failed_last()), ["002"]);
    }

    #[test]
    fn combinations_survive_being_written() {
        let mut combo = sample::combo("luks");
        combo.options = "iter-time=10,key=a/b".into();
        assert_eq!(parse_combo(&combo_key(&combo)), Some(combo.clone()));
        combo.qemu = "/opt/qemu-7.2".into();
        assert_eq!(parse_combo(&combo_key(&combo)), Some(combo));
        assert_eq!(parse_combo("qcow2/file"), None);
    }
}
