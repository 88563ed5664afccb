//! Which tests ran when, in the Trace Event Format of Chromium, as Perfetto and
//! chrome://tracing show it.
//!
//! Tests run in slots; a slot is a thread of the trace, and a test gets the lowest one that
//! is free. The file is a whole JSON object at any time: each event is written over the end
//! of the object, together with a new end, in one piece.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde_json::{Value, json};

use super::Sink;
use super::rendered::Rendered;
use crate::model::{Event, Finished, Job, JobId, Kind, Verdict};
use crate::words;

/// How the object begins.
const BEGIN: &str = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";

/// The process that all is of.
const PID: u32 = 1;

/// The thread of what is about the run itself; slots have those that follow.
const RUN: usize = 0;

/// The trace reporter.
pub(super) struct Trace {
    path: PathBuf,
    out: Out,
    /// When the run began, and how long ago (microseconds) the last event was: times never
    /// go back, whatever the clock does.
    began: SystemTime,
    latest: u64,
    /// Which job runs in which slot, from slot 1 on.
    slots: Vec<Option<JobId>>,
    running: BTreeMap<JobId, Running>,
    waiting: usize,
    done: usize,
}

/// A job that is running.
struct Running {
    slot: usize,
    /// Microseconds after the beginning of the run.
    at: u64,
}

impl Trace {
    /// Makes the file, with no events.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let out = File::create(path)
            .and_then(Out::new)
            .with_context(|| format!("cannot write the trace {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            out,
            began: UNIX_EPOCH,
            latest: 0,
            slots: Vec::new(),
            running: BTreeMap::new(),
            waiting: 0,
            done: 0,
        })
    }

    /// Microseconds between the beginning of the run and `at`, and not before what has
    /// happened already.
    fn time(&mut self, at: SystemTime) -> u64 {
        let since = at.duration_since(self.began).unwrap_or_default();
        self.latest = self.latest.max(micros(since));
        self.latest
    }

    /// Names a thread; they are shown in this order.
    fn name(&mut self, thread: usize, name: &str) {
        self.out.event(&json!({
            "ph": "M", "name": "thread_name", "pid": PID, "tid": thread, "args": {"name": name},
        }));
        self.out.event(&json!({
            "ph": "M", "name": "thread_sort_index", "pid": PID, "tid": thread,
            "args": {"sort_index": thread},
        }));
    }

    /// A mark at the present time, on a thread.
    fn mark(&mut self, thread: usize, name: &str, args: &Value) {
        // Those of the run go across all threads.
        let scope = if thread == RUN { "g" } else { "t" };
        self.out.event(&json!({
            "ph": "i", "s": scope, "cat": "mark", "name": name, "pid": PID, "tid": thread,
            "ts": self.latest, "args": args,
        }));
    }

    /// How many tests run, wait and are done, from now on.
    fn counts(&mut self) {
        self.out.event(&json!({
            "ph": "C", "cat": "counts", "name": "tests", "pid": PID, "tid": RUN, "ts": self.latest,
            "args": {
                "running": self.running.len(), "waiting": self.waiting, "done": self.done,
            },
        }));
    }

    fn run_started(&mut self, event: &Event) {
        let Event::RunStarted {
            header, jobs, at, ..
        } = event
        else {
            return;
        };
        self.began = *at;
        self.waiting = *jobs;
        self.out.event(&json!({
            "ph": "M", "name": "process_name", "pid": PID, "tid": RUN, "args": {"name": "check"},
        }));
        self.name(RUN, "run");
        let header = header.iter();
        let header: serde_json::Map<_, _> = header
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        self.mark(RUN, "run started", &Value::Object(header));
        self.counts();
    }

    fn started(&mut self, job: &Job, at: SystemTime) {
        let at = self.time(at);
        let free = self.slots.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.slots.push(None);
            self.name(self.slots.len(), &format!("slot {}", self.slots.len()));
            self.slots.len() - 1
        });
        self.slots[index] = Some(job.id);
        let slot = index + 1;
        self.running.insert(job.id, Running { slot, at });
        self.waiting = self.waiting.saturating_sub(1);
        self.counts();
    }

    fn finished(&mut self, rendered: &Rendered<'_>) {
        let finished = rendered.finished;
        let at = self.time(rendered.at);
        self.done += 1;
        match self.running.remove(&finished.job.id) {
            Some(running) => {
                if let Some(slot) = self.slots.get_mut(running.slot - 1) {
                    *slot = None;
                }
                self.span(rendered, &running, at);
            }
            // It was not run, and never waited for a slot.
            None => self.waiting = self.waiting.saturating_sub(1),
        }
        self.counts();
    }

    /// The time of a test in its slot; where it was tried again, both parts of it.
    fn span(&mut self, rendered: &Rendered<'_>, running: &Running, end: u64) {
        let finished = rendered.finished;
        let kind = Kind::from(&finished.verdict);
        let outcome = finished.outcome.as_ref();
        let test = &finished.job.test.name;
        let of_slot = |name: String, category: &str, from: u64, to: u64, args: Value| {
            json!({
                "ph": "X", "cat": category, "name": name, "pid": PID, "tid": running.slot,
                "ts": from, "dur": to - from, "args": args, "cname": colour(kind),
            })
        };
        self.out.event(&of_slot(
            words::name(&finished.job),
            "test",
            running.at,
            end,
            json!({
                "combination": words::combo(&finished.job.combo),
                "verdict": words::kind(kind),
                "reason": rendered.description,
                "summary": finished.job.test.summary,
                "waited_seconds": seconds(running.at),
                "seconds": outcome.map(|o| o.wall.as_secs_f64()),
                "cpu_seconds": outcome.map(|o| o.cpu.as_secs_f64()),
                "last_seconds": finished.last,
                "run_again": finished.rerun,
            }),
        ));
        if let (Some((passed, tries)), Some(outcome)) = (retries(finished), outcome) {
            let first = outcome.start + outcome.wall;
            let first = first.duration_since(self.began).unwrap_or_default();
            let first = micros(first).clamp(running.at, end);
            let args = || json!({"passed": passed, "tries": tries});
            let (name, again) = (format!("{test} first try"), format!("{test} tried again"));
            self.out
                .event(&of_slot(name, "try", running.at, first, json!({})));
            self.out.event(&of_slot(again, "try", first, end, args()));
        }
    }

    fn run_finished(&mut self, not_reached: usize, interrupted: bool, wall: Duration) {
        let end = self.latest.max(micros(wall));
        self.latest = end;
        self.counts();
        let args = json!({
            "seconds": wall.as_secs_f64(), "done": self.done, "not_started": not_reached,
            "interrupted": interrupted,
        });
        self.out.event(&json!({
            "ph": "X", "cat": "run", "name": "run", "pid": PID, "tid": RUN, "ts": 0, "dur": end,
            "args": args,
        }));
        self.mark(RUN, "run finished", &args);
    }
}

