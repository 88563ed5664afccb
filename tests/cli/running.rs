//! Runs: verdicts, what is printed, what is selected, what stays.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::pty::openpty;

use crate::fixture::{Said, Suite, said};

/// One test of each kind of verdict.
fn kinds() -> Suite {
    let suite = Suite::new();
    suite
        .pair("001", "echo fine\n", "fine  \n")
        .pair("002", "echo other\n", "fine\n")
        .pair("003", "echo fine; exit 3\n", "fine\n")
        .pair("004", "echo no KVM >$TEST_DIR/004.notrun\n", "")
        .pair(
            "005",
            "echo fine; echo part >$TEST_DIR/005.casenotrun\n",
            "fine\n",
        )
        .test("006", "rw", "echo fine\n");
    suite
}

/// The lines of the summary, the first word of each verdict line before it.
fn summary(said: &Said) -> Vec<&str> {
    let lines = said.out.lines();
    let wanted = [
        "Not run: ",
        "Skipped cases in: ",
        "Known failures: ",
        "Failures: ",
        "Failed ",
        "Passed ",
    ];
    lines
        .filter(|l| wanted.iter().any(|w| l.starts_with(w)))
        .collect()
}

#[test]
fn every_verdict_is_shown_and_summed_up() {
    let suite = kinds();
    let ran = said(&mut suite.check("-qcow2 -j 1"));
    assert_eq!(ran.status, Some(1), "{}", ran.err);
    assert_eq!(
        summary(&ran),
        [
            "Not run: 004 006",
            "Skipped cases in: 005",
            "Failures: 002 003",
            "Failed 2 of 4 iotests"
        ],
        "{}",
        ran.out
    );
    for want in ["-fine", "+other", "exit status 3", "no KVM", "006.out"] {
        assert!(ran.out.contains(want), "{want}: {}", ran.out);
    }
    let bad = |n: &str| {
        suite
            .dir()
            .join(format!("scratch/qcow2-file-{n}/{n}.out.bad"))
    };
    assert!(bad("002").is_file());
    assert!(
        !bad("001").exists(),
        "the output of a test that passes goes"
    );
}

#[test]
fn all_that_pass_is_a_success() {
    let suite = kinds();
    let ran = said(&mut suite.check("-raw -nbd 1 4 5"));
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    assert!(
        summary(&ran).contains(&"Passed all 2 iotests"),
        "{}",
        ran.out
    );
}

#[test]
fn tap_is_tap() {
    let suite = kinds();
    let ran = said(&mut suite.check("-qcow2 -tap -j1"));
    assert_eq!(ran.status, Some(1));
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(lines[0], "TAP version 13");
    for want in [
        "1..6",
        "# running qcow2 001",
        "ok qcow2 001",
        "not ok qcow2 002",
    ] {
        assert!(
            lines.iter().any(|l| l.strip_prefix(want).is_some()),
            "{want}: {}",
            ran.out
        );
    }
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("ok qcow2 004 # SKIP no KVM")),
        "{}",
        ran.out
    );
    let known = ["TAP", "1..", "ok ", "not ok ", "#"];
    assert!(
        lines.iter().all(|l| known.iter().any(|k| l.starts_with(k))),
        "{}",
        ran.out
    );
    assert!(
        ran.err.contains("+other"),
        "diffs go to stderr: {}",
        ran.err
    );
}

#[test]
fn directories_and_working_directory_are_the_tests_own() {
    let suite = Suite::new();
    let body = "basename $TEST_DIR; basename $SOCK_DIR; test -d $SOCK_DIR && pwd; cat; echo $#$1\n";
    let dir = suite.dir().canonicalize().expect("a directory");
    let wd = dir.display();
    suite.pair(
        "001",
        body,
        &format!("vdi-nbd-001\nvdi-nbd-001\n{wd}\n1-d\n"),
    );
    suite.test("named", "rw", body);
    suite.file(
        "tests/named.out",
        format!("vdi-nbd-named\nvdi-nbd-named\n{wd}/tests\n1-d\n"),
    );
    let ran = said(&mut suite.check("-vdi -nbd -d"));
    assert_eq!(ran.status, Some(0), "{}", ran.out);
}

