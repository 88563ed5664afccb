//! Options that bound, repeat, debug and review runs.

use crate::fixture::{Said, Suite, bare, said};

/// Whether the summary says that every one of `n` tests has passed.
#[track_caller]
fn assert_passed(ran: &Said, n: usize) {
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    let want = format!("Passed all {n} iotests\n");
    assert!(ran.out.contains(&want), "{want}: {}", ran.out);
}

#[test]
fn a_test_that_hangs_is_ended_after_its_time_out() {
    let suite = Suite::new();
    suite.pair("001", "sleep 1000\n", "");
    let ran = said(&mut suite.check("-raw --timeout 1"));
    assert_eq!(ran.status, Some(1), "{}", ran.out);
    assert!(ran.out.contains("Failures: 001"), "{}", ran.out);
}

#[test]
fn a_test_that_floods_is_ended_at_the_limit() {
    let suite = Suite::new();
    suite.pair("001", "exec yes\n", "");
    let ran = said(&mut suite.check("-raw --output-limit 1M"));
    assert_eq!(ran.status, Some(1), "{}", ran.out);
    assert!(ran.out.len() < 1 << 20, "{}", ran.out.len());
}

#[test]
fn what_is_left_behind_is_named_and_fails_where_asked() {
    let suite = Suite::new();
    // It is another shell until it has become what it is to be.
    let sleep = "sleep 1000 >/dev/null 2>&1 &\n\
                 until read name < /proc/$!/comm && [ $name = sleep ]; do :; done\n";
    suite.pair("001", sleep, "");
    let ran = said(&mut suite.check("-raw"));
    assert_passed(&ran, 1);
    assert!(ran.out.contains("sleep"), "{}", ran.out);
    let ran = said(&mut suite.check("-raw --left-behind fail"));
    assert_eq!(ran.status, Some(1), "{}", ran.out);
}

#[test]
fn tests_are_repeated_as_often_as_asked() {
    let suite = Suite::new();
    suite.pair("001", "", "").pair("002", "", "");
    assert_passed(&said(&mut suite.check("-raw --repeat 3 --shuffle")), 6);
    // Fails when it is run for the third time.
    let third = "f=$TEST_DIR/../../count; echo x >>$f; [ $(wc -l <$f) -lt 3 ]\n";
    suite.pair("003", third, "");
    let ran = said(&mut suite.check("-raw -j 1 --until-fail 3"));
    assert_eq!(ran.status, Some(1), "{}", ran.out);
    assert!(ran.out.contains("Failed 1 of 3 iotests"), "{}", ran.out);
}

#[test]
fn the_first_failure_can_end_the_run() {
    let suite = Suite::new();
    suite
        .pair("001", "", "")
        .pair("002", "exit 1\n", "")
        .pair("003", "", "");
    // What failed last is run first.
    said(&mut suite.check("-raw"));
    let ran = said(&mut suite.check("-raw -j 1 --fail-fast"));
    assert_eq!(ran.status, Some(1), "{}", ran.out);
    assert!(ran.out.contains("Failed 1 of 1 iotests"), "{}", ran.out);
}

#[test]
fn differences_can_be_reviewed() {
    let suite = Suite::new();
    suite
        .pair("001", "echo new\n", "old\n")
        .pair("002", "echo x\n", "y\n");
    assert_eq!(said(&mut suite.check("-qcow2")).status, Some(1));
    let mut review = bare("/bin/sh".as_ref());
    review.args(["-c", "printf 'a\\ns\\n' | \"$0\" --review"]);
    review.arg(crate::fixture::CHECK).current_dir(suite.dir());
    let out = said(&mut review).fine();
    assert!(out.contains("1 accepted, 0 rejected, 1 left"), "{out}");
    assert_passed(&said(&mut suite.check("-qcow2 1")), 1);
    let err = said(suite.check("--review").env("CI", "1")).failed(1);
    assert!(err.contains("--review"), "{err}");
}

#[test]
fn reports_are_written_where_asked() {
    let suite = Suite::new();
    suite.pair("001", "", "").pair("002", "echo x\n", "");
    let ran = said(&mut suite.check("-raw --junit j.xml --json e.json --html page"));
    assert_eq!(ran.status, Some(1), "{}", ran.err);
    let read = |name: &str| std::fs::read_to_string(suite.dir().join(name)).expect(name);
    assert!(
        read("j.xml").contains("<testcase name=\"002\""),
        "{}",
        read("j.xml")
    );
    assert!(read("page/index.html").contains("002"));
    assert!(read("e.json").lines().count() > 3);
    let err = said(&mut suite.check("-raw --junit no/such/j.xml")).failed(1);
    assert!(err.contains("no/such/j.xml"), "{err}");
}

/// Lists and reports that got lost once left the exit status at 0.
#[test]
fn what_cannot_be_written_is_no_success() {
    let suite = Suite::new();
    suite.pair("001", "", "");
    for line in ["-n", "--help", "-raw", "-raw -tap"] {
        let full = std::fs::File::create("/dev/full").expect("/dev/full");
        let ran = said(suite.check(line).stdout(full));
        assert_eq!(ran.status, Some(1), "{line}: {}", ran.err);
        assert!(ran.err.contains("No space left"), "{line}: {}", ran.err);
    }
    for report in ["--json", "--junit"] {
        let ran = said(&mut suite.check(&format!("-raw {report} /dev/full")));
        assert_eq!(ran.status, Some(1), "{report}: {}", ran.err);
        assert!(ran.out.contains("Passed all 1 iotests"), "{}", ran.out);
        assert!(ran.err.contains("/dev/full"), "{}", ran.err);
    }
}

/// The output of a test that passes once was gone before it was asked for.
#[test]
fn a_variant_is_written_for_a_test_that_passes() {
    let suite = Suite::new();
    suite
        .pair("001", "echo v\n", "v\n")
        .pair("002", "echo v\n", "other\n")
        .file("002.out.raw", "v\n");
    let out = said(&mut suite.check("-raw --bless=raw 1")).fine();
    assert!(out.contains("it would equal"), "{out}");
    let out = said(&mut suite.check("-raw --bless=plain 2")).fine();
    assert!(out.contains("reference written"), "{out}");
    let written = std::fs::read_to_string(suite.dir().join("002.out"));
    assert_eq!(written.expect("002.out"), "v\n");
    let scratch = suite.dir().join("scratch/raw-file-002");
    assert!(!scratch.exists(), "{}", scratch.display());
}

/// It once replaced every reference without a question.
#[test]
fn blessing_all_tests_is_asked_for() {
    let suite = Suite::new();
    suite.pair("001", "echo x\n", "").pair("002", "", "");
    let err = said(&mut suite.check("-raw --bless")).failed(1);
    assert_eq!(
        err,
        "check: argument --bless: name the tests, or add --all to write the references of 2 tests\n"
    );
    let read = || std::fs::read_to_string(suite.dir().join("001.out")).expect("001.out");
    assert_eq!(read(), "");
    said(&mut suite.check("-raw --bless --all")).fine();
    assert_eq!(read(), "x\n");
    suite.file("001.out", "");
    said(&mut suite.check("-raw --bless -g rw")).fine();
    assert_eq!(read(), "x\n");
}