/// `passed` of `tries` where a failed test was tried again.
fn retries(finished: &Finished) -> Option<(u32, u32)> {
    match finished.verdict {
        Verdict::Flaky { passed, tries } => Some((passed, tries)),
        _ => finished.retries,
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

/// A colour that chrome://tracing knows; Perfetto has colours of its own.
fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Pass => "good",
        Kind::Fail => "terrible",
        Kind::Flaky | Kind::KnownFail => "bad",
        Kind::NotRun => "grey",
        Kind::Interrupted => "black",
    }
}

impl Sink for Trace {
    fn event(&mut self, event: &Event, rendered: Option<&Rendered<'_>>) {
        match event {
            Event::RunStarted { .. } => self.run_started(event),
            Event::Started { job, at, .. } => self.started(job, *at),
            Event::Slow { job, running, .. } => {
                let Some(slow) = self.running.get(&job.id) else {
                    return;
                };
                let slot = slow.slot;
                self.latest = self.latest.max(slow.at.saturating_add(micros(*running)));
                let args = json!({"seconds": running.as_secs_f64()});
                self.mark(slot, &format!("{} is slow", words::name(job)), &args);
            }
            Event::Finished(_) => {
                if let Some(rendered) = rendered {
                    self.finished(rendered);
                }
            }
            Event::WaitsForGdb { .. }
            | Event::Debugging { .. }
            | Event::Output { .. }
            | Event::StatusAsked { .. } => {}
            Event::Interrupting { running } => {
                self.mark(RUN, "interrupted", &json!({"running": running}));
            }
            Event::RunFinished {
                not_reached,
                interrupted,
                wall,
            } => {
                self.run_finished(not_reached.len(), *interrupted, *wall);
                self.out.end();
            }
        }
    }