#[test]
fn references_go_by_cache_format_and_machine() {
    let suite = Suite::new();
    suite.pair("001", "echo $CACHEMODE $IMGFMT\n", "plain\n");
    suite
        .file("001.out.nocache", "none qcow2\n")
        .file("001.out.raw", "writeback raw\n");
    suite.file("001.pc.out", "writeback vdi\n");
    for line in ["-qcow2 -nocache", "-raw", "-vdi"] {
        let ran = said(&mut suite.check(line));
        assert_eq!(ran.status, Some(0), "{line}: {}", ran.out);
    }
    assert_eq!(said(&mut suite.check("-vpc")).status, Some(1));
}

#[test]
fn tests_are_left_out_for_reasons() {
    let suite = Suite::new();
    for name in ["001", "002", "003"] {
        suite.pair(name, "", "");
    }
    suite.file("skip", "2 fmt=raw # sluggish here\n*3 proto=nbd # never\n");
    let mut check = suite.check("-raw -X skip");
    let ran = said(check.env("QEMU_TEST_IO_SKIP", "raw:003 qcow2:001"));
    assert_eq!(ran.status, Some(0), "{}", ran.out);
    assert!(summary(&ran).contains(&"Not run: 002 003"), "{}", ran.out);
    for want in ["sluggish here", "QEMU_TEST_IO_SKIP"] {
        assert!(ran.out.contains(want), "{want}: {}", ran.out);
    }
    // A pipe can be read once.
    let mut piped = crate::fixture::bare("/bin/sh".as_ref());
    let words = "printf '777\\n1 # piped\\n' | \"$0\" -raw -X /dev/stdin";
    piped.args(["-c", words, crate::fixture::CHECK]);
    let ran = said(piped.current_dir(suite.dir()));
    assert!(ran.out.contains("piped"), "{}", ran.out);
    assert!(
        ran.err.ends_with(":1: no test is named '777'\n"),
        "{}",
        ran.err
    );
}

#[test]
fn several_combinations_are_one_run() {
    let suite = Suite::new();
    let body = "[ $IMGFMT$IMGPROTO$CACHEMODE != rawnbdnone ] && echo fine\n";
    suite
        .pair("001", &format!("{body}true\n"), "fine\n")
        .pair("002", "", "");
    let line = "--formats qcow2,raw --protocols file,nbd --caches writeback,none --json events";
    let ran = said(&mut suite.check(line));
    assert_eq!(ran.status, Some(1), "{}", ran.err);
    let failed = summary(&ran).into_iter().find(|l| l.starts_with("Failed"));
    assert_eq!(failed, Some("Failed 1 of 16 iotests"), "{}", ran.out);
    let events = std::fs::read_to_string(suite.dir().join("events")).expect("events");
    assert!(
        events
            .lines()
            .all(|l| l.starts_with('{') && l.ends_with('}'))
    );
}

#[test]
fn what_failed_can_be_run_again() {
    let suite = kinds();
    said(&mut suite.check("-qcow2"));
    let again = said(&mut suite.check("--failed"));
    assert!(
        summary(&again).contains(&"Failed 2 of 2 iotests"),
        "{}",
        again.out
    );
    assert!(
        again.out.contains("IMGFMT        -- qcow2"),
        "{}",
        again.out
    );
    suite.pair("002", "", "").pair("003", "", "");
    assert_eq!(said(&mut suite.check("--failed")).status, Some(0));
    let err = said(&mut suite.check("--failed")).failed(1);
    assert!(err.contains("none of these failed"), "{err}");
    let shown = said(&mut suite.check("--history 2")).fine();
    assert!(shown.contains("002"), "{shown}");
}

