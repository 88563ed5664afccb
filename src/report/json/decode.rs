//! From lines to events.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::super::rendered::{Log, Parts};
use super::super::{RunInfo, Shard};
use super::VERSION;
use super::wire::{self, Line};
use crate::diff::{self, Diff, Hunk, Side, Span};
use crate::model::{
    Combo, Ended, Event, Exit, Failure, Finished, Job, JobId, Kind, KnownFailure, Limit, Outcome,
    Start, Test, Verdict,
};

/// A difference has at most so many lines: 50,000 of each side are compared.
const DIFF_LINES: usize = 200_000;

/// There may be so many pairs of test and combination: tables have a cell for each.
const PAIRS: usize = 10_000_000;

/// What a line says.
#[derive(Debug)]
pub enum Decoded {
    /// A run starts.
    RunStarted {
        /// The event.
        event: Event,
        /// What reports are told besides.
        info: Box<RunInfo>,
        /// When the previous run began, where there was one.
        previous_at: Option<std::time::SystemTime>,
        /// The tests that were selected then.
        previous_tests: Vec<String>,
    },
    /// A job has ended.
    Finished {
        /// The event.
        event: Event,
        /// What was worked out of it.
        parts: Box<Parts>,
        /// Verdict and seconds in the previous run.
        previous: Option<(Kind, f64)>,
    },
    /// Another event.
    Other(Event),
    /// An event that only later programs know.
    Unknown,
}

/// Reads a line.
///
/// # Errors
///
/// It is no event, or one of a newer version; what is wrong, as a fragment.
pub fn decode(line: &[u8]) -> Result<Decoded, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| not_an_event(line, &error))?;
    Ok(match line {
        Line::RunStarted(line) => run_started(line)?,
        Line::Started(line) => Decoded::Other(Event::Started {
            job: job(line.job),
            last: line.last_seconds,
            at: line.at.0,
        }),
        Line::Slow(line) => match line.at {
            Some(at) => Decoded::Other(Event::Slow {
                job: job(line.job),
                running: line.seconds.0,
                at: at.0,
            }),
            None => Decoded::Unknown,
        },
        Line::WaitsForGdb(line) => Decoded::Other(Event::WaitsForGdb {
            job: job(line.job),
            program: line.program,
            command: line.command,
        }),
        Line::Debugging(line) => Decoded::Other(Event::Debugging {
            job: job(line.job),
            program: line.program,
        }),
        Line::Output(line) => Decoded::Other(Event::Output {
            job: job(line.job),
            bytes: bytes(line.bytes.text, line.bytes.base64)?,
        }),
        Line::Status(line) => match line.at {
            Some(at) => Decoded::Other(Event::StatusAsked { at: at.0 }),
            None => Decoded::Unknown,
        },
        Line::Interrupting { running } => Decoded::Other(Event::Interrupting { running }),
        Line::RunFinished(line) => Decoded::Other(Event::RunFinished {
            not_reached: line.not_reached.into_iter().map(job).collect(),
            interrupted: line.interrupted,
            wall: line.seconds.0,
        }),
        Line::Finished(line) => finished(*line)?,
        Line::Unknown => Decoded::Unknown,
    })
}

/// Why a line cannot be read. A newer version is named even where more has changed.
fn not_an_event(line: &[u8], error: &serde_json::Error) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(line).ok();
    let Some(value) = value else {
        return format!("not JSON: {error}");
    };
    match value["version"].as_u64() {
        Some(version) if version > u64::from(VERSION) => newer(version),
        _ if value["event"].is_string() => format!("malformed event: {error}"),
        _ => "not an event of a run (files of --json and --record have them)".to_owned(),
    }
}

fn newer(version: u64) -> String {
    format!(
        "written by a newer check: version {version} of the events, this one reads {VERSION}; \
         use a newer check"
    )
}