    fn finish(&mut self) -> Vec<String> {
        let trouble = self.out.trouble.take();
        let path = self.path.display();
        let said = trouble.map(|e| format!("cannot write the trace {path}: {e}"));
        said.into_iter().collect()
    }
}

/// Where events are written.
struct Out {
    file: File,
    /// Of a regular file the length of what is written but its end; of a pipe, which cannot
    /// be written over, nothing.
    whole: Option<u64>,
    /// Whether the next event is the first.
    first: bool,
    trouble: Option<io::Error>,
}

impl Out {
    /// The end of the object.
    const END: &str = "\n]}\n";

    fn new(mut file: File) -> io::Result<Self> {
        let regular = file.metadata().is_ok_and(|meta| meta.is_file());
        let end = if regular { Self::END } else { "" };
        file.write_all(format!("{BEGIN}{end}").as_bytes())?;
        Ok(Self {
            file,
            whole: regular.then_some(BEGIN.len() as u64),
            first: true,
            trouble: None,
        })
    }

    fn event(&mut self, event: &Value) {
        let comma = if self.first { "" } else { "," };
        let text = format!("{comma}\n{event}");
        self.first = false;
        let written = match self.whole {
            Some(whole) => self.append(whole, &text),
            None => self.file.write_all(text.as_bytes()),
        };
        if let Err(e) = written {
            self.trouble.get_or_insert(e);
        }
    }

    /// Writes over the end. Where there is no room the object ends as it did.
    fn append(&mut self, whole: u64, text: &str) -> io::Result<()> {
        let mut write = |text: &str| {
            self.file.seek(SeekFrom::Start(whole))?;
            self.file
                .write_all(format!("{text}{}", Self::END).as_bytes())
        };
        match write(text) {
            Ok(()) => {
                self.whole = Some(whole + text.len() as u64);
                Ok(())
            }
            Err(e) => {
                write("")?;
                self.file.set_len(whole + Self::END.len() as u64)?;
                self.first = whole == BEGIN.len() as u64;
                Err(e)
            }
        }
    }

