//! What a test may do, and what is said of it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use check::model::{Ended, Exit, Failure, Limit, Verdict};

use crate::suite::Suite;

fn failed(failures: impl Into<Vec<Failure>>) -> Verdict {
    Verdict::Fail(failures.into())
}

fn lives(pid: &str) -> bool {
    let stat = Path::new("/proc").join(pid.trim()).join("stat");
    fs::read_to_string(stat).is_ok_and(|s| !s.contains(") Z "))
}

#[test]
fn pass_fail_and_not_run() {
    let mut suite = Suite::new();
    suite.test("001", "echo fine", "fine\n");
    suite.test("002", "echo wrong", "right\n");
    suite.test("003", "echo fine; exit 3", "fine\n");
    suite.test("004", "echo no tool > $TEST_DIR/004.notrun", "fine\n");
    suite.test(
        "005",
        "echo fine; echo one > $TEST_DIR/005.casenotrun",
        "fine\n",
    );
    suite.test("006", "", "").skip = Some("told so".into());
    suite.test("007", "echo new", "");
    fs::remove_file(suite.dir.path().join("007.out")).unwrap();
    let report = suite.run();
    assert_eq!(*report.verdict("001"), Verdict::Pass);
    assert_eq!(*report.verdict("002"), failed([Failure::Output]));
    assert_eq!(*report.verdict("003"), failed([Failure::ExitStatus(3)]));
    assert_eq!(*report.verdict("004"), Verdict::NotRun("no tool".into()));
    assert_eq!(*report.verdict("005"), Verdict::Pass);
    assert_eq!(report.of("005").cases_not_run, ["one"]);
    assert_eq!(*report.verdict("006"), Verdict::NotRun("told so".into()));
    assert!(matches!(report.verdict("007"), Verdict::NotRun(r) if r.starts_with("no reference")));
    let summary = &report.summary;
    assert_eq!((summary.passed, summary.failed, summary.not_run), (2, 2, 3));
    assert_eq!(report.of("001").notes, ["seen"]);

    // Scratch of what passed is gone; of what failed the output is there.
    assert!(!suite.scratch("001").exists() && !suite.scratch("004").exists());
    let output = fs::read(suite.scratch("002").join("002.out.bad")).unwrap();
    assert_eq!(output, b"wrong\n");
    let mismatch = report.of("002").mismatch.as_ref().unwrap();
    assert_eq!(*mismatch.expected, b"right\n");
    assert_eq!(*mismatch.actual, b"wrong\n");
    assert_eq!(fs::read_dir(&suite.settings.sock_dir).unwrap().count(), 0);
}

#[test]
fn scratch_is_kept_on_request_and_fresh_each_time() {
    let mut suite = Suite::new();
    suite.settings.keep = true;
    suite.test(
        "001",
        "cd $TEST_DIR; ls; echo old > 001.notrun2",
        "001.out.bad\n",
    );
    for _ in 0..2 {
        assert_eq!(*suite.run().verdict("001"), Verdict::Pass);
        assert!(suite.scratch("001").join("001.notrun2").exists());
    }
}

#[test]
fn a_test_without_a_reference_runs_where_one_is_to_be_made() {
    let mut suite = Suite::new();
    suite.settings.run_without_reference = true;
    suite.test("001", "echo new", "");
    fs::remove_file(suite.dir.path().join("001.out")).unwrap();
    let report = suite.run();
    let finished = report.of("001");
    assert_eq!(*finished.mismatch.as_ref().unwrap().actual, b"new\n");
    assert!(finished.outcome.as_ref().unwrap().output.is_file());
}

#[test]
fn output_that_is_no_text_is_compared_as_bytes() {
    let mut suite = Suite::new();
    suite.test("001", r"printf '\377\376\n\000'", "");
    fs::write(suite.dir.path().join("001.out"), b"\xff\xfe\n\0").unwrap();
    suite.test("002", r"printf '\377\n'", "\n");
    let report = suite.run();
    assert_eq!(*report.verdict("001"), Verdict::Pass);
    assert_eq!(*report.verdict("002"), failed([Failure::Output]));
}

