//! JSON events, one a line, written as they happen. `docs/json-events.md` is the
//! schema.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::Sink;
use super::rendered::Rendered;
use super::summary::Tally;
use crate::diff::Paint;
use crate::model::{Event, Exit, Failure, Finished, Job, Kind, Limit, Outcome, Verdict};
use crate::words;

/// The version of the schema; it grows when a field changes its meaning or goes.
const VERSION: u32 = 1;

/// The JSON reporter.
pub(super) struct Json {
    path: PathBuf,
    out: Box<dyn Write>,
    /// The file behind `out`, where it is a regular one, and the length of its whole lines.
    file: Option<(File, u64)>,
    tally: Tally,
    trouble: Option<io::Error>,
}

impl Json {
    /// Makes the file, empty.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path)
            .with_context(|| format!("cannot write the JSON file {}", path.display()))?;
        let regular = file.metadata().is_ok_and(|meta| meta.is_file());
        let same = regular.then(|| file.try_clone().ok()).flatten();
        Ok(Self {
            file: same.map(|same| (same, 0)),
            ..Self::new(path, Box::new(file))
        })
    }

    pub(super) fn new(path: &Path, out: Box<dyn Write>) -> Self {
        Self {
            path: path.to_owned(),
            out,
            file: None,
            tally: Tally::default(),
            trouble: None,
        }
    }

    fn write(&mut self, value: &Value) {
        // A line is written at once, so that an aborted run leaves complete lines.
        let mut line = value.to_string().into_bytes();
        line.push(b'\n');
        let written = self.out.write_all(&line).and_then(|()| self.out.flush());
        match (written, &mut self.file) {
            (Ok(()), Some((_, whole))) => *whole += line.len() as u64,
            (Ok(()), None) => {}
            (Err(e), file) => {
                if let Some((file, whole)) = file {
                    // Half a line is of no use; later ones may find room again.
                    let _ = file.set_len(*whole);
                    let _ = file.seek(SeekFrom::Start(*whole));
                }
                self.trouble.get_or_insert(e);
            }
        }
    }
}

impl Sink for Json {
    fn event(&mut self, event: &Event, rendered: Option<&Rendered<'_>>) {
        self.tally.event(event);
        let value = match (event, rendered) {
            (Event::Finished(_), Some(rendered)) => finished(rendered),
            // The output is in a file of its own.
            (Event::Finished(_), None) | (Event::Output { .. }, _) => return,
            (event, _) => plain(event, &self.tally),
        };
        self.write(&value);
    }

    fn finish(&mut self) -> Vec<String> {
        let trouble = self.trouble.take();
        let path = self.path.display();
        let said = trouble.map(|e| format!("cannot write the JSON file {path}: {e}"));
        said.into_iter().collect()
    }
}

fn time(at: SystemTime) -> Value {
    jiff::Timestamp::try_from(at).map_or(Value::Null, |t| json!(t.to_string()))
}

/// The fields that say which job an event is about.
fn job(event: &str, job: &Job) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("event".into(), json!(event));
    map.insert("job".into(), json!(job.id));
    map.insert("test".into(), json!(job.test.name));
    map.insert("combo".into(), json!(*job.combo));
    map.insert("repetition".into(), json!(job.repetition));
    map
}

/// An event that is not a result.
fn plain(event: &Event, tally: &Tally) -> Value {
    match event {
        Event::RunStarted {
            header,
            jobs,
            combos,
            tests,
            shuffle,
            at,
        } => {
            let combos: Vec<_> = combos.iter().map(|c| json!(**c)).collect();
            let header: Vec<_> = header
                .iter()
                .map(|(name, value)| json!({"name": name, "value": value}))
                .collect();
            json!({
                "event": "run-started", "version": VERSION, "at": time(*at), "jobs": jobs,
                "combos": combos, "tests": tests, "shuffle": shuffle, "header": header,
            })
        }
        Event::Started { job: j, last, at } => {
            let mut map = job("started", j);
            map.insert("summary".into(), json!(j.test.summary));
            map.insert("last_seconds".into(), json!(last));
            map.insert("at".into(), time(*at));
            Value::Object(map)
        }
        Event::Slow { job: j, running } => {
            let mut map = job("slow", j);
            map.insert("seconds".into(), json!(running.as_secs_f64()));
            Value::Object(map)
        }
        Event::WaitsForGdb {
            job: j,
            program,
            command,
        } => {
            let mut map = job("waits-for-gdb", j);
            map.insert("program".into(), json!(program));
            map.insert("command".into(), json!(command));
            Value::Object(map)
        }
        Event::Debugging { job: j, program } => {
            let mut map = job("debugging", j);
            map.insert("program".into(), json!(program));
            Value::Object(map)
        }
        Event::StatusAsked => json!({
            "event": "status", "done": tally.done(), "jobs": tally.jobs(),
            "failed": tally.count(Kind::Fail),
        }),
        Event::Interrupting { running } => {
            json!({"event": "interrupting", "running": running})
        }
        Event::RunFinished {
            not_reached,
            interrupted,
            wall,
        } => {
            let late: Vec<_> = not_reached
                .iter()
                .map(|j| json!({"job": j.id, "test": j.test.name, "combo": *j.combo}))
                .collect();
            json!({
                "event": "run-finished", "interrupted": interrupted,
                "seconds": wall.as_secs_f64(), "not_reached": late,
                "counts": {
                    "pass": tally.count(Kind::Pass), "fail": tally.count(Kind::Fail),
                    "not-run": tally.count(Kind::NotRun), "flaky": tally.count(Kind::Flaky),
                    "interrupted": tally.count(Kind::Interrupted),
                    "known-fail": tally.count(Kind::KnownFail),
                },
            })
        }
        Event::Finished(_) | Event::Output { .. } => Value::Null,
    }
}

