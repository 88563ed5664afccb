//! Events, written and read again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::super::rendered::{Log, Rendered};
use super::super::{RunInfo, Shard, sample};
use super::{Decoded, Encoder, decode};
use crate::diff::{Diff, Limits, Paint};
use crate::history::Previous;
use crate::model::{
    Combo, Ended, Event, Exit, Failure, Finished, Job, JobId, KnownFailure, LeftBehind, Limit,
    Outcome, Test, Verdict,
};

fn time() -> impl Strategy<Value = Duration> {
    (0..100_000_u64, 0..1_000_000_000_u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos))
}

fn moment() -> impl Strategy<Value = std::time::SystemTime> {
    time().prop_map(|after| sample::at(0) + after)
}

fn paths() -> impl Strategy<Value = Vec<PathBuf>> {
    vec("/[a-z\u{e9}]{0,5}".prop_map(PathBuf::from), 0..3)
}

fn job() -> impl Strategy<Value = Job> {
    let test = (
        "\\PC{0,8}",
        btree_set("[a-z]{1,4}", 0..3),
        ".{0,20}",
        vec(".{0,5}", 0..2),
    );
    let test = test.prop_map(|(name, groups, summary, needs)| Test {
        groups,
        summary,
        needs,
        ..sample::test(&name)
    });
    let known = option::of((".{0,5}", any::<bool>()));
    let known = known.prop_map(|k| k.map(|(reason, flaky)| KnownFailure { reason, flaky }));
    (test, ".{0,6}", any::<u32>(), any::<u32>(), known).prop_map(
        |(test, options, id, repetition, known)| Job {
            id: JobId(id),
            test: Arc::new(test),
            combo: Arc::new(Combo {
                options,
                ..sample::combo("qcow2")
            }),
            repetition,
            skip: None,
            known,
        },
    )
}

fn limit() -> impl Strategy<Value = Limit> {
    prop_oneof![
        any::<u64>().prop_map(Limit::Output),
        any::<u64>().prop_map(Limit::Scratch)
    ]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let failure = prop_oneof![
        ".{0,9}".prop_map(Failure::NotStarted),
        time().prop_map(Failure::TimeOut),
        limit().prop_map(Failure::Limit),
        any::<i32>().prop_map(Failure::Signal),
        any::<i32>().prop_map(Failure::ExitStatus),
        Just(Failure::Sanitizer),
        Just(Failure::Output),
        Just(Failure::LeftBehind),
        ".{0,9}".prop_map(Failure::Unexpected),
    ];
    prop_oneof![
        Just(Verdict::Pass),
        Just(Verdict::Interrupted),
        ".{0,9}".prop_map(Verdict::NotRun),
        ".{0,9}".prop_map(Verdict::KnownFail),
        (any::<u32>(), any::<u32>()).prop_map(|(passed, tries)| Verdict::Flaky { passed, tries }),
        vec(failure, 1..3).prop_map(Verdict::Fail),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let exit = prop_oneof![
        any::<i32>().prop_map(Exit::Status),
        any::<i32>().prop_map(Exit::Signal),
        ".{0,9}".prop_map(Exit::NotStarted),
    ];
    let ended = prop_oneof![
        Just(Ended::Interrupted),
        time().prop_map(Ended::TimeOut),
        limit().prop_map(Ended::Limit)
    ];
    let left = (".{0,5}", any::<i32>()).prop_map(|(name, pid)| LeftBehind { name, pid });
    let times = (moment(), time(), time());
    let files = (paths(), paths(), paths(), vec(left, 0..2));
    (exit, option::of(ended), times, files).prop_map(
        |(exit, ended, (start, wall, cpu), (sanitizer_logs, cores, left_mounts, left_behind))| {
            Outcome {
                exit,
                ended,
                start,
                wall,
                cpu,
                stacks: cores.first().cloned(),
                sanitizer_logs,
                cores,
                left_mounts,
                left_behind,
                ..sample::outcome("030")
            }
        },
    )
}

fn finished() -> impl Strategy<Value = Finished> {
    let texts = (vec(".{0,9}", 0..3), vec(".{0,9}", 0..3), ".{0,20}");
    let numbers = (
        option::of(0.0..1e9),
        option::of((any::<u32>(), any::<u32>())),
    );
    let reference = option::of(Just(PathBuf::from("/src/030.out")));
    (
        job(),
        verdict(),
        option::of(outcome()),
        texts,
        numbers,
        reference,
    )
        .prop_map(
            |(job, verdict, outcome, (cases_not_run, notes, rerun), (last, retries), reference)| {
                Finished {
                    job,
                    verdict,
                    outcome,
                    reference,
                    mismatch: None,
                    cases_not_run,
                    last,
                    retries,
                    rerun,
                    notes,
                }
            },
        )
}

/// Two texts of bytes with a few long lines, so that what is shown of them is cut.
fn texts() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let line = prop_oneof![
        8 => vec(prop_oneof![Just(b'a'), Just(b' '), Just(0xff), any::<u8>()], 0..12),
        1 => vec(any::<u8>(), 900..1200),
    ];
    let text = (vec(line, 0..20), 0..90_usize);
    let text = text.prop_map(|(lines, times)| lines.join(&b'\n').repeat(times.max(1)));
    (text.clone(), text)
}