fn run_started(line: wire::RunStarted) -> Result<Decoded, String> {
    if line.version > VERSION {
        return Err(newer(line.version.into()));
    }
    if line.tests.len().saturating_mul(line.combos.len()) > PAIRS {
        return Err("malformed event: too many tests and combinations".to_owned());
    }
    let combos: Vec<Arc<Combo>> = line.combos.into_iter().map(Arc::new).collect();
    let tests: Vec<Arc<Test>> = line.tests.iter().map(|n| Arc::new(named(n))).collect();
    let planned = |(id, (test, combo, repetition)): (u32, (usize, usize, u32))| {
        Some(Job {
            id: JobId(id),
            test: Arc::clone(tests.get(test)?),
            combo: Arc::clone(combos.get(combo)?),
            repetition,
            skip: None,
            known: None,
        })
    };
    let plan: Option<Vec<Job>> = (0..).zip(line.plan).map(planned).collect();
    let plan = plan.ok_or("malformed event: the plan names a test or combination that is none")?;
    let shard = line.shard.map(|shard| Shard {
        index: shard.index,
        of: shard.of,
        jobs: shard.jobs,
        plan: shard.plan,
    });
    if shard
        .as_ref()
        .is_some_and(|s| s.index == 0 || s.index > s.of)
    {
        return Err("malformed event: there is no such shard".to_owned());
    }
    Ok(Decoded::RunStarted {
        event: Event::RunStarted {
            header: line.header.into_iter().map(|h| (h.name, h.value)).collect(),
            jobs: line.jobs,
            combos,
            tests: line.tests,
            shuffle: line.shuffle,
            at: line.at.0,
        },
        info: Box::new(RunInfo {
            flaky_passes: line.flaky_passes,
            tap_numbers: line.tap_numbers,
            shard,
            missing_shards: line.missing_shards,
            plan,
        }),
        previous_at: line.previous_at.map(|at| at.0),
        previous_tests: line.previous_tests,
    })
}

/// A test of which only the name is known.
fn named(name: &str) -> Test {
    Test {
        name: name.to_owned(),
        source: PathBuf::new(),
        start: Start::Exec(PathBuf::new()),
        cwd: PathBuf::new(),
        golden_dir: PathBuf::new(),
        groups: Default::default(),
        summary: String::new(),
        needs: Vec::new(),
        timeout: None,
        retries: 0,
    }
}

fn job(line: wire::Job) -> Job {
    let source = PathBuf::from(line.source);
    let test = Test {
        start: Start::Exec(source.clone()),
        source,
        groups: line.groups,
        summary: line.summary,
        needs: line.needs,
        ..named(&line.test)
    };
    Job {
        id: line.job,
        test: Arc::new(test),
        combo: Arc::new(line.combo),
        repetition: line.repetition,
        skip: None,
        known: line.known_failure.map(|known| KnownFailure {
            reason: known.reason,
            flaky: known.flaky,
        }),
    }
}

fn finished(line: wire::Finished) -> Result<Decoded, String> {
    let verdict = verdict(line.verdict, line.failures, line.reason, line.tries)?;
    let diff = match line.hunks {
        Some(hunks) => Some(Diff {
            hunks: read_hunks(hunks)?,
            not_compared: line.not_compared as usize,
        }),
        None => None,
    };
    let logs = line.logs.into_iter().map(|log| Log {
        title: log.title,
        path: log.path.into(),
        text: log.text,
        left_out: log.bytes_left_out,
    });
    let parts = Parts {
        description: line.description,
        diff,
        diff_file: line.diff_file.map(PathBuf::from),
        logs: logs.collect(),
        at: line.at.map(|at| at.0),
        output_kept: line.output_kept,
    };
    let finished = Finished {
        job: job(line.job),
        verdict,
        outcome: line.outcome.map(outcome),
        reference: line.reference.map(PathBuf::from),
        mismatch: None,
        cases_not_run: line.cases_not_run,
        last: line.last_seconds,
        retries: line.retries.map(|share| (share.passed, share.of)),
        rerun: line.rerun,
        notes: line.notes,
    };
    Ok(Decoded::Finished {
        event: Event::Finished(Box::new(finished)),
        parts: Box::new(parts),
        previous: line.previous.map(|p| (p.verdict, p.seconds)),
    })
}

fn verdict(
    kind: Kind,
    failures: Option<Vec<wire::Failure>>,
    reason: Option<String>,
    tries: Option<wire::Share>,
) -> Result<Verdict, String> {
    let missing = |what: &str| format!("malformed event: a result without its {what}");
    Ok(match kind {
        Kind::Pass => Verdict::Pass,
        Kind::Interrupted => Verdict::Interrupted,
        Kind::NotRun => Verdict::NotRun(reason.ok_or_else(|| missing("reason"))?),
        Kind::KnownFail => Verdict::KnownFail(reason.ok_or_else(|| missing("reason"))?),
        Kind::Flaky => {
            let share = tries.ok_or_else(|| missing("tries"))?;
            Verdict::Flaky {
                passed: share.passed,
                tries: share.of,
            }
        }
        Kind::Fail => {
            let all = failures.ok_or_else(|| missing("failures"))?;
            Verdict::Fail(all.into_iter().map(failure).collect::<Result<_, _>>()?)
        }
    })
}

