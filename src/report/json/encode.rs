//! From events to lines.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::super::rendered::{Log, Rendered};
use super::super::summary::Tally;
use super::super::{RunInfo, html};
use super::VERSION;
use super::wire::{self, At, Line, Secs};
use crate::diff::{Bounds, Diff, Hunk, Paint, Side, Span, shown_of_runs};
use crate::history::Previous;
use crate::model::{
    Combo, Ended, Event, Exit, Failure, Finished, Job, Kind, Limit, Outcome, Verdict,
};
use crate::words;

/// Makes lines of the events of one run.
pub(in super::super) struct Encoder {
    info: RunInfo,
    previous: Previous,
    tally: Tally,
}

impl Encoder {
    pub(in super::super) fn new(info: RunInfo, previous: Previous) -> Self {
        Self {
            info,
            previous,
            tally: Tally::default(),
        }
    }

    /// The line of the next event, its newline included; `None` for a result that was not
    /// prepared.
    pub(in super::super) fn line(
        &mut self,
        event: &Event,
        rendered: Option<&Rendered<'_>>,
    ) -> io::Result<Option<Vec<u8>>> {
        self.tally.event(event);
        let line = match (event, rendered) {
            (Event::Finished(_), Some(rendered)) => {
                Line::Finished(Box::new(self.finished(rendered)))
            }
            (Event::Finished(_), None) => return Ok(None),
            (event, _) => self.plain(event),
        };
        let mut line = serde_json::to_vec(&line)?;
        line.push(b'\n');
        Ok(Some(line))
    }

    /// An event that is not a result.
    fn plain(&self, event: &Event) -> Line {
        match event {
            Event::RunStarted { .. } => self.run_started(event),
            Event::Started { job: j, last, at } => Line::Started(wire::Started {
                job: job(j),
                last_seconds: *last,
                at: At(*at),
            }),
            Event::Slow {
                job: j,
                running,
                at,
            } => Line::Slow(wire::Slow {
                job: job(j),
                seconds: Secs(*running),
                at: Some(At(*at)),
            }),
            Event::WaitsForGdb {
                job: j,
                program,
                command,
            } => Line::WaitsForGdb(wire::WaitsForGdb {
                job: job(j),
                program: program.clone(),
                command: command.clone(),
            }),
            Event::Debugging { job: j, program } => Line::Debugging(wire::Debugging {
                job: job(j),
                program: program.clone(),
            }),
            Event::StatusAsked { at } => Line::Status(wire::Status {
                done: self.tally.done(),
                jobs: self.tally.jobs(),
                failed: self.tally.count(Kind::Fail),
                at: Some(At(*at)),
            }),
            Event::Interrupting { running } => Line::Interrupting { running: *running },
            Event::RunFinished {
                not_reached,
                interrupted,
                wall,
            } => Line::RunFinished(wire::RunFinished {
                interrupted: *interrupted,
                seconds: Secs(*wall),
                not_reached: not_reached.iter().map(job).collect(),
                counts: wire::Counts {
                    pass: self.tally.count(Kind::Pass),
                    fail: self.tally.count(Kind::Fail),
                    not_run: self.tally.count(Kind::NotRun),
                    flaky: self.tally.count(Kind::Flaky),
                    interrupted: self.tally.count(Kind::Interrupted),
                    known_fail: self.tally.count(Kind::KnownFail),
                },
            }),
            Event::Output { job: j, bytes } => Line::Output(wire::Output {
                job: job(j),
                bytes: piece(bytes, false),
            }),
            Event::Finished(_) => Line::Unknown,
        }
    }

