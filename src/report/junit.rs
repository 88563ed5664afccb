//! A JUnit file, rewritten in one piece while the run goes on, so that it is valid
//! at any time. One suite for each combination.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use quick_junit::{
    NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestRerun, TestSuite,
};

use super::Sink;
use super::console::failure;
use super::live_file::{Document, LiveFile};
use super::rendered::Rendered;
use crate::diff::Paint;
use crate::model::{Combo, Event, Job, Verdict};
use crate::words;

/// The report so far.
struct Suites {
    report: Report,
    /// What every suite says of the run: the lines of the header.
    properties: Vec<Property>,
}

impl Document for Suites {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.report.serialize(out).map_err(io::Error::other)
    }
}

impl Suites {
    /// Adds a case to the suite of its combination, and to the counts.
    fn add(&mut self, combo: &Combo, case: TestCase) {
        let name = words::combo(combo);
        let report = &mut self.report;
        report.tests += 1;
        match &case.status {
            TestCaseStatus::Success { .. } => {}
            TestCaseStatus::NonSuccess { .. } => report.failures += 1,
            TestCaseStatus::Skipped { .. } => report.skipped += 1,
        }
        let suites = &mut report.test_suites;
        if let Some(suite) = suites.iter_mut().find(|s| s.name.as_str() == name) {
            suite.add_test_case(case);
        } else {
            let mut suite = TestSuite::new(name);
            suite.properties.clone_from(&self.properties);
            suite.add_test_case(case);
            suites.push(suite);
        }
    }
}

/// The JUnit reporter.
pub(super) struct Junit {
    file: LiveFile<Suites>,
    /// What passed or was not run has no output.
    failures_only: bool,
}

impl Junit {
    /// Makes the file, with no results yet. With `failures_only` what tests printed is in it
    /// for failures and flaky tests alone.
    pub(super) fn create(path: &Path, failures_only: bool) -> anyhow::Result<Self> {
        let empty = Suites {
            report: Report::new("iotests"),
            properties: Vec::new(),
        };
        let file = LiveFile::create(path, empty)
            .with_context(|| format!("cannot write the JUnit file {}", path.display()))?;
        Ok(Self {
            file,
            failures_only,
        })
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

/// `text` with its tabs as blanks: the writer of JUnit files drops tabs together
/// with the characters that XML cannot hold.
fn blanks(text: &str) -> String {
    text.replace('\t', "    ")
}

fn result(rendered: &Rendered<'_>, failures_only: bool) -> TestCase {
    let finished = rendered.finished;
    let said = rendered.description.as_str();
    let status = match &finished.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Fail(failures) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let kinds: Vec<&str> = failures.iter().map(words::failure_kind).collect();
            status
                .set_type(kinds.join(" "))
                .set_message(said)
                .set_description(blanks(&failure(rendered, Paint::Plain)));
            status
        }
        Verdict::NotRun(_) => skipped("not run", said),
        Verdict::KnownFail(_) => skipped("known failure", said),
        Verdict::Interrupted => skipped("interrupted", said),
        Verdict::Flaky { .. } => {
            let mut first = TestRerun::new(NonSuccessKind::Failure);
            first
                .set_type("flaky")
                .set_message(said)
                .set_description(blanks(&failure(rendered, Paint::Plain)));
            let mut status = TestCaseStatus::success();
            status.add_rerun(first);
            status
        }
    };
    let mut case = case(&finished.job, status);
    if let Some(outcome) = &finished.outcome {
        case.set_time(outcome.wall);
    }
    let bad = matches!(finished.verdict, Verdict::Fail(_) | Verdict::Flaky { .. });
    if failures_only && !bad {
        return case;
    }
    let output = rendered.logs.iter().find(|log| log.title == "output");
    let mut text = output.map(|log| blanks(&log.text)).unwrap_or_default();
    if finished.verdict == Verdict::Pass && !said.is_empty() {
        text.push_str(said);
        text.push('\n');
    }
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
    fn event(&mut self, event: &Event, rendered: Option<&Rendered<'_>>) {
        match event {
            Event::RunStarted { header, .. } => {
                let properties = header.iter();
                let properties = properties.map(|(name, value)| Property::new(&**name, &**value));
                let properties = properties.collect();
                self.file.change(|suites| suites.properties = properties);
            }
            Event::Finished(finished) => {
                if let Some(rendered) = rendered {
                    let case = result(rendered, self.failures_only);
                    self.file.change(|s| s.add(&finished.job.combo, case));
                }
            }
            Event::RunFinished {
                not_reached, wall, ..
            } => {
                self.file.change(|suites| {
                    for job in not_reached {
                        let status = skipped("not started", "the run ended before it started");
                        suites.add(&job.combo, case(job, status));
                    }
                    suites.report.set_time(*wall);
                });
                self.file.close();
            }
            _ => {}
        }
    }

    fn finish(&mut self) -> Vec<String> {
        self.file.trouble("JUnit file").into_iter().collect()
    }
}