#[test]
fn known_failures_are_expected_to_fail() {
    let suite = Suite::new();
    suite
        .pair("001", "echo x\n", "")
        .pair("002", "", "")
        .pair("003", "", "")
        .pair("004", "exit 1\n", "");
    suite.file("group.local", "1 mine\nfail 4 # bug 4\n");
    suite.file("known", "fail 001 # bug 1\nfail 3 flaky # at times\n");
    let ran = said(&mut suite.check("-raw -X known"));
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    let lines = summary(&ran);
    for want in [
        "Known failures: 001 004",
        "Passed 2 of 4 iotests, 2 known to fail",
    ] {
        assert!(lines.contains(&want), "{want}: {}", ran.out);
    }
    let out = said(&mut suite.check("-raw -tap -X known 1")).fine();
    assert!(out.contains("not ok raw 001 # TODO bug 1\n"), "{out}");
    suite.file("known", "fail 002 # bug 2\n");
    let ran = said(&mut suite.check("-raw -X known 2"));
    assert_eq!(ran.status, Some(1), "{}", ran.out);
    let want = "passed, though known to fail: bug 2";
    assert!(ran.out.contains(want), "{}", ran.out);
    assert!(summary(&ran).contains(&"Failures: 002"), "{}", ran.out);
}

/// Running one of three failed tests once made the other two forgotten.
#[test]
fn what_failed_is_kept_until_it_passes_under_the_same_combination() {
    let suite = Suite::new();
    for name in ["001", "002", "003"] {
        suite.pair(name, "echo x\n", "");
    }
    let failed = |line: &str| said(&mut suite.check(&format!("-n {line} --failed"))).out;
    said(&mut suite.check("-qcow2")).failed(1);
    suite.pair("002", "", "");
    said(&mut suite.check("-qcow2 2")).fine();
    assert_eq!(failed(""), "001\n003\n");
    suite.pair("001", "", "");
    said(&mut suite.check("-raw 1")).fine();
    assert_eq!(failed("-qcow2"), "001\n003\n");
    assert_eq!(failed("-raw"), "");
    let listed = said(&mut suite.check("-n -qcow2 -E failed()-test(3)")).fine();
    assert_eq!(listed, "001\n");
    said(&mut suite.check("--failed")).failed(1);
    assert_eq!(failed("-qcow2"), "003\n");
    said(&mut suite.check("-qcow2 -o compat=v3 3")).failed(1);
    suite.pair("003", "", "");
    said(&mut suite.check("-qcow2 3")).fine();
    assert_eq!(failed("-qcow2"), "");
    assert_eq!(failed(""), "003\n");
}

#[test]
fn references_are_written_when_asked() {
    let suite = kinds();
    let blessed = said(suite.check("-raw --bless 1 2 6").env("CI", "yes")).failed(1);
    assert!(blessed.contains("CI"), "{blessed}");
    let ran = said(&mut suite.check("-raw --bless 1 2 6"));
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    let read = |name: &str| std::fs::read_to_string(suite.dir().join(name)).expect(name);
    assert_eq!(
        (read("002.out"), read("006.out")),
        ("other\n".into(), "fine\n".into())
    );
    assert_eq!(said(&mut suite.check("-raw 1 2 6")).status, Some(0));
    suite.pair("001", "echo new\n", "old\n");
    let regen = said(suite.check("-raw 1").env("QEMU_IOTESTS_REGEN", ""));
    assert_eq!(
        regen.status,
        Some(1),
        "a mismatch is a failure all the same"
    );
    assert_eq!(read("001.out"), "new\n");
    let unused = said(
        suite
            .file("777.out", "")
            .check("--unused-goldens")
            .arg("-raw"),
    )
    .fine();
    assert!(unused.contains("777.out"), "{unused}");
}

#[test]
fn a_flaky_test_is_neither_passed_nor_failed() {
    let suite = Suite::new();
    let once = "f=$TEST_DIR/../seen; [ -e $f ] && exit 0; touch $f; exit 1\n";
    suite.pair("001", once, "");
    let ran = said(&mut suite.check("-raw --rerun-failed 2"));
    assert_eq!(ran.status, Some(1), "{}", ran.out);
    assert!(ran.out.contains("flaky"), "{}", ran.out);
    // It made the run fail, so it is among what failed.
    assert_eq!(said(&mut suite.check("-raw -n --failed")).fine(), "001\n");
    assert!(!ran.out.contains("Passed all"), "{}", ran.out);
}

#[test]
fn times_are_remembered_where_the_old_runner_keeps_them() {
    let suite = Suite::new();
    suite.pair("001", "", "");
    said(&mut suite.check("-raw"));
    let cache = std::fs::read_to_string(suite.dir().join(".last-elapsed-cache")).expect("times");
    assert!(
        cache.contains("\"file\"") && cache.contains("\"raw\""),
        "{cache}"
    );
}