#[test]
fn a_signal_is_told_and_a_core_kept() {
    let mut suite = Suite::new();
    suite.test("001", "cd $TEST_DIR; kill -SEGV $$", "");
    suite.test("002", "sh -c 'ulimit -c 0; kill -ABRT $$'; exit 0", "");
    let report = suite.run();
    assert_eq!(*report.verdict("001"), failed([Failure::Signal(11)]));
    let outcome = report.of("001").outcome.as_ref().unwrap();
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if pattern.trim() == "core" {
        let name = outcome.cores[0].file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("001.core."), "{name}");
        assert!(outcome.cores[0].starts_with(suite.scratch("001").canonicalize().unwrap()));
    }
    assert_eq!(
        report.of("002").outcome.as_ref().unwrap().exit,
        Exit::Status(0)
    );
}

#[test]
fn a_hang_is_ended_with_its_stacks() {
    let mut suite = Suite::new();
    suite.settings.slow_after = Duration::from_millis(100);
    suite.test(
        "001",
        "trap '' TERM; sh -c 'trap \"\" TERM; sleep 1000' & echo $! > $TEST_DIR/pid; wait; wait",
        "",
    );
    let time_out = Duration::from_millis(700);
    suite.change(|test| test.timeout = Some(time_out));
    let report = suite.run();
    assert!(
        matches!(report.verdict("001"), Verdict::Fail(f) if f[0] == Failure::TimeOut(time_out))
    );
    let outcome = report.of("001").outcome.as_ref().unwrap();
    let stacks = fs::read_to_string(outcome.stacks.as_ref().unwrap()).unwrap();
    assert!(stacks.contains("sleep 1000"), "{stacks}");
    let full = outcome.scratch.join("001.stacks.full");
    assert!(
        stacks.contains(&format!("all frames: {}", full.display())),
        "{stacks}"
    );
    assert!(fs::read_to_string(full).unwrap().contains("== process "));
    assert!(!lives(
        &fs::read_to_string(suite.scratch("001").join("pid")).unwrap()
    ));
    assert_eq!(outcome.left_behind, []);
    let slow = |e: &check::model::Event| matches!(e, check::model::Event::Slow { .. });
    assert!(report.events.iter().any(slow));
}

#[test]
fn a_flood_of_output_is_ended_and_cut() {
    let mut suite = Suite::new();
    suite.settings.output_limit = 1 << 20;
    suite.test("001", "exec yes", "");
    suite.test("002", "head -c 2000000 /dev/zero", "");
    let report = suite.run();
    for name in ["001", "002"] {
        let limit = Failure::Limit(Limit::Output(1 << 20));
        assert!(matches!(report.verdict(name), Verdict::Fail(f) if f[0] == limit));
        let outcome = report.of(name).outcome.as_ref().unwrap();
        assert_eq!(fs::metadata(&outcome.output).unwrap().len(), 1 << 20);
    }
}

#[test]
fn filling_the_disk_is_ended() {
    let mut suite = Suite::new();
    suite.settings.scratch_limit = 1 << 20;
    suite.test(
        "001",
        "mkdir $TEST_DIR/sub; truncate -s 1T $TEST_DIR/hole; head -c 8000000 /dev/zero > $TEST_DIR/sub/big; sleep 1000",
        "",
    );
    let report = suite.run();
    let limit = Failure::Limit(Limit::Scratch(1 << 20));
    assert!(matches!(report.verdict("001"), Verdict::Fail(f) if f[0] == limit));
}