    fn run_started(&self, event: &Event) -> Line {
        let Event::RunStarted {
            header,
            jobs,
            combos,
            tests,
            shuffle,
            at,
        } = event
        else {
            return Line::Unknown;
        };
        let combos: Vec<Combo> = combos.iter().map(|c| (**c).clone()).collect();
        let header = header.iter().map(|(name, value)| wire::HeaderLine {
            name: name.clone(),
            value: value.clone(),
        });
        let shard = self.info.shard.as_ref().map(|shard| wire::Shard {
            index: shard.index,
            of: shard.of,
            jobs: shard.jobs,
            plan: shard.plan.clone(),
        });
        Line::RunStarted(wire::RunStarted {
            version: VERSION,
            at: At(*at),
            jobs: *jobs,
            plan: plan(&self.info.plan, tests, &combos),
            combos,
            tests: tests.clone(),
            shuffle: *shuffle,
            header: header.collect(),
            shard,
            missing_shards: self.info.missing_shards.clone(),
            flaky_passes: self.info.flaky_passes,
            tap_numbers: self.info.tap_numbers,
            previous_at: self.previous.at.map(At),
            previous_tests: self.previous.tests().map(str::to_owned).collect(),
        })
    }

    /// A result.
    fn finished(&self, rendered: &Rendered<'_>) -> wire::Finished {
        let finished = rendered.finished;
        let share = |(passed, of): (u32, u32)| wire::Share { passed, of };
        let (mut failures, mut reason, mut tries) = (None, None, None);
        match &finished.verdict {
            Verdict::Fail(all) => {
                failures = Some(all.iter().map(|f| failure(f, finished)).collect());
            }
            Verdict::NotRun(why) | Verdict::KnownFail(why) => reason = Some(why.clone()),
            Verdict::Flaky { passed, tries: of } => tries = Some(share((*passed, *of))),
            Verdict::Pass | Verdict::Interrupted => {}
        }
        let previous = self
            .previous
            .get(&finished.job.test.name, &finished.job.combo);
        wire::Finished {
            job: job(&finished.job),
            at: Some(At(rendered.at)),
            verdict: Kind::from(&finished.verdict),
            description: rendered.description.clone(),
            failures,
            reason,
            tries,
            retries: finished.retries.map(share),
            cases_not_run: finished.cases_not_run.clone(),
            last_seconds: finished.last,
            previous: previous.map(|(verdict, seconds)| wire::Previous { verdict, seconds }),
            rerun: finished.rerun.clone(),
            notes: finished.notes.clone(),
            reference: finished.reference.as_deref().map(path),
            diff: rendered.diff_text(Paint::Plain),
            hunks: rendered.diff.as_ref().map(hunks),
            not_compared: rendered
                .diff
                .as_ref()
                .map_or(0, |diff| small(diff.not_compared)),
            diff_file: rendered.diff_file.as_deref().map(path),
            logs: rendered.logs.iter().map(log).collect(),
            output_kept: rendered.output_kept,
            outcome: finished.outcome.as_ref().map(outcome),
        }
    }
}

fn job(job: &Job) -> wire::Job {
    let known = job.known.as_ref().map(|known| wire::KnownFailure {
        reason: known.reason.clone(),
        flaky: known.flaky,
    });
    wire::Job {
        job: job.id,
        test: job.test.name.clone(),
        combo: (*job.combo).clone(),
        repetition: job.repetition,
        summary: job.test.summary.clone(),
        groups: job.test.groups.clone(),
        needs: job.test.needs.clone(),
        source: path(&job.test.source),
        known_failure: known,
    }
}

/// The jobs as positions among tests and combinations; empty where one is not among them.
fn plan(jobs: &[Job], tests: &[String], combos: &[Combo]) -> Vec<(usize, usize, u32)> {
    let tests: HashMap<&str, usize> = tests.iter().map(String::as_str).zip(0..).collect();
    let combos: HashMap<&Combo, usize> = combos.iter().zip(0..).collect();
    let place = |job: &Job| {
        let test = tests.get(job.test.name.as_str())?;
        Some((*test, *combos.get(&*job.combo)?, job.repetition))
    };
    let all: Option<Vec<_>> = jobs.iter().map(place).collect();
    all.unwrap_or_default()
}