    fn end(&mut self) {
        if self.whole.is_none()
            && let Err(e) = self.file.write_all(Self::END.as_bytes())
        {
            self.trouble.get_or_insert(e);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Failure;
    use crate::report::sample;

    fn read(path: &Path) -> Vec<Value> {
        let text = std::fs::read(path).unwrap();
        let value: Value = serde_json::from_slice(&text).unwrap();
        value["traceEvents"].as_array().unwrap().clone()
    }

    /// Tells `trace` what happened, a line each: `+id` starts a job, `-id` ends it, after so
    /// many seconds.
    fn tell(trace: &mut Trace, path: &Path, script: &[(&str, u32, u64)]) {
        for (what, id, at) in script {
            let job = sample::job(*id, &format!("{id:03}"), "qcow2");
            if *what == "+" {
                let at = sample::at(*at);
                let last = None;
                trace.event(&Event::Started { job, last, at }, None);
            } else {
                let verdict = match *what {
                    "F" => Verdict::Fail(vec![Failure::ExitStatus(1)]),
                    "~" => Verdict::Flaky {
                        passed: 1,
                        tries: 2,
                    },
                    "s" => Verdict::NotRun("no KVM".into()),
                    _ => Verdict::Pass,
                };
                let finished = sample::finished(job, verdict);
                let mut rendered = Rendered::new(&finished);
                rendered.at = sample::at(*at);
                let event = Event::Finished(Box::new(finished.clone()));
                trace.event(&event, Some(&rendered));
            }
            // Whatever happens next, the file can be read.
            read(path);
        }
    }

    fn finish(trace: &mut Trace, seconds: u64) {
        let event = Event::RunFinished {
            not_reached: Vec::new(),
            interrupted: false,
            wall: Duration::from_secs(seconds),
        };
        trace.event(&event, None);
        assert_eq!(trace.finish(), Vec::<String>::new());
    }

    /// Name, slot, start and length in seconds.
    fn spans(events: &[Value], category: &str) -> Vec<String> {
        let spans = events.iter().filter(|e| e["cat"] == category);
        let secs = |v: &Value| v.as_u64().unwrap() / 1_000_000;
        spans
            .map(|e| {
                let name = e["name"].as_str().unwrap();
                format!(
                    "{name} @{} {}+{}",
                    e["tid"],
                    secs(&e["ts"]),
                    secs(&e["dur"])
                )
            })
            .collect()
    }

    #[test]
    fn a_slot_is_used_again_as_soon_as_it_is_free_the_lowest_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let mut trace = Trace::create(&path).unwrap();
        assert!(read(&path).is_empty());
        let names = ["000", "001", "002", "003", "004", "005"];
        trace.event(&sample::run_started(&names, 0), None);
        let script = [
            ("+", 0, 0),
            ("+", 1, 1),
            ("+", 2, 2),
            ("F", 1, 4),
            ("-", 0, 5),
            ("+", 3, 5),
            ("+", 4, 6),
            ("s", 5, 6),
            ("-", 2, 7),
            // The clock is set back.
            ("~", 3, 3),
            ("-", 4, 9),
        ];
        tell(&mut trace, &path, &script);
        finish(&mut trace, 9);
        let events = read(&path);
        assert_eq!(
            spans(&events, "test"),
            [
                "001 @2 1+3",
                "000 @1 0+5",
                "002 @3 2+5",
                "003 @1 5+2",
                "004 @2 6+3"
            ]
        );
        assert_eq!(
            spans(&events, "try"),
            ["003 first try @1 5+0", "003 tried again @1 5+2"]
        );
        assert_eq!(spans(&events, "run"), ["run @0 0+9"]);
        let failed = events.iter().find(|e| e["name"] == "001").unwrap();
        assert_eq!(failed["args"]["verdict"], "fail");
        assert_eq!(failed["args"]["waited_seconds"], 1.0);
        assert_eq!(failed["args"]["run_again"], "./check -qcow2 001");
        assert_eq!(failed["cname"], "terrible");
        let counts: Vec<&Value> = events.iter().filter(|e| e["ph"] == "C").collect();
        assert!(counts.is_sorted_by_key(|e| e["ts"].as_u64()));
        let last = counts.last().unwrap();
        assert_eq!(
            last["args"].to_string(),
            r#"{"done":6,"running":0,"waiting":0}"#
        );
        assert_eq!(counts[0]["args"]["waiting"], 6);
    }

    #[test]
    fn slow_tests_and_the_interrupt_are_marked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let mut trace = Trace::create(&path).unwrap();
        trace.event(&sample::run_started(&["000"], 0), None);
        tell(&mut trace, &path, &[("+", 0, 0)]);
        let job = sample::job(0, "000", "qcow2");
        let running = Duration::from_secs(60);
        let at = sample::at(60);
        trace.event(&Event::Slow { job, running, at }, None);
        trace.event(&Event::Interrupting { running: 1 }, None);
        let marks: Vec<String> = read(&path)
            .iter()
            .filter(|e| e["ph"] == "i")
            .map(|e| format!("{} @{} {}", e["name"], e["tid"], e["ts"]))
            .collect();
        assert_eq!(
            marks,
            [
                "\"run started\" @0 0",
                "\"000 is slow\" @1 60000000",
                "\"interrupted\" @0 60000000"
            ]
        );
    }

    #[test]
    fn a_pipe_gets_one_object() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = std::thread::spawn({
            let path = path.clone();
            move || read(&path)
        });
        let mut trace = Trace::create(&path).unwrap();
        trace.event(&sample::run_started(&["000"], 0), None);
        finish(&mut trace, 1);
        drop(trace);
        let events = reader.join().unwrap();
        assert_eq!(spans(&events, "run"), ["run @0 0+1"]);
    }
}