/// A result, its difference and its logs.
#[derive(Debug, Clone)]
struct Result {
    finished: Finished,
    diff: Option<Diff>,
    logs: Vec<Log>,
    at: std::time::SystemTime,
    output_kept: bool,
}

impl Result {
    fn rendered(&self) -> Rendered<'_> {
        Rendered {
            diff: self.diff.clone(),
            logs: self.logs.clone(),
            at: self.at,
            output_kept: self.output_kept,
            diff_file: self.diff.as_ref().map(|_| "/s/030.out.diff".into()),
            ..Rendered::new(&self.finished)
        }
    }
}

fn result() -> impl Strategy<Value = Result> {
    let log = (".{0,9}", ".{0,30}", any::<u64>());
    let log = log.prop_map(|(title, text, left_out)| Log {
        title,
        path: "/s/log".into(),
        text,
        left_out,
    });
    let diff = option::of(texts().prop_map(|(a, b)| Diff::new(&a, &b, &Limits::default())));
    (finished(), diff, vec(log, 0..3), moment(), any::<bool>()).prop_map(
        |(finished, diff, logs, at, output_kept)| Result {
            finished,
            diff,
            logs,
            at,
            output_kept,
        },
    )
}

fn other() -> impl Strategy<Value = Event> {
    prop_oneof![
        (job(), option::of(0.0..1e9), moment()).prop_map(|(job, last, at)| Event::Started {
            job,
            last,
            at
        }),
        (job(), time(), moment()).prop_map(|(job, running, at)| Event::Slow { job, running, at }),
        (job(), any::<String>(), any::<String>()).prop_map(|(job, program, command)| {
            Event::WaitsForGdb {
                job,
                program,
                command,
            }
        }),
        (job(), any::<String>()).prop_map(|(job, program)| Event::Debugging { job, program }),
        (job(), vec(any::<u8>(), 0..20)).prop_map(|(job, bytes)| Event::Output { job, bytes }),
        moment().prop_map(|at| Event::StatusAsked { at }),
        any::<usize>().prop_map(|running| Event::Interrupting { running }),
        (vec(job(), 0..3), any::<bool>(), time()).prop_map(|(not_reached, interrupted, wall)| {
            Event::RunFinished {
                not_reached,
                interrupted,
                wall,
            }
        }),
    ]
}

fn start() -> impl Strategy<Value = (Event, RunInfo)> {
    let shard = option::of((1..9_usize, "[0-9a-f]{0,16}"));
    let shard = shard.prop_map(|s| {
        s.map(|(index, plan)| Shard {
            index,
            of: index + 1,
            jobs: 10 * index,
            plan,
        })
    });
    let header = vec((".{0,5}", ".{0,9}"), 0..3);
    let rest = (
        option::of(any::<u64>()),
        moment(),
        any::<bool>(),
        any::<bool>(),
    );
    (vec(job(), 0..4), header, shard, vec(".{0,9}", 0..2), rest).prop_map(
        |(plan, header, shard, missing_shards, (shuffle, at, flaky_passes, tap_numbers))| {
            let event = Event::RunStarted {
                header,
                jobs: plan.len(),
                combos: plan.iter().map(|job| Arc::clone(&job.combo)).collect(),
                tests: plan.iter().map(|job| job.test.name.clone()).collect(),
                shuffle,
                at,
            };
            let info = RunInfo {
                flaky_passes,
                tap_numbers,
                shard,
                missing_shards,
                plan,
            };
            (event, info)
        },
    )
}

