//! The counts of a run, and the summary at its end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::combos::ComboNames;
use super::matrix::Table;
use super::styles::{FAIL, NOT_RUN, PASS};
use crate::diff::Paint;
use crate::golden::NO_REFERENCE;
use crate::model::{Event, Finished, Job, JobId, Kind, Verdict};
use crate::words;

/// Names, each with how often it came.
type Names = BTreeMap<String, usize>;

/// The counts and lists of a run that reports show.
#[derive(Debug, Default)]
pub(super) struct Tally {
    jobs: usize,
    counts: BTreeMap<Kind, usize>,
    started: Option<SystemTime>,
    running: BTreeMap<JobId, (String, SystemTime)>,
    combos: ComboNames,
    not_run: Names,
    /// How many jobs were not run, and how many tests these are of, by reason; of several
    /// combinations only.
    reasons: BTreeMap<String, (usize, BTreeSet<String>)>,
    no_reference: Names,
    cases: Names,
    flaky: Names,
    known_failures: Names,
    failures: Names,
    table: Table,
}

impl Tally {
    /// Counts an event.
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted {
                jobs,
                combos,
                tests,
                at,
                ..
            } => {
                self.jobs = *jobs;
                self.started = Some(*at);
                self.combos = ComboNames::new(combos);
                if self.combos.several() {
                    self.table = Table::new(tests, self.combos.all());
                }
            }
            Event::Started { job, at, .. } => {
                self.running.insert(job.id, (self.title(job), *at));
            }
            Event::Finished(finished) => self.finished(finished),
            _ => {}
        }
    }

    fn finished(&mut self, finished: &Finished) {
        let job = &finished.job;
        self.running.remove(&job.id);
        let kind = Kind::from(&finished.verdict);
        *self.counts.entry(kind).or_default() += 1;
        self.table
            .set(&job.test.name, &self.combos.name(&job.combo), kind);
        let title = self.title(job);
        let add = |names: &mut Names| *names.entry(title.clone()).or_default() += 1;
        if !finished.cases_not_run.is_empty() {
            add(&mut self.cases);
        }
        match &finished.verdict {
            Verdict::Pass => {}
            Verdict::Fail(_) => add(&mut self.failures),
            Verdict::Flaky { .. } => add(&mut self.flaky),
            Verdict::KnownFail(_) => add(&mut self.known_failures),
            Verdict::Interrupted => add(&mut self.not_run),
            Verdict::NotRun(reason) => {
                add(&mut self.not_run);
                if self.combos.several() {
                    let (jobs, tests) = self.reasons.entry(words::one_line(reason)).or_default();
                    *jobs += 1;
                    tests.insert(job.test.name.clone());
                }
                if reason.starts_with(NO_REFERENCE) {
                    add(&mut self.no_reference);
                }
            }
        }
    }

    /// A job's test, with its combination where there are several.
    pub(super) fn title(&self, job: &Job) -> String {
        if self.combos.several() {
            format!("{} ({})", job.test.name, self.combos.name(&job.combo))
        } else {
            job.test.name.clone()
        }
    }

    /// The combinations of the run.
    pub(super) fn combos(&self) -> &ComboNames {
        &self.combos
    }

    /// How many jobs ended so.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    /// How many jobs have ended.
    pub(super) fn done(&self) -> usize {
        self.counts.values().sum()
    }

    /// How many jobs are running.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// How many jobs there are.
    pub(super) fn jobs(&self) -> usize {
        self.jobs
    }

    /// How long the run has been going on.
    pub(super) fn elapsed(&self) -> Duration {
        self.started
            .and_then(|at| at.elapsed().ok())
            .unwrap_or_default()
    }

    /// `10 passed, 1 failed, 2 not run`; kinds that did not occur are left out,
    /// but for passes.
    pub(super) fn counts_text(&self) -> String {
        let mut text = format!("{} passed", self.count(Kind::Pass));
        for (kind, word) in [
            (Kind::Fail, "failed"),
            (Kind::Flaky, "flaky"),
            (Kind::KnownFail, "known to fail"),
            (Kind::NotRun, "not run"),
            (Kind::Interrupted, "interrupted"),
        ] {
            if self.count(kind) > 0 {
                let _ = write!(text, ", {} {word}", self.count(kind));
            }
        }
        text
    }

    /// The status in one line: for SIGUSR1.
    pub(super) fn status(&self, now: SystemTime) -> String {
        let running: Vec<String> = self
            .running
            .values()
            .map(|(title, at)| {
                let since = now.duration_since(*at).unwrap_or_default();
                format!("{title} ({})", words::clock_span(since))
            })
            .collect();
        let mut text = format!(
            "Status: {} of {} done ({}) after {}",
            self.done(),
            self.jobs,
            self.counts_text(),
            words::clock_span(
                self.started
                    .and_then(|at| now.duration_since(at).ok())
                    .unwrap_or_default()
            ),
        );
        if !running.is_empty() {
            let _ = write!(text, "; running: {}", running.join(", "));
        }
        text
    }

    /// The end of a run: the table where there are several combinations, the lists,
    /// and the last line.
    pub(super) fn summary(
        &self,
        not_reached: &[Job],
        interrupted: bool,
        wall: Duration,
        paint: Paint,
    ) -> String {
        let mut out = String::new();
        if self.combos.several() {
            let table = self.table.text(paint);
            if let Some(options) = self.combos.options().filter(|_| !table.is_empty()) {
                let _ = writeln!(out, "\nImages created with {options}");
            }
            out.push_str(&table);
        }
        let mut late = Names::new();
        for job in not_reached {
            *late.entry(self.title(job)).or_default() += 1;
        }
        // A matrix has hundreds of them.
        let few = Names::new();
        let not_run = if self.combos.several() {
            out.push_str(&self.reasons_text());
            &few
        } else {
            &self.not_run
        };
        for (title, names) in [
            ("Not run", not_run),
            ("Skipped cases in", &self.cases),
            ("No reference (--bless writes one)", &self.no_reference),
            ("Flaky", &self.flaky),
            ("Known failures", &self.known_failures),
            ("Not started", &late),
            ("Failures", &self.failures),
        ] {
            if names.is_empty() {
                continue;
            }
            let is_matrix = self.combos.several() && std::ptr::eq(names, &self.failures);
            let _ = match is_matrix {
                true => writeln!(out, "{title}:\n  {}", lines(names, "\n  ")),
                false => writeln!(out, "{title}: {}", lines(names, " ")),
            };
        }
        let sentence = self.sentence(interrupted, !not_reached.is_empty());
        let style = match (self.count(Kind::Fail), sentence.starts_with("Passed all")) {
            (0, true) => PASS,
            (0, false) => NOT_RUN,
            _ => FAIL,
        };
        out.push_str(&paint.apply(style, &sentence));
        out.push('\n');
        if paint == Paint::Ansi {
            let _ = writeln!(out, "{} in {}", self.counts_text(), words::clock_span(wall));
        }
        out
    }

    /// What was not run in a matrix: a line for each reason, the most frequent first.
    fn reasons_text(&self) -> String {
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by_key(|(_, (jobs, _))| Reverse(*jobs));
        let mut out = String::new();
        if !reasons.is_empty() {
            out.push_str("Not run:\n");
        }
        for (reason, (jobs, tests)) in reasons {
            let which = match tests.len() {
                0..=3 => tests.iter().cloned().collect::<Vec<_>>().join(" "),
                many => words::count(many, "test"),
            };
            let _ = writeln!(out, "  {jobs:5}  {reason} ({which})");
        }
        out
    }

    /// `interrupted` by the user; `incomplete` for whatever reason.
    fn sentence(&self, interrupted: bool, incomplete: bool) -> String {
        let (passed, failed) = (self.count(Kind::Pass), self.count(Kind::Fail));
        let flaky = self.count(Kind::Flaky);
        let known = self.count(Kind::KnownFail);
        let ran = passed + failed + flaky + known;
        if failed > 0 && interrupted {
            format!(
                "Interrupted: passed {passed}, failed {failed} of {} iotests",
                self.jobs
            )
        } else if failed > 0 {
            format!("Failed {failed} of {ran} iotests")
        } else if interrupted || incomplete {
            format!("Interrupted: passed {passed} of {} iotests", self.jobs)
        } else if ran == 0 {
            "No iotests were run".to_owned()
        } else if flaky > 0 || known > 0 {
            let counts = [(flaky, "flaky"), (known, "known to fail")];
            let counts = counts.iter().filter(|(count, _)| *count > 0);
            let counts: String = counts.map(|(n, word)| format!(", {n} {word}")).collect();
            format!("Passed {passed} of {ran} iotests{counts}")
        } else {
            format!("Passed all {ran} iotests")
        }
    }
}