fn failure(line: wire::Failure) -> Result<Failure, String> {
    let kind = line.kind;
    let missing = || format!("malformed event: a failure '{kind}' without its value");
    Ok(match kind.as_str() {
        "not-started" => Failure::NotStarted(line.reason.unwrap_or(line.text)),
        "time-out" => Failure::TimeOut(line.seconds.ok_or_else(missing)?.0),
        "output-limit" => Failure::Limit(Limit::Output(line.bytes.ok_or_else(missing)?)),
        "scratch-limit" => Failure::Limit(Limit::Scratch(line.bytes.ok_or_else(missing)?)),
        "signal" => Failure::Signal(line.signal.ok_or_else(missing)?),
        "exit-status" => Failure::ExitStatus(line.status.ok_or_else(missing)?),
        "sanitizer" => Failure::Sanitizer,
        "output" => Failure::Output,
        "left-behind" => Failure::LeftBehind,
        "unexpected-pass" => Failure::Unexpected(line.reason.unwrap_or(line.text)),
        _ => {
            return Err(format!(
                "unknown kind of failure '{kind}'; use a newer check"
            ));
        }
    })
}

fn read_hunks(lines: Vec<wire::Hunk>) -> Result<Vec<Hunk>, String> {
    let mut room = DIFF_LINES;
    let mut hunk = |line: wire::Hunk| {
        let mut lines = Vec::new();
        for line in line.lines {
            let count = line.lines_left_out.max(1) as usize;
            room = room
                .checked_sub(count)
                .ok_or("malformed event: a difference of too many lines")?;
            if line.lines_left_out > 0 {
                // They are counted where they would be shown, and nothing else.
                let empty = diff::Line {
                    side: side(line.side),
                    spans: Vec::new(),
                    left_out: 0,
                };
                lines.resize(lines.len() + count, empty);
            } else {
                lines.push(diff_line(line)?);
            }
        }
        Ok::<_, String>(Hunk {
            old: (line.old.0 as usize, line.old.1 as usize),
            new: (line.new.0 as usize, line.new.1 as usize),
            lines,
        })
    };
    lines.into_iter().map(&mut hunk).collect()
}

fn side(side: wire::Side) -> Side {
    match side {
        wire::Side::Same => Side::Same,
        wire::Side::Removed => Side::Removed,
        wire::Side::Added => Side::Added,
    }
}

/// Bytes as they are written.
fn bytes(text: Option<String>, base64: Option<String>) -> Result<Vec<u8>, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_bytes()),
        (None, Some(code)) => BASE64
            .decode(code)
            .map_err(|error| format!("malformed event: {error}")),
        _ => Err("malformed event: a piece is either text or base64".to_owned()),
    }
}

fn diff_line(line: wire::DiffLine) -> Result<diff::Line, String> {
    let span = |piece: wire::Piece| -> Result<Span, String> {
        Ok(Span {
            changed: piece.changed,
            bytes: bytes(piece.text, piece.base64)?,
        })
    };
    Ok(diff::Line {
        side: side(line.side),
        spans: line
            .pieces
            .into_iter()
            .map(span)
            .collect::<Result<_, _>>()?,
        left_out: line.bytes_left_out as usize,
    })
}

fn outcome(line: wire::Outcome) -> Outcome {
    let paths = |all: Vec<String>| all.into_iter().map(PathBuf::from).collect();
    let ended = line.ended.map(|ended| match ended {
        wire::Ended::TimeOut(after) => Ended::TimeOut(after.0),
        wire::Ended::OutputLimit(most) => Ended::Limit(Limit::Output(most)),
        wire::Ended::ScratchLimit(most) => Ended::Limit(Limit::Scratch(most)),
        wire::Ended::Interrupted => Ended::Interrupted,
    });
    Outcome {
        exit: match line.exit {
            wire::Exit::Status(status) => Exit::Status(status),
            wire::Exit::Signal(signal) => Exit::Signal(signal),
            wire::Exit::NotStarted(why) => Exit::NotStarted(why),
        },
        ended,
        output: line.output.into(),
        notrun: None,
        casenotrun: None,
        sanitizer_logs: paths(line.sanitizer_logs),
        left_behind: line.left_behind,
        left_mounts: paths(line.left_mounts),
        cores: paths(line.cores),
        stacks: line.stacks.map(PathBuf::from),
        scratch: line.scratch.into(),
        start: line.start.0,
        wall: line.seconds.0,
        cpu: line.cpu_seconds.0,
    }
}
