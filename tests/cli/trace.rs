//! The trace of a run.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fixture::{CHECK, Suite, bare, said};

/// The events in the trace of a suite, checked: lanes in which one test runs at a time,
/// counters that do not go back.
fn events(suite: &Suite) -> Vec<Value> {
    let text = std::fs::read(suite.dir().join("trace.json")).expect("a trace");
    let trace: Value = serde_json::from_slice(&text).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("events").clone();
    let mut lanes: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    let mut count = 0;
    for event in &events {
        let number = |name: &str| event[name].as_u64().unwrap_or_else(|| panic!("{event}"));
        match event["ph"].as_str() {
            Some("X") if event["cat"] == "test" => {
                let from = number("ts");
                let span = (from, from + number("dur"));
                lanes.entry(number("tid")).or_default().push(span);
            }
            Some("C") => {
                assert!(number("ts") >= count, "{event}");
                count = number("ts");
            }
            Some("M" | "i" | "X") => {}
            _ => panic!("{event}"),
        }
    }
    for spans in lanes.values_mut() {
        spans.sort_unstable();
        assert!(spans.windows(2).all(|s| s[0].1 <= s[1].0), "{spans:?}");
    }
    events
}

#[test]
fn tests_are_in_lanes_with_their_verdicts() {
    let suite = Suite::new();
    for name in ["001", "002", "003", "004", "005", "006"] {
        suite.pair(name, "echo fine\n", "fine\n");
    }
    suite.pair("007", "echo other\n", "fine\n");
    let line = "-qcow2 -j 2 --rerun-failed 1 --trace trace.json";
    let ran = said(&mut suite.check(line));
    assert_eq!(ran.status, Some(1), "{}", ran.err);
    let events = events(&suite);
    let tests: Vec<&Value> = events.iter().filter(|e| e["cat"] == "test").collect();
    assert_eq!(tests.len(), 7);
    assert!(tests.iter().all(|e| e["tid"] == 1 || e["tid"] == 2));
    let failed = tests.iter().find(|e| e["name"] == "007").expect("007");
    let args = &failed["args"];
    assert_eq!(
        (&args["verdict"], &args["combination"]),
        (&"fail".into(), &"qcow2-file".into())
    );
    assert!(
        args["run_again"]
            .as_str()
            .is_some_and(|c| c.ends_with("-qcow2 007"))
    );
    // The retry lies within.
    let tries: Vec<&Value> = events.iter().filter(|e| e["cat"] == "try").collect();
    assert_eq!(tries.len(), 2);
    let within = |e: &Value| e["ts"].as_u64() >= failed["ts"].as_u64() && e["tid"] == failed["tid"];
    assert!(tries.iter().all(|e| within(e)), "{tries:?}");
    let last = events.iter().rfind(|e| e["ph"] == "C").expect("counts");
    assert_eq!(
        (&last["args"]["done"], &last["args"]["waiting"]),
        (&7.into(), &0.into())
    );
}

/// The trace of a run that was killed is read up to then.
#[test]
fn a_killed_run_leaves_a_trace() {
    let suite = Suite::new();
    suite.pair("001", "echo fine\n", "fine\n");
    suite.pair("002", "kill -KILL $CHECK_PID; sleep 1000\n", "");
    // The pid of the shell stays that of check.
    let mut shell = bare("/bin/sh".as_ref());
    let line = "CHECK_PID=$$ exec \"$0\" -qcow2 -j 1 --shuffle=1 --trace trace.json 1 2";
    shell.args(["-c", line, CHECK]).current_dir(suite.dir());
    assert_eq!(said(&mut shell).status, None, "it was killed");
    let events = events(&suite);
    let tests: Vec<&Value> = events.iter().filter(|e| e["cat"] == "test").collect();
    assert_eq!(tests.len(), 1, "{tests:?}");
    assert_eq!(tests[0]["name"], "001");
}

#[test]
fn a_trace_that_cannot_be_written_is_told_before_anything_runs() {
    let suite = Suite::new();
    suite.pair("001", "echo fine\n", "fine\n");
    let err = said(&mut suite.check("-qcow2 --trace no/such/trace.json")).failed(1);
    assert_eq!(
        err,
        "check: cannot write the trace no/such/trace.json: No such file or directory (os error 2)\n"
    );
}