fn failure(failure: &Failure, finished: &Finished) -> wire::Failure {
    let mut line = wire::Failure {
        kind: words::failure_kind(failure).to_owned(),
        text: words::failure(failure, finished),
        ..wire::Failure::default()
    };
    match failure {
        Failure::TimeOut(after) => line.seconds = Some(Secs(*after)),
        Failure::Limit(Limit::Output(most) | Limit::Scratch(most)) => line.bytes = Some(*most),
        Failure::Signal(signal) => line.signal = Some(*signal),
        Failure::ExitStatus(status) => line.status = Some(*status),
        Failure::NotStarted(why) | Failure::Unexpected(why) => line.reason = Some(why.clone()),
        Failure::Sanitizer | Failure::Output | Failure::LeftBehind => {}
    }
    line
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn paths(all: &[PathBuf]) -> Vec<String> {
    all.iter().map(|p| path(p)).collect()
}

/// A difference as far as any report shows it: of the rest, how many lines it is.
fn hunks(diff: &Diff) -> Vec<wire::Hunk> {
    let mut in_order = 0;
    let runs = shown_of_runs(diff, &Bounds::default());
    let hunk = |(hunk, runs): (&Hunk, Vec<(&[crate::diff::Line], usize)>)| {
        let mut lines = Vec::new();
        for (run, shown) in runs {
            let most = shown.max(html::DIFF_LINES.saturating_sub(in_order));
            let kept = run.len().min(most);
            in_order += run.len();
            lines.extend(run[..kept].iter().map(line));
            if kept < run.len() {
                lines.push(wire::DiffLine {
                    side: side(run[0].side),
                    lines_left_out: small(run.len() - kept),
                    pieces: Vec::new(),
                    bytes_left_out: 0,
                });
            }
        }
        wire::Hunk {
            old: (small(hunk.old.0), small(hunk.old.1)),
            new: (small(hunk.new.0), small(hunk.new.1)),
            lines,
        }
    };
    diff.hunks.iter().zip(runs).map(hunk).collect()
}

/// Numbers of lines and of bytes in an output, which is bounded.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn side(side: Side) -> wire::Side {
    match side {
        Side::Same => wire::Side::Same,
        Side::Removed => wire::Side::Removed,
        Side::Added => wire::Side::Added,
    }
}

fn line(line: &crate::diff::Line) -> wire::DiffLine {
    let mut left = Bounds::default().line_bytes;
    let mut left_out = line.left_out;
    let piece = |span: &Span| {
        let kept = span.bytes.len().min(left);
        left -= kept;
        left_out += span.bytes.len() - kept;
        piece(&span.bytes[..kept], span.changed)
    };
    wire::DiffLine {
        side: side(line.side),
        lines_left_out: 0,
        pieces: line.spans.iter().map(piece).collect(),
        bytes_left_out: small(left_out),
    }
}

fn piece(bytes: &[u8], changed: bool) -> wire::Piece {
    let text = std::str::from_utf8(bytes).ok().map(str::to_owned);
    wire::Piece {
        base64: text.is_none().then(|| BASE64.encode(bytes)),
        text,
        changed,
    }
}

fn log(log: &Log) -> wire::Log {
    wire::Log {
        title: log.title.clone(),
        path: path(&log.path),
        text: log.text.clone(),
        bytes_left_out: log.left_out,
    }
}

fn outcome(outcome: &Outcome) -> wire::Outcome {
    let exit = match &outcome.exit {
        Exit::Status(status) => wire::Exit::Status(*status),
        Exit::Signal(signal) => wire::Exit::Signal(*signal),
        Exit::NotStarted(why) => wire::Exit::NotStarted(why.clone()),
    };
    let ended = outcome.ended.as_ref().map(|ended| match ended {
        Ended::TimeOut(after) => wire::Ended::TimeOut(Secs(*after)),
        Ended::Limit(Limit::Output(most)) => wire::Ended::OutputLimit(*most),
        Ended::Limit(Limit::Scratch(most)) => wire::Ended::ScratchLimit(*most),
        Ended::Interrupted => wire::Ended::Interrupted,
    });
    wire::Outcome {
        exit,
        ended,
        start: At(outcome.start),
        seconds: Secs(outcome.wall),
        cpu_seconds: Secs(outcome.cpu),
        output: path(&outcome.output),
        scratch: path(&outcome.scratch),
        stacks: outcome.stacks.as_deref().map(path),
        sanitizer_logs: paths(&outcome.sanitizer_logs),
        cores: paths(&outcome.cores),
        left_behind: outcome.left_behind.clone(),
        left_mounts: paths(&outcome.left_mounts),
    }
}