#[test]
fn a_daemon_is_ended_and_listed() {
    let mut suite = Suite::new();
    let script = "(setsid sh -c 'trap \"\" TERM; echo $$ > $TEST_DIR/pid; sleep 1000' <&- >&- 2>&- &); \
                  while ! [ -s $TEST_DIR/pid ]; do :; done; echo fine";
    suite.test("001", script, "fine\n");
    suite.settings.keep = true;
    let report = suite.run();
    assert_eq!(*report.verdict("001"), failed([Failure::LeftBehind]));
    let left = &report.of("001").outcome.as_ref().unwrap().left_behind;
    assert!(left.iter().any(|l| l.name == "sh"), "{left:?}");
    assert!(!lives(
        &fs::read_to_string(suite.scratch("001").join("pid")).unwrap()
    ));

    // Where the policy is lax it passes, and they are still listed.
    suite.settings.policy.left_behind_fails = false;
    let report = suite.run();
    assert_eq!(*report.verdict("001"), Verdict::Pass);
    assert!(
        !report
            .of("001")
            .outcome
            .as_ref()
            .unwrap()
            .left_behind
            .is_empty()
    );
}

#[test]
fn a_test_that_kills_its_supervisor_fails_alone() {
    let mut suite = Suite::new();
    suite.test(
        "001",
        "echo $$ > $TEST_DIR/pid; kill -9 $PPID; sleep 1000",
        "",
    );
    suite.test("002", "echo fine", "fine\n");
    suite.test("003", "kill -TERM $PPID; echo fine", "fine\n");
    let report = suite.run();
    let Verdict::Fail(failures) = report.verdict("001") else {
        panic!("{:?}", report.verdict("001"));
    };
    assert_eq!(failures[0], Failure::Signal(9));
    assert!(report.of("001").notes[0].contains("supervisor"));
    assert!(!lives(
        &fs::read_to_string(suite.scratch("001").join("pid")).unwrap()
    ));
    assert_eq!(*report.verdict("002"), Verdict::Pass);
    assert_eq!(*report.verdict("003"), Verdict::Pass);
}