/// A result.
fn finished(rendered: &Rendered<'_>) -> Value {
    let finished = rendered.finished;
    let mut map = job("finished", &finished.job);
    let mut put = |name: &str, value: Value| map.insert(name.to_owned(), value);
    put("verdict", json!(Kind::from(&finished.verdict)));
    put("description", json!(rendered.description));
    let share = |(passed, tries): (u32, u32)| json!({"passed": passed, "of": tries});
    let (mut failures, mut reason, mut tries) = (Value::Null, Value::Null, Value::Null);
    match &finished.verdict {
        Verdict::Fail(all) => failures = all.iter().map(|f| failure(f, finished)).collect(),
        Verdict::NotRun(why) | Verdict::KnownFail(why) => reason = json!(why),
        Verdict::Flaky { passed, tries: of } => tries = share((*passed, *of)),
        Verdict::Pass | Verdict::Interrupted => {}
    }
    put("failures", failures);
    put("reason", reason);
    put("tries", tries);
    put("retries", finished.retries.map_or(Value::Null, share));
    put("cases_not_run", json!(finished.cases_not_run));
    put("last_seconds", json!(finished.last));
    put("rerun", json!(finished.rerun));
    put("notes", json!(finished.notes));
    put("reference", path(finished.reference.as_deref()));
    put("diff", json!(rendered.diff_text(Paint::Plain)));
    put("diff_file", path(rendered.diff_file.as_deref()));
    put(
        "outcome",
        finished.outcome.as_ref().map_or(Value::Null, outcome),
    );
    Value::Object(map)
}

fn failure(failure: &Failure, finished: &Finished) -> Value {
    let mut value = json!({
        "kind": words::failure_kind(failure),
        "text": words::failure(failure, finished),
    });
    match failure {
        Failure::TimeOut(after) => value["seconds"] = json!(after.as_secs_f64()),
        Failure::Limit(Limit::Output(most) | Limit::Scratch(most)) => value["bytes"] = json!(most),
        Failure::Signal(signal) => value["signal"] = json!(signal),
        Failure::ExitStatus(status) => value["status"] = json!(status),
        Failure::NotStarted(_)
        | Failure::Sanitizer
        | Failure::Output
        | Failure::LeftBehind
        | Failure::Unexpected(_) => {}
    }
    value
}

fn path(path: Option<&Path>) -> Value {
    path.map_or(Value::Null, |p| json!(p.to_string_lossy()))
}

fn outcome(outcome: &Outcome) -> Value {
    let paths = |all: &[PathBuf]| -> Value { all.iter().map(|p| path(Some(p))).collect() };
    let exit = match &outcome.exit {
        Exit::Status(status) => json!({"status": status}),
        Exit::Signal(signal) => json!({"signal": signal}),
        Exit::NotStarted(why) => json!({"not_started": why}),
    };
    json!({
        "exit": exit,
        "start": time(outcome.start),
        "seconds": outcome.wall.as_secs_f64(),
        "cpu_seconds": outcome.cpu.as_secs_f64(),
        "output": path(Some(&outcome.output)),
        "scratch": path(Some(&outcome.scratch)),
        "stacks": path(outcome.stacks.as_deref()),
        "sanitizer_logs": paths(&outcome.sanitizer_logs),
        "cores": paths(&outcome.cores),
        "left_behind": outcome.left_behind,
        "left_mounts": paths(&outcome.left_mounts),
    })
}