/// A run as lines.
fn lines(start: &Event, info: &RunInfo, results: &[Result], others: &[Event]) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(info.clone(), Previous::default());
    let mut lines = vec![encoder.line(start, None).unwrap().unwrap()];
    for result in results {
        let event = Event::Finished(Box::new(result.finished.clone()));
        lines.extend(encoder.line(&event, Some(&result.rendered())).unwrap());
    }
    for event in others {
        lines.extend(encoder.line(event, None).unwrap());
    }
    lines
}

/// The lines of what the lines say.
fn again(lines: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut encoder = None;
    let mut all = Vec::new();
    for line in lines {
        let (event, parts) = match decode(line).unwrap() {
            Decoded::RunStarted { event, info, .. } => {
                encoder = Some(Encoder::new(*info, Previous::default()));
                (event, None)
            }
            Decoded::Finished { event, parts, .. } => (event, Some(*parts)),
            Decoded::Other(event) => (event, None),
            Decoded::Unknown => panic!("{}", String::from_utf8_lossy(line)),
        };
        let rendered = match (&event, parts) {
            (Event::Finished(finished), Some(parts)) => Some(Rendered::stored(finished, parts)),
            _ => None,
        };
        all.extend(
            encoder
                .as_mut()
                .unwrap()
                .line(&event, rendered.as_ref())
                .unwrap(),
        );
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_read_gives_the_same_lines_again(
        (start, info) in start(),
        results in vec(result(), 0..3),
        others in vec(other(), 0..5),
    ) {
        let lines = lines(&start, &info, &results, &others);
        for (line, again) in lines.iter().zip(&again(&lines)) {
            prop_assert_eq!(String::from_utf8_lossy(line), String::from_utf8_lossy(again));
        }
    }

    #[test]
    fn any_line_is_read_or_refused(line in vec(any::<u8>(), 0..200), cut in any::<usize>()) {
        let _ = decode(&line);
        let finished = sample::finished(sample::job(0, "001", "raw"), Verdict::Pass);
        let event = Event::Finished(Box::new(finished.clone()));
        let mut encoder = Encoder::new(RunInfo::default(), Previous::default());
        let whole = encoder.line(&event, Some(&Rendered::new(&finished))).unwrap().unwrap();
        prop_assert!(decode(&whole[..cut % (whole.len() - 1)]).is_err());
    }
}

/// Of a long difference as much is kept as reports show, and how much more there is.
#[test]
fn a_long_difference_is_kept_as_far_as_it_is_shown() {
    let expected: String = (0..20_000).map(|n| format!("old {n}\n")).collect();
    let actual: String = (0..20_000).map(|n| format!("{n} new\n")).collect();
    let diff = Diff::new(expected.as_bytes(), actual.as_bytes(), &Limits::default());
    let finished = sample::finished(
        sample::job(0, "030", "qcow2"),
        Verdict::Fail(vec![Failure::Output]),
    );
    let result = Result {
        finished,
        diff: Some(diff),
        logs: Vec::new(),
        at: sample::at(0),
        output_kept: true,
    };
    let (event, info) = (sample::run_started(&["030"], 0), RunInfo::default());
    let lines = lines(&event, &info, std::slice::from_ref(&result), &[]);
    assert!(lines[1].len() < 100_000, "{}", lines[1].len());
    assert_eq!(again(&lines), lines);
    let Ok(Decoded::Finished { parts, .. }) = decode(&lines[1]) else {
        panic!("no result");
    };
    let (live, read) = (
        result.rendered(),
        Rendered::stored(&result.finished, *parts),
    );
    for paint in [Paint::Plain, Paint::Ansi] {
        assert_eq!(read.diff_text(paint), live.diff_text(paint));
    }
    let count = |diff: &Diff| diff.hunks.iter().map(|h| h.lines.len()).sum::<usize>();
    assert_eq!(read.diff.as_ref().map(count), live.diff.as_ref().map(count));
}

#[test]
fn other_lines_are_refused_by_name() {
    for (line, want) in [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("{\"test\":\"001\",\"groups\":[]}", "not an event of a run"),
        (
            "{\"event\":\"run-started\",\"version\":2}",
            "written by a newer check: version 2",
        ),
        ("{\"event\":\"started\",\"job\":1}", "malformed event: "),
    ] {
        let error = decode(line.as_bytes()).unwrap_err();
        assert!(error.starts_with(want), "{line}: {error}");
    }
    let new = decode(b"{\"event\":\"sang\",\"song\":1}");
    assert!(matches!(new, Ok(Decoded::Unknown)), "{new:?}");
}
