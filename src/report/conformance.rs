//! Conformance of all reports: one table of outcomes and what every report must show.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::console::{Console, Plain};
use super::html::Html;
use super::json::{Decoded, decode};
use super::json::{Encoder, Json};
use super::junit::Junit;
use super::tap::{Numbering, Tap};
use super::trace::Trace;
use super::{All, RunInfo, Sink, sample};
use crate::diff::Paint;
use crate::history::Previous;
use crate::model::{Event, Failure, Finished, LeftBehind, Limit, Mismatch, Reporter, Verdict};

/// A writer whose text can be looked at.
#[derive(Clone, Default)]
struct Paper(Rc<RefCell<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

/// A result and how reports name it.
struct Row {
    name: &'static str,
    verdict: Verdict,
    /// The word in console, page and (with `-` for blanks) JSON.
    word: &'static str,
    /// Part of the description that all show.
    says: &'static str,
    /// TAP's line begins so.
    tap: &'static str,
    /// JUnit's element; empty for a pass.
    junit: &'static str,
}

fn rows() -> Vec<Row> {
    let fail = |name, failure, says| Row {
        name,
        verdict: Verdict::Fail(vec![failure]),
        word: "fail",
        says,
        tap: "not ok",
        junit: "<failure",
    };
    vec![
        Row {
            name: "001",
            verdict: Verdict::Pass,
            word: "pass",
            says: "",
            tap: "ok",
            junit: "",
        },
        fail("002", Failure::Output, "output mismatch"),
        fail("003", Failure::ExitStatus(3), "exit status 3"),
        fail("004", Failure::Signal(11), "signal 11 (SIGSEGV)"),
        fail(
            "005",
            Failure::TimeOut(Duration::from_secs(600)),
            "timed out after 600 s",
        ),
        fail("006", Failure::Sanitizer, "sanitizer report"),
        fail("007", Failure::LeftBehind, "left behind: qemu-nbd 4711"),
        fail(
            "008",
            Failure::Limit(Limit::Output(1 << 20)),
            "more output than the limit of 1 MiB",
        ),
        fail(
            "009",
            Failure::NotStarted("not executable".into()),
            "could not be started: not executable",
        ),
        Row {
            name: "010",
            verdict: Verdict::NotRun("no KVM here".into()),
            word: "not run",
            says: "no KVM here",
            tap: "ok",
            junit: "<skipped",
        },
        Row {
            name: "011",
            verdict: Verdict::Flaky {
                passed: 1,
                tries: 3,
            },
            word: "flaky",
            says: "passed 1 of 3 tries",
            tap: "not ok",
            junit: "<flakyFailure",
        },
        Row {
            name: "013",
            verdict: Verdict::KnownFail("bug 7".into()),
            word: "known fail",
            says: "bug 7",
            tap: "not ok",
            junit: "<skipped",
        },
        fail(
            "014",
            Failure::Unexpected("bug 8".into()),
            "passed, though known to fail: bug 8",
        ),
        Row {
            name: "012",
            verdict: Verdict::Interrupted,
            word: "interrupted",
            says: "interrupted by user",
            tap: "ok",
            junit: "<skipped",
        },
    ]
}

fn finished(n: usize, row: &Row) -> Finished {
    let job = sample::job(u32::try_from(n).unwrap(), row.name, "qcow2");
    let mut finished = sample::finished(job, row.verdict.clone());
    if let (Verdict::Fail(failures), Some(outcome)) = (&row.verdict, &mut finished.outcome) {
        match failures[0] {
            Failure::LeftBehind => {
                outcome.left_behind = vec![LeftBehind {
                    name: "qemu-nbd".into(),
                    pid: 4711,
                }];
            }
            Failure::Output => {
                finished.mismatch = Some(Mismatch {
                    expected: Arc::new(b"wanted\n".to_vec()),
                    actual: Arc::new(b"got\xff\n".to_vec()),
                });
            }
            _ => {}
        }
    }
    if row.name == "001" {
        finished.cases_not_run = vec!["[case not run] test_x: no KVM".into()];
    }
    finished
}

/// What every report wrote of the table.
struct Written {
    console: String,
    tap: String,
    diffs: String,
    /// The lines as they were written.
    lines: String,
    json: Vec<Value>,
    junit: String,
    trace: Value,
    html: String,
}

/// Every report, and what they write to.
struct Papers {
    dir: tempfile::TempDir,
    console: Paper,
    tap: Paper,
    diffs: Paper,
    json: Paper,
    all: All,
}

impl Papers {
    fn new(info: &RunInfo, failures_only: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (console, tap, diffs, json) = (
            Paper::default(),
            Paper::default(),
            Paper::default(),
            Paper::default(),
        );
        let junit = dir.path().join("junit.xml");
        let encoder = Encoder::new(info.clone(), Previous::default());
        let sinks: Vec<Box<dyn Sink>> = vec![
            Box::new(Console::new(
                Plain::new(Box::new(console.clone())),
                Paint::Plain,
            )),
            Box::new(Tap::new(
                Box::new(tap.clone()),
                Box::new(diffs.clone()),
                Paint::Plain,
                Numbering::Off,
                false,
            )),
            Box::new(Json::new(
                Path::new("x.json"),
                Box::new(json.clone()),
                encoder,
            )),
            Box::new(Junit::create(&junit, failures_only).unwrap()),
            Box::new(Trace::create(&dir.path().join("trace.json")).unwrap()),
            Box::new(Html::create(dir.path(), Previous::default()).unwrap()),
        ];
        Self {
            all: All { sinks },
            dir,
            console,
            tap,
            diffs,
            json,
        }
    }

    fn written(mut self) -> Written {
        assert_eq!(self.all.finish(), Vec::<String>::new());
        let read = |name: &str| std::fs::read_to_string(self.dir.path().join(name)).unwrap();
        let lines = self.json.text();
        let parsed = lines.lines().map(serde_json::from_str);
        Written {
            console: self.console.text(),
            tap: self.tap.text(),
            diffs: self.diffs.text(),
            json: parsed.collect::<Result<_, _>>().unwrap(),
            lines,
            junit: read("junit.xml"),
            trace: serde_json::from_str(&read("trace.json")).unwrap(),
            html: read("index.html"),
        }
    }
}

fn write(interrupted: bool) -> Written {
    let mut papers = Papers::new(&RunInfo::default(), false);
    tell(&mut papers.all, interrupted);
    papers.written()
}

/// Tells a run of the table.
fn tell(all: &mut All, interrupted: bool) {
    let rows = rows();
    all.event(&Event::RunStarted {
        header: vec![
            ("QEMU_IMG".into(), "\"/usr/bin/qemu-img\" ".into()),
            ("IMGFMT".into(), "qcow2".into()),
        ],
        jobs: rows.len(),
        combos: vec![Arc::new(sample::combo("qcow2"))],
        tests: rows.iter().map(|r| r.name.to_owned()).collect(),
        shuffle: Some(42),
        at: sample::at(0),
    });
    for (n, row) in rows.iter().enumerate() {
        let finished = finished(n, row);
        all.event(&Event::Started {
            job: finished.job.clone(),
            last: None,
            at: sample::at(0),
        });
        all.event(&Event::Finished(Box::new(finished)));
    }
    all.event(&Event::Slow {
        job: sample::job(0, "001", "qcow2"),
        running: Duration::from_secs(30),
        at: sample::at(60),
    });
    all.event(&Event::WaitsForGdb {
        job: sample::job(0, "001", "qcow2"),
        program: "/b/qsd --nbd-server".into(),
        command: "gdb -ex 'target remote :1' /b/qsd".into(),
    });
    all.event(&Event::Debugging {
        job: sample::job(0, "001", "qcow2"),
        program: "/b/qemu-img info x".into(),
    });
    all.event(&Event::Output {
        job: sample::job(0, "001", "qcow2"),
        bytes: b"\x1bprinted".to_vec(),
    });
    all.event(&Event::StatusAsked { at: sample::at(61) });
    if interrupted {
        all.event(&Event::Interrupting { running: 1 });
    }
    all.event(&Event::RunFinished {
        not_reached: Vec::new(),
        interrupted,
        wall: Duration::from_secs(9),
    });
}

#[test]
fn all_reports_say_the_same() {
    let written = write(false);
    for row in rows() {
        let console = written
            .console
            .lines()
            .find(|l| l.starts_with(&format!("{}   ", row.name)))
            .unwrap();
        assert!(console[6..].starts_with(row.word), "{console}");
        assert!(console.contains(row.says), "{console}");

        let title = format!("qcow2 {}", row.name);
        let mut tap = written.tap.lines();
        let line = tap
            .find(|l| {
                l.ends_with(&title) && !l.starts_with('#') || l.contains(&format!("{title} #"))
            })
            .unwrap();
        assert!(line.starts_with(&format!("{} {title}", row.tap)), "{line}");
        let more = tap.next().unwrap();
        assert!(
            line.contains(row.says) || more.contains(row.says),
            "{line} {more}"
        );
        let known = matches!(row.verdict, Verdict::KnownFail(_));
        assert_eq!(
            line.contains("# SKIP"),
            row.junit == "<skipped" && !known,
            "{line}"
        );
        assert_eq!(line.contains("# TODO bug 7"), known, "{line}");

        let is_result = |v: &&Value| v["event"] == "finished" && v["test"] == row.name;
        let json = written.json.iter().find(is_result).unwrap();
        assert_eq!(json["verdict"], row.word.replace(' ', "-"));
        assert!(json["description"].as_str().unwrap().contains(row.says));

        let from = written
            .junit
            .find(&format!("<testcase name=\"{}\"", row.name))
            .unwrap();
        let case = written.junit[from..].split("<testcase").nth(1).unwrap();
        assert!(case.contains(row.junit), "{case}");
        assert!(case.contains(row.says), "{case}");
        let bad = ["<failure", "<skipped", "<flakyFailure", "<error"];
        let found = bad.iter().filter(|b| case.contains(**b)).count();
        assert_eq!(found, usize::from(!row.junit.is_empty()), "{case}");

        let events = written.trace["traceEvents"].as_array().unwrap();
        let of_test = |e: &&Value| e["cat"] == "test" && e["name"] == row.name;
        // A test that was never started is in no lane.
        if let Some(event) = events.iter().find(of_test) {
            assert_eq!(event["args"]["verdict"], row.word);
            let reason = event["args"]["reason"].as_str().unwrap();
            assert!(reason.contains(row.says), "{reason}");
        } else {
            assert_eq!(row.word, "not run");
        }

        let from = written
            .html
            .find(&format!("<tr data-text=\"{} ", row.name))
            .unwrap();
        let line = written.html[from..].lines().next().unwrap();
        assert!(line.contains(&format!("cell {}", row.word.replace(' ', "-"))));
        assert!(line.contains(row.says), "{line}");
    }
}

#[test]
fn the_counts_agree() {
    let written = write(false);
    assert!(
        written.console.ends_with("Failed 9 of 12 iotests\n"),
        "{}",
        written.console
    );
    assert!(written.console.contains("Not run: 010 012\n"));
    assert!(written.console.contains("Skipped cases in: 001\n"));
    assert!(written.console.contains("Known failures: 013\n"));
    let counts = &written.json.last().unwrap()["counts"];
    assert_eq!(
        counts.to_string(),
        r#"{"fail":9,"flaky":1,"interrupted":1,"known-fail":1,"not-run":1,"pass":1}"#
    );
    assert!(
        written
            .junit
            .contains("tests=\"14\" skipped=\"3\" failures=\"9\" errors=\"0\""),
        "{}",
        written.junit
    );
    assert!(
        written
            .junit
            .contains("<property name=\"IMGFMT\" value=\"qcow2\""),
        "{}",
        written.junit
    );
    assert!(written.tap.contains("\n1..14\n"));
    assert!(written.html.contains("<b class=\"fail\">9</b>"));
}

#[test]
fn the_console_and_tap_begin_as_the_old_runners_do() {
    let written = write(true);
    assert!(
        written.console.starts_with(
            "QEMU_IMG      -- \"/usr/bin/qemu-img\" \nIMGFMT        -- qcow2\n\
             ORDER         -- --shuffle=42\n\n001   pass       ["
        ),
        "{}",
        written.console
    );
    assert!(
        written
            .console
            .contains("    [case not run] test_x: no KVM\n")
    );
    assert!(written.console.contains("still running after 30 s"));
    let waits = "waits for gdb: /b/qsd --nbd-server\n";
    let command = "gdb -ex 'target remote :1' /b/qsd\n";
    let told = format!("\n001: {waits}{command}");
    assert!(written.console.contains(&told), "{}", written.console);
    let told = format!("\n# qcow2 001 {waits}# {command}");
    assert!(written.tap.contains(&told), "{}", written.tap);
    assert!(written.console.contains(": /b/qemu-img info x\n␛printed"));
    assert!(written.tap.starts_with(
        "TAP version 13\n# QEMU_IMG      -- \"/usr/bin/qemu-img\" \n# IMGFMT        -- qcow2\n"
    ));
    assert!(
        written
            .tap
            .contains("\n# running qcow2 001\nok qcow2 001\n")
    );
    assert!(
        written
            .tap
            .ends_with("Bail out! interrupted, 0 tests not started\n")
    );
    assert!(
        written.diffs.contains("-wanted\n+got\\xff\n"),
        "{}",
        written.diffs
    );
    assert!(written.console.contains("-wanted\n+got\\xff\n"));
    assert!(
        written
            .console
            .contains("run again:   ./check -qcow2 002\n")
    );
}

/// The reports of a run, made again from the lines of its JSON file.
fn replayed(lines: &str, failures_only: bool) -> Written {
    let mut papers = None;
    for line in lines.lines() {
        let (event, parts) = match decode(line.as_bytes()).unwrap() {
            Decoded::RunStarted { event, info, .. } => {
                papers = Some(Papers::new(&info, failures_only));
                (event, None)
            }
            Decoded::Finished { event, parts, .. } => (event, Some(*parts)),
            Decoded::Other(event) => (event, None),
            Decoded::Unknown => panic!("{line}"),
        };
        papers.as_mut().unwrap().all.replay(&event, parts);
    }
    papers.unwrap().written()
}

#[test]
fn every_report_is_the_same_when_it_is_made_from_the_json_lines() {
    for interrupted in [false, true] {
        let live = write(interrupted);
        let again = replayed(&live.lines, false);
        assert_eq!(again.console, live.console);
        assert_eq!(again.tap, live.tap);
        assert_eq!(again.diffs, live.diffs);
        assert_eq!(again.lines, live.lines);
        assert_eq!(again.junit, live.junit);
        assert_eq!(again.html, live.html);
    }
}

#[test]
fn a_junit_file_of_failures_only_keeps_counts_and_failures() {
    let live = write(false);
    let short = replayed(&live.lines, true).junit;
    let count = |text: &str, part: &str| text.matches(part).count();
    for part in [
        "<testcase",
        "<failure",
        "<skipped",
        "<flakyFailure",
        "<testsuite ",
    ] {
        assert_eq!(count(&short, part), count(&live.junit, part), "{part}");
    }
    assert!(live.junit.contains("[case not run] test_x: no KVM"));
    assert!(!short.contains("[case not run] test_x: no KVM"), "{short}");
    assert!(short.contains("no KVM here"), "{short}");
    assert!(short.contains("+got"), "{short}");
}