#[test]
fn a_test_without_the_execute_bit_fails_alone() {
    let suite = kinds();
    let plain = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(suite.dir().join("001"), plain).expect("permissions");
    let ran = said(&mut suite.check("-raw 1 5"));
    assert!(summary(&ran).contains(&"Failures: 001"), "{}", ran.out);
    assert!(
        summary(&ran).contains(&"Failed 1 of 2 iotests"),
        "{}",
        ran.out
    );
}

#[test]
fn nothing_is_left_in_the_socket_directory() {
    let suite = Suite::new();
    suite.pair("001", "touch $SOCK_DIR/x; echo $SOCK_DIR >$OUT\n", "");
    let out = suite.dir().join("where");
    let ran = said(suite.check("-raw").env("OUT", &out));
    assert_eq!(ran.status, Some(0), "{}", ran.out);
    let dir = std::fs::read_to_string(&out).expect("a directory");
    let parent = Path::new(dir.trim()).parent().expect("a directory above");
    assert!(!parent.exists(), "{}", parent.display());
}

#[test]
fn an_interrupted_run_can_be_resumed() {
    let suite = Suite::new();
    suite.pair("001", "", "");
    // Interrupts the run that it is part of, then waits to be ended.
    suite.pair("002", "kill -INT $CHECK_PID; sleep 1000\n", "");
    suite.pair("003", "", "");
    // The pid of the shell stays that of check.
    let mut shell = crate::fixture::bare("/bin/sh".as_ref());
    shell
        .arg("-c")
        .arg("CHECK_PID=$$ exec \"$0\" -raw -j 1 --shuffle=1 2 3");
    shell.arg(crate::fixture::CHECK).current_dir(suite.dir());
    let ran = said(&mut shell);
    assert_eq!(ran.status, Some(130), "{}{}", ran.out, ran.err);
    assert!(!ran.out.contains("Passed all"), "{}", ran.out);
    suite.pair("002", "", "");
    let again = said(&mut suite.check("--resume"));
    assert_eq!(again.status, Some(0), "{}{}", again.out, again.err);
    assert!(again.out.contains("002"), "{}", again.out);
}

/// A terminal: the end for a program, and all that is written to it.
fn terminal() -> (OwnedFd, JoinHandle<String>) {
    let pty = openpty(None, None).expect("a terminal");
    let mut screen = File::from(pty.master);
    let read = std::thread::spawn(move || {
        let (mut all, mut part) = (Vec::new(), [0; 4096]);
        // Reading from a terminal that was closed is an error.
        while let Ok(n @ 1..) = screen.read(&mut part) {
            all.extend_from_slice(&part[..n]);
        }
        String::from_utf8_lossy(&all).into_owned()
    });
    (pty.slave, read)
}

#[test]
fn the_live_view_draws_on_stdout_alone() {
    let suite = Suite::new();
    suite.pair("001", "echo fine\n", "fine\n");
    suite.pair("002", "echo fine\n", "fine\n");
    let ((out, shown), (err, stray)) = (terminal(), terminal());
    let mut check = suite.check("-qcow2");
    check.env("TERM", "xterm").stdout(out).stderr(err);
    let status = check.status().expect("a program that runs");
    // It holds the ends of the terminals.
    drop(check);
    let shown = shown.join().expect("what was shown");
    assert!(status.success(), "{shown}");
    assert!(shown.contains("2 passed"), "{shown}");
    assert_eq!(stray.join().expect("what was shown"), "");
}