#[test]
fn what_cannot_be_started_says_why() {
    let mut suite = Suite::new();
    suite.test("001", "", "");
    fs::set_permissions(
        suite.dir.path().join("001"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    suite.test("002", "echo fine", "fine\n");
    suite.test("003", "", "");
    fs::write(suite.dir.path().join("003"), "no interpreter\n").unwrap();
    suite.test("004", "", "");
    fs::write(suite.dir.path().join("004"), "#! /no/such/sh -e\r\n").unwrap();
    suite.test("005", "", "");
    fs::write(suite.dir.path().join("005"), "#!/bin/sh\r\necho\r\n").unwrap();
    let report = suite.run();
    for (name, advice) in [
        ("001", "chmod +x"),
        ("003", "#!/bin/sh"),
        ("004", "interpreter /no/such/sh is missing"),
        ("005", r"interpreter /bin/sh\r is missing"),
    ] {
        let verdict = report.verdict(name);
        let Verdict::Fail(failures) = verdict else {
            panic!("{verdict:?}");
        };
        let Failure::NotStarted(why) = &failures[0] else {
            panic!("{verdict:?}");
        };
        assert!(why.contains(advice), "{why}");
        assert_eq!(
            failures.len(),
            1,
            "what was not started has no output to compare"
        );
    }
    assert_eq!(*report.verdict("002"), Verdict::Pass);
}

#[test]
fn a_sanitizers_report_fails_a_test_whose_output_is_right() {
    let mut suite = Suite::new();
    suite.env.push(("ASAN_OPTIONS".into(), "strict=1".into()));
    let script = "log=${ASAN_OPTIONS##*log_path=}; echo ERROR > $log.77; echo ${ASAN_OPTIONS%%:*}";
    suite.test("001", script, "strict=1\n");
    let report = suite.run();
    assert_eq!(*report.verdict("001"), failed([Failure::Sanitizer]));
    let logs = &report.of("001").outcome.as_ref().unwrap().sanitizer_logs;
    assert!(logs[0].ends_with("001.out.asan.77"));
}

#[test]
fn a_fuse_mount_is_unmounted() {
    let fuse = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse");
    if let Err(e) = fuse {
        eprintln!("skipped: /dev/fuse: {e}");
        return;
    }
    let mut suite = Suite::new();
    let script = "cd $TEST_DIR; truncate -s 1M img; touch mnt
        qemu-storage-daemon --daemonize --pidfile pid --blockdev file,node-name=n,filename=img \
        --export fuse,id=e,node-name=n,mountpoint=$TEST_DIR/mnt > log 2>&1 || { cat log; exit 1; }
        grep -q $TEST_DIR/mnt /proc/self/mountinfo && echo mounted
        # SIGSTOP: it will not unmount by itself.
        kill -STOP $(cat pid)";
    suite.test("001", script, "mounted\n");
    let report = suite.run();
    let outcome = report.of("001").outcome.as_ref().unwrap();
    let output =
        String::from_utf8_lossy(&fs::read(&outcome.output).unwrap_or_default()).into_owned();
    if output.contains("fuse") {
        eprintln!("skipped: {output}");
        return;
    }
    assert_eq!(
        *report.verdict("001"),
        failed([Failure::LeftBehind]),
        "{output}"
    );
    assert_eq!(outcome.left_mounts, [outcome.scratch.join("mnt")]);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(outcome.scratch.to_str().unwrap()));
    assert_eq!(outcome.ended, None::<Ended>);
}

/// Only what FUSE had mounted was once unmounted, and the test passed.
#[test]
fn any_mount_is_unmounted() {
    let mut suite = Suite::new();
    let script = "mkdir $TEST_DIR/m; mount -t tmpfs none $TEST_DIR/m 2>/dev/null || echo cannot";
    suite.test("001", script, "");
    let report = suite.run();
    let outcome = report.of("001").outcome.as_ref().unwrap();
    if fs::read(&outcome.output).is_ok_and(|said| said == b"cannot\n") {
        eprintln!("skipped: mounting is not allowed here");
        return;
    }
    assert_eq!(*report.verdict("001"), failed([Failure::LeftBehind]));
    assert_eq!(outcome.left_mounts, [outcome.scratch.join("m")]);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(outcome.scratch.to_str().unwrap()));
}

#[test]
fn a_debugger_gets_the_terminal_and_gives_it_back() {
    const VICTIM: &str = "CHECK_TEST_TERMINAL";
    let name = "contained::a_debugger_gets_the_terminal_and_gives_it_back";
    if std::env::var_os(VICTIM).is_none() {
        let Ok(mut script) = Command::new("script")
            .args([
                "-qec",
                &format!("exec \"${VICTIM}\" --exact {name} --nocapture"),
                "/dev/null",
            ])
            .env("SHELL", "/bin/sh")
            .env(VICTIM, std::env::current_exe().unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            eprintln!("skipped: no script(1) to make a terminal");
            return;
        };
        let mut stdin = script.stdin.take().unwrap();
        stdin.write_all(b"typed\n").unwrap();
        let output = script.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("got typed, here"), "{text}");
        return;
    }
    let mut suite = Suite::new();
    suite.settings.debugger = Some(vec!["/usr/bin/env".into(), "WRAPPED=here".into()]);
    suite.settings.timeout = Some(Duration::from_millis(1));
    let script = "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] || exit 5; read x; echo got $x, $WRAPPED";
    suite.test("001", script, "nothing of this is compared\n");
    let judged = suite.run().verdict("001").clone();
    assert!(matches!(judged, Verdict::NotRun(_)), "{judged:?}");
    // The terminal's foreground is ours again.
    let foreground = nix::unistd::tcgetpgrp(std::io::stdin()).unwrap();
    assert_eq!(foreground, nix::unistd::getpgrp());
}
