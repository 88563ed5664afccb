//! What runs when, how often, and how a run is stopped.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use check::history::Past;
use check::model::{Event, Kind, Verdict};
use check::run::Parallel;

use crate::suite::Suite;

/// Longer than anything here takes on a loaded machine.
const AGES: Duration = Duration::from_secs(120);

#[test]
fn failed_and_long_ones_start_first() {
    let mut suite = Suite::new();
    suite.settings.parallel = Parallel::Exactly(1);
    let past = |secs, verdict| Past {
        last_passed_secs: Some(secs),
        last_verdict: Some(verdict),
    };
    suite.past = vec![
        ("001", past(0.1, Kind::Pass)),
        ("002", past(5.0, Kind::Pass)),
        ("003", past(0.2, Kind::Fail)),
    ];
    for name in ["001", "002", "003"] {
        suite.test(name, "", "");
    }
    let report = suite.run();
    assert_eq!(report.started(), ["003", "002", "001"]);
    assert_eq!(report.of("002").last, Some(5.0));
}

#[test]
fn a_serial_test_runs_alone() {
    let mut suite = Suite::new();
    suite.settings.parallel = Parallel::Exactly(4);
    // Each one leaves a mark while it runs, the serial one looks for others'.
    let script = "touch ../mark.$NAME; sleep 0.05; rm ../mark.$NAME";
    let root = suite.settings.test_dir.clone();
    for name in ["001", "002", "003", "005"] {
        suite.test(name, &format!("cd $TEST_DIR; {script}"), "");
    }
    suite.test(
        "004",
        "cd $TEST_DIR; ls .. | grep mark; echo alone",
        "alone\n",
    );
    suite.change(|test| {
        test.groups.insert("serial".into());
    });
    let report = suite.run();
    assert_eq!(*report.verdict("004"), Verdict::Pass);
    assert_eq!(report.summary.passed, 5);
    assert!(root.exists());
}

#[test]
fn as_many_run_at_once_as_asked_for() {
    let mut suite = Suite::new();
    suite.settings.parallel = Parallel::Exactly(3);
    // Each waits until all three are there: fewer at once would never end.
    let script = "touch $TEST_DIR/../here.$NAME; \
                  while [ $(ls $TEST_DIR/.. | grep -c here) -lt 3 ]; do sleep 0.01; done";
    for name in ["001", "002", "003"] {
        suite.test(name, script, "");
    }
    assert_eq!(suite.run().summary.passed, 3);
}

#[test]
fn without_a_number_every_job_is_run() {
    let mut suite = Suite::new();
    suite.settings.parallel = Parallel::Auto;
    for n in 0..8 {
        suite.test(&format!("{n:03}"), "", "");
    }
    assert_eq!(suite.run().summary.passed, 8);
}

#[test]
fn fail_fast_starts_nothing_more() {
    let mut suite = Suite::new();
    suite.settings.parallel = Parallel::Exactly(1);
    suite.settings.fail_fast = true;
    suite.test("001", "", "");
    suite.test("002", "exit 1", "");
    suite.test("003", "", "");
    let report = suite.run();
    assert_eq!(report.started(), ["001", "002"]);
    assert_eq!(report.summary.not_reached, 1);
    assert!(!report.summary.interrupted);
}

#[test]
fn a_failure_that_passes_when_tried_again_is_flaky() {
    let mut suite = Suite::new();
    suite.settings.rerun_failed = 2;
    let counter = suite.dir.path().join("counter");
    let script = format!("[ -e {0} ] || {{ touch {0}; exit 1; }}", counter.display());
    suite.test("001", &script, "");
    suite.test("002", "exit 4", "");
    let report = suite.run();
    assert!(matches!(
        report.verdict("001"),
        Verdict::Flaky { passed: 2, .. }
    ));
    assert!(matches!(report.verdict("002"), Verdict::Fail(_)));
    assert_eq!(report.of("002").retries, Some((0, 2)));
    assert_eq!((report.summary.flaky, report.summary.failed), (1, 1));
    // The first failure's output is kept, the retries' directories are not.
    assert!(suite.scratch("001").join("001.out.bad").is_file());
    assert_eq!(fs::read_dir(&suite.settings.test_dir).unwrap().count(), 2);
}

#[test]
fn until_fail_goes_on_until_one_fails() {
    let mut suite = Suite::new();
    suite.settings.until_fail = true;
    let counter = suite.dir.path().join("counter");
    let script = format!("echo x >> {0}; [ $(wc -l < {0}) -lt 4 ]", counter.display());
    suite.test("001", &script, "");
    let report = suite.run();
    assert_eq!((report.summary.passed, report.summary.failed), (3, 1));
    let repetitions: Vec<u32> = report.all().map(|f| f.job.repetition).collect();
    assert_eq!(repetitions, [0, 1, 2, 3]);
}

#[test]
fn an_interrupt_ends_what_runs_and_starts_no_more() {
    const VICTIM: &str = "CHECK_TEST_INTERRUPT";
    // Signals are the whole process's: this case has one of its own.
    if std::env::var_os(VICTIM).is_none() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "ordered::an_interrupt_ends_what_runs_and_starts_no_more",
            ])
            .env(VICTIM, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let me = nix::unistd::Pid::this();
    let mut suite = Suite::new();
    suite.settings.parallel = Parallel::Exactly(1);
    suite.test(
        "001",
        "trap '' TERM; (setsid sleep 1000 &); touch $TEST_DIR/up; sleep 1000",
        "",
    );
    suite.test("002", "", "");
    let report = suite.run_while(|suite, events| {
        let deadline = Instant::now() + AGES;
        while !suite.scratch("001").join("up").exists() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGUSR1).unwrap();
        while !matches!(
            events.recv_timeout(AGES).unwrap(),
            Event::StatusAsked { .. }
        ) {}
        nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGINT).unwrap();
        while !matches!(
            events.recv_timeout(AGES).unwrap(),
            Event::Interrupting { running: 1 }
        ) {}
        nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGINT).unwrap();
    });
    assert_eq!(*report.verdict("001"), Verdict::Interrupted);
    assert!(report.summary.interrupted);
    assert_eq!(
        (report.summary.interrupted_jobs, report.summary.not_reached),
        (1, 1)
    );
    let Some(Event::RunFinished {
        not_reached,
        interrupted: true,
        ..
    }) = report.events.last()
    else {
        panic!("{:?}", report.events.last());
    };
    assert_eq!(not_reached[0].test.name, "002");
}

#[test]
fn combinations_of_a_test_run_side_by_side() {
    let mut suite = Suite::new();
    suite.settings.parallel = Parallel::Exactly(2);
    let script = "echo $TEST_DIR > $TEST_DIR/../dir.$(basename $TEST_DIR)";
    suite.test("001", script, "");
    let mut other = suite.jobs[0].clone();
    let mut combo = (*other.combo).clone();
    combo.cache = "none".into();
    other.combo = combo.into();
    suite.jobs.push(other);
    let mut again = suite.jobs[0].clone();
    again.repetition = 1;
    suite.jobs.push(again);
    assert_eq!(suite.run().summary.passed, 3);
    assert_eq!(fs::read_dir(&suite.settings.test_dir).unwrap().count(), 3);
}

#[test]
fn a_panic_in_the_runner_fails_one_job_only() {
    let mut suite = Suite::new();
    suite.test("panics", "", "");
    suite.test("001", "", "");
    let report = suite.run();
    let verdict = format!("{:?}", report.verdict("panics"));
    assert!(verdict.contains("on purpose"), "{verdict}");
    assert_eq!(*report.verdict("001"), Verdict::Pass);
}