/// One test run by itself in between once made a whole suite compared with that one.
#[test]
fn changes_are_told_since_the_last_run_of_the_same_selection() {
    let suite = Suite::new();
    suite.pair("001", "echo fine\n", "fine\n");
    suite.pair("002", "echo other\n", "fine\n");
    suite.pair("003", "echo fine\n", "fine\n");
    let first = said(&mut suite.check("--formats raw,qcow2 --html page"));
    assert_eq!(first.status, Some(1), "{}", first.err);
    let page = || std::fs::read_to_string(suite.dir().join("page/index.html")).expect("a page");
    assert!(!page().contains("Changes since"));
    // What is not a terminal is told what it always was.
    assert!(!first.out.contains("hanges since"), "{}", first.out);

    suite.pair("002", "echo fine\n", "fine\n");
    suite.pair("003", "echo no KVM >$TEST_DIR/003.notrun\n", "fine\n");
    said(&mut suite.check("-raw 001")).fine();
    let (out, shown) = terminal();
    let mut check = suite.check("--formats raw,qcow2 --html page");
    check.env("TERM", "xterm").stdout(out);
    let status = check.status().expect("a program that runs");
    drop(check);
    let shown = shown.join().expect("what was shown");
    assert!(status.success(), "{shown}");
    let (_, changes) = shown.split_once("Changes since the run of ").expect(&shown);
    for line in [
        "Newly passing:",
        "002 (raw-file)  pass, was fail",
        "Newly not run:",
    ] {
        assert!(changes.contains(line), "{changes}");
    }
    assert!(!changes.contains("001 (raw"), "{changes}");
    let page = page();
    for title in ["Newly passing (2)", "Newly not run (2)"] {
        assert!(page.contains(title), "{page}");
    }
    assert!(!page.contains("Newly failing"), "{page}");
}

/// The directory for sockets once stayed for ever.
#[test]
fn the_socket_directory_goes_with_a_runner_that_is_killed() {
    let suite = Suite::new();
    suite.pair("001", "echo $SOCK_DIR >$SUITE/sock; exec sleep 600\n", "");
    let mut child = suite
        .check("-raw")
        .env("SUITE", suite.dir())
        .stdout(Stdio::null())
        .spawn()
        .expect("check");
    let told = loop {
        let told = std::fs::read_to_string(suite.dir().join("sock")).unwrap_or_default();
        if told.ends_with('\n') {
            break PathBuf::from(told.trim());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let root = told.parent().expect("the run's directory");
    assert!(root.exists());
    child.kill().expect("killed");
    child.wait().expect("an end");
    // What ends and removes it outlives the runner for a moment.
    while root.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_directory_that_nothing_can_be_written_to_is_told_at_once() {
    let suite = Suite::new();
    suite.pair("001", "", "").pair("002", "", "");
    // What may not be written to by root either.
    let err = said(suite.check("-raw").env("TEST_DIR", "/proc/self")).failed(1);
    assert!(err.contains("set TEST_DIR"), "{err}");
    assert_eq!(
        err.lines()
            .filter(|line| line.contains("/proc/self"))
            .count(),
        err.lines().count()
    );
}

#[test]
fn an_emulator_that_fails_without_output_is_named() {
    let suite = Suite::new();
    suite.pair("001", "", "");
    crate::fixture::script(&suite.root().join("qemu-system-x86_64"), "exit 3\n");
    let err = said(&mut suite.check("-raw")).failed(1);
    assert!(
        err.contains("exit status: 3: no diagnostic output"),
        "{err}"
    );
}

/// Two runs in the same directory once removed it under each other's tests.
#[test]
fn two_runs_at_once_take_turns() {
    let suite = Suite::new();
    let mine = "echo $$ >$TEST_DIR/me; for i in 1 2 3 4 5 6 7 8 9; do
        sleep 0.02; [ \"$(cat $TEST_DIR/me)\" = $$ ] || exit 9; done\n";
    for name in ["001", "002", "003"] {
        suite.pair(name, mine, "");
    }
    let runs: Vec<_> = (0..3)
        .map(|_| {
            let mut check = suite.check("-raw -j 3");
            check.stdout(Stdio::piped()).stderr(Stdio::piped());
            check.spawn().expect("check")
        })
        .collect();
    for run in runs {
        let output = run.wait_with_output().expect("an end");
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(out.contains("Passed all 3 iotests"), "{out}");
    }
}

#[test]
fn a_group_that_no_test_is_in_is_told() {
    let suite = Suite::new();
    suite.pair("001", "", "");
    let ran = said(&mut suite.check("-n -raw -g rw,nosuch"));
    assert_eq!((ran.status, ran.out.as_str()), (Some(0), "001\n"));
    assert_eq!(ran.err, "check: no test is in group 'nosuch'\n");
}