fn lines(names: &Names, between: &str) -> String {
    let one = |(name, times): (&String, &usize)| match times {
        1 => name.clone(),
        n => format!("{name} ({n} times)"),
    };
    names.iter().map(one).collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Combo, Failure};
    use crate::report::sample;

    fn tally(formats: &[&str], results: &[(&str, &str, Verdict)]) -> Tally {
        let mut tests: Vec<String> = results.iter().map(|r| r.0.to_owned()).collect();
        tests.dedup();
        let mut tally = Tally::default();
        tally.event(&Event::RunStarted {
            header: Vec::new(),
            jobs: results.len(),
            combos: formats.iter().map(|f| Arc::new(sample::combo(f))).collect(),
            tests,
            shuffle: None,
            at: sample::at(0),
        });
        for (name, format, verdict) in results {
            let finished = sample::finished(sample::job(0, name, format), verdict.clone());
            tally.event(&Event::Finished(Box::new(finished)));
        }
        tally
    }

    fn fail() -> Verdict {
        Verdict::Fail(vec![Failure::Output])
    }

    fn end(tally: &Tally, interrupted: bool, not_reached: &[Job]) -> String {
        tally.summary(not_reached, interrupted, Duration::ZERO, Paint::Plain)
    }

    #[test]
    fn the_summary_is_the_old_runners() {
        let skip = Verdict::NotRun("no KVM".into());
        let t = tally(
            &["qcow2"],
            &[
                ("003", "qcow2", fail()),
                ("001", "qcow2", Verdict::Pass),
                ("002", "qcow2", skip),
            ],
        );
        assert_eq!(
            end(&t, false, &[]),
            "Not run: 002\nFailures: 003\nFailed 1 of 2 iotests\n"
        );
        let t = tally(&["qcow2"], &[("001", "qcow2", Verdict::Pass)]);
        assert_eq!(end(&t, false, &[]), "Passed all 1 iotests\n");
    }

    #[test]
    fn nothing_is_called_passed_that_is_not() {
        let t = tally(&["qcow2"], &[("001", "qcow2", Verdict::Interrupted)]);
        let late = [sample::job(1, "002", "qcow2")];
        assert_eq!(
            end(&t, true, &late),
            "Not run: 001\nNot started: 002\nInterrupted: passed 0 of 1 iotests\n"
        );
        let missing = Verdict::NotRun("no reference (expected 001.out)".into());
        let t = tally(&["qcow2"], &[("001", "qcow2", missing)]);
        assert_eq!(
            end(&t, false, &[]),
            "Not run: 001\nNo reference (--bless writes one): 001\nNo iotests were run\n"
        );
        let flaky = Verdict::Flaky {
            passed: 1,
            tries: 2,
        };
        let t = tally(
            &["qcow2"],
            &[("001", "qcow2", Verdict::Pass), ("002", "qcow2", flaky)],
        );
        assert_eq!(
            end(&t, false, &[]),
            "Flaky: 002\nPassed 1 of 2 iotests, 1 flaky\n"
        );
    }

    #[test]
    fn repetitions_are_counted() {
        let t = tally(
            &["qcow2"],
            &[
                ("001", "qcow2", fail()),
                ("001", "qcow2", Verdict::Pass),
                ("001", "qcow2", fail()),
            ],
        );
        assert_eq!(
            end(&t, false, &[]),
            "Failures: 001 (2 times)\nFailed 2 of 3 iotests\n"
        );
    }

    #[test]
    fn several_combinations_make_a_table() {
        let t = tally(
            &["qcow2", "raw"],
            &[
                ("001", "qcow2", Verdict::Pass),
                ("001", "raw", fail()),
                ("002", "qcow2", Verdict::NotRun("x".into())),
            ],
        );
        assert_eq!(
            end(&t, false, &[]),
            "\n     qcow2-file  raw-file\n001  pass        fail\n002  not run     -\n\n\
             Not run:\n      1  x (002)\nFailures:\n  001 (raw-file)\nFailed 1 of 2 iotests\n"
        );
    }

    #[test]
    fn what_has_not_ended_has_no_place_in_the_table() {
        let mut t = tally(
            &["qcow2", "raw", "vdi"],
            &[
                ("001", "vdi", Verdict::Pass),
                ("001", "qcow2", Verdict::Interrupted),
            ],
        );
        let late = [sample::job(2, "002", "raw")];
        assert_eq!(
            end(&t, true, &late),
            "\n     qcow2-file   vdi-file\n001  interrupted  pass\n\n\
             Not started: 002 (raw-file)\nInterrupted: passed 1 of 2 iotests\n"
        );
        t = tally(&["qcow2", "raw"], &[]);
        let text = end(&t, true, &late);
        assert!(text.starts_with("Not started: 002 (raw-file)\n"), "{text}");
    }

    #[test]
    fn options_are_told_once_above_the_table() {
        let mut t = Tally::default();
        let luks = Combo {
            options: "iter-time=10".into(),
            ..sample::combo("luks")
        };
        let combos = vec![Arc::new(sample::combo("raw")), Arc::new(luks)];
        t.event(&Event::RunStarted {
            header: Vec::new(),
            jobs: 2,
            combos: combos.clone(),
            tests: vec!["001".into()],
            shuffle: None,
            at: sample::at(0),
        });
        for combo in combos {
            let job = Job {
                combo,
                ..sample::job(0, "001", "raw")
            };
            t.event(&Event::Finished(Box::new(sample::finished(job, fail()))));
        }
        assert_eq!(
            end(&t, false, &[]),
            "\nImages created with luks: iter-time=10\n\n     raw-file  luks-file\n\
             001  fail      fail\n\nFailures:\n  001 (luks-file)\n  001 (raw-file)\n\
             Failed 2 of 2 iotests\n"
        );
    }

    #[test]
    fn the_status_names_what_is_running() {
        let mut t = tally(&["qcow2"], &[("001", "qcow2", Verdict::Pass)]);
        t.event(&Event::Started {
            job: sample::job(7, "030", "qcow2"),
            last: None,
            at: sample::at(60),
        });
        assert_eq!(
            t.status(sample::at(65)),
            "Status: 1 of 1 done (1 passed) after 1:05; running: 030 (0:05)"
        );
    }
}
