//! A JUnit file, rewritten in one piece while the run goes on, so that it is valid
//! at any time. One suite for each combination.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestRerun, TestSuite};

use crate::diff::Paint;
use crate::model::{Combo, Event, Job, Verdict};

use super::Sink;
use super::console::failure;
use super::shown::Shown;
use super::words;

/// When a file that is rewritten as a whole is next due: at most every second, and
/// at most a twentieth of the time is spent on it.
#[derive(Debug)]
pub(super) struct Pace {
    due: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            due: Instant::now(),
        }
    }

    /// Writes where it is due, or `now`.
    pub(super) fn write(
        &mut self,
        now: bool,
        write: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let start = Instant::now();
        if !now && start < self.due {
            return Ok(());
        }
        let result = write();
        let end = Instant::now();
        self.due = end + (20 * (end - start)).max(Duration::from_secs(1));
        result
    }
}

/// The JUnit reporter.
pub(super) struct Junit {
    path: PathBuf,
    report: Report,
    pace: Pace,
    trouble: Option<io::Error>,
}

impl Junit {
    /// Makes the file, with no results yet.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let mut junit = Self {
            path: path.to_owned(),
            report: Report::new("iotests"),
            pace: Pace::new(),
            trouble: None,
        };
        junit
            .save(true)
            .with_context(|| format!("cannot write the JUnit file {}", path.display()))?;
        Ok(junit)
    }

    fn save(&mut self, now: bool) -> io::Result<()> {
        let (path, report) = (&self.path, &self.report);
        self.pace.write(now, || {
            crate::whole_file::write_whole(path, |out| {
                report.serialize(out).map_err(io::Error::other)
            })
        })
    }

    fn add(&mut self, combo: &Combo, case: TestCase) {
        let name = words::combo(combo);
        let suites = &mut self.report.test_suites;
        if !suites.iter().any(|s| s.name.as_str() == name) {
            self.report.add_test_suite(TestSuite::new(name.clone()));
        }
        let tests = &mut self.report.tests;
        let suites = &mut self.report.test_suites;
        if let Some(suite) = suites.iter_mut().find(|s| s.name.as_str() == name) {
            *tests += 1;
            match &case.status {
                TestCaseStatus::Success { .. } => {}
                TestCaseStatus::NonSuccess { .. } => self.report.failures += 1,
                TestCaseStatus::Skipped { .. } => self.report.skipped += 1,
            }
            suite.add_test_case(case);
        }
    }
}

fn case(job: &Job, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(words::name(job), status);
    case.set_classname(format!("iotests.{}", job.combo.format));
    case
}

fn skipped(kind: &str, why: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_type(kind).set_message(why);
    status
}

fn result(shown: &Shown<'_>) -> TestCase {
    let finished = shown.finished;
    let said = shown.description.as_str();
    let status = match &finished.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Fail(failures) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let kinds: Vec<&str> = failures.iter().map(words::failure_kind).collect();
            status
                .set_type(kinds.join(" "))
                .set_message(said)
                .set_description(failure(shown, Paint::Plain));
            status
        }
        Verdict::NotRun(_) => skipped("not run", said),
        Verdict::Interrupted => skipped("interrupted", said),
        Verdict::Flaky { .. } => {
            let mut first = TestRerun::new(NonSuccessKind::Failure);
            first
                .set_type("flaky")
                .set_message(said)
                .set_description(failure(shown, Paint::Plain));
            let mut status = TestCaseStatus::success();
            status.add_rerun(first);
            status
        }
    };
    let mut case = case(&finished.job, status);
    if let Some(outcome) = &finished.outcome {
        case.set_time(outcome.wall);
    }
    let output = shown.logs.iter().find(|log| log.title == "output");
    let mut text = output.map(|log| log.text.clone()).unwrap_or_default();
    for line in finished.cases_not_run.iter().chain(&finished.notes) {
        text.push_str(&words::one_line(line));
        text.push('\n');
    }
    if !text.is_empty() {
        case.set_system_out(text);
    }
    case
}

impl Sink for Junit {
    fn event(&mut self, event: &Event, shown: Option<&Shown<'_>>) {
        let mut last = false;
        match event {
            Event::Finished(finished) => {
                if let Some(shown) = shown {
                    self.add(&finished.job.combo, result(shown));
                }
            }
            Event::RunFinished {
                not_reached, wall, ..
            } => {
                for job in not_reached {
                    let status = skipped("not reached", "the run ended before it");
                    self.add(&job.combo, case(job, status));
                }
                self.report.set_time(*wall);
                last = true;
            }
            _ => return,
        }
        if let Err(e) = self.save(last) {
            self.trouble.get_or_insert(e);
        }
    }

    fn finish(&mut self) -> Vec<String> {
        let trouble = self.trouble.take();
        let path = self.path.display();
        let said = trouble.map(|e| format!("cannot write the JUnit file {path}: {e}"));
        said.into_iter().collect()
    }
}
