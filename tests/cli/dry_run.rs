//! `-n`: which tests would run.

use std::os::unix::fs::symlink;

use crate::fixture::{CHECK, Suite, bare, said};

fn suite() -> Suite {
    let suite = Suite::new();
    for (name, groups, body) in [
        ("001", "rw auto quick", "_supported_fmt generic\n"),
        (
            "002",
            "rw auto",
            "_supported_fmt qcow2\n_unsupported_imgopts x\n",
        ),
        (
            "003",
            "rw",
            "_supported_fmt generic\n_unsupported_fmt luks vpc\n",
        ),
        ("004", "disabled", ""),
    ] {
        suite.test(name, groups, body);
    }
    suite.test(
        "named",
        "auto",
        "iotests.main(supported_fmts=['raw',\n 'luks'])\n",
    );
    suite.file("tests/named.out", "");
    suite
}

fn names(suite: &Suite, line: &str) -> String {
    let out = said(&mut suite.check(&format!("-n {line}"))).fine();
    out.lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn names_are_printed_one_a_line() {
    let suite = suite();
    assert_eq!(said(&mut suite.check("-n -g rw")).fine(), "001\n002\n003\n");
}

#[test]
fn selection_follows_the_old_runner() {
    let suite = suite();
    for (line, want) in [
        ("", "001 002 003 named"),
        ("-g auto", "001 002 named"),
        ("-g auto -x quick", "002 named"),
        ("-g disabled", "004"),
        ("4 1", "001 004"),
        ("-g quick 4", "001 004"),
        ("--start-from 3", "003 named"),
        ("-E group(auto)-test(=named)", "001 002"),
        ("-g rw -E !test(/2$/)", "001 003"),
        ("-qcow2 -E format(qcow2)&group(quick)", "001"),
        ("--formats qcow2,raw -E test(3)|test(~me)", "003 named"),
        ("-E test(1) -E kind(script)&test(2)", "001 002"),
        ("--shard 1/2", "001 003"),
        ("--shard 2/2", "002 named"),
        ("--shuffle --start-from=2 -j4 -tap", "002 003 named"),
    ] {
        assert_eq!(names(&suite, line), want, "{line}");
    }
}

#[test]
fn an_expression_that_holds_for_nothing_is_told() {
    let suite = suite();
    let err = said(&mut suite.check("-n -qcow2 -E format(raw)")).failed(1);
    let want = "check: No tests selected: the expression of -E holds for none\n";
    assert_eq!(err, want);
}

#[test]
fn formats_are_read_off_the_tests() {
    let suite = suite();
    for (line, want) in [
        ("-qcow2", "001 002 003"),
        ("-luks", "001 named"),
        ("-raw", "001 003 named"),
        ("-qed 2", ""),
        ("-nbd", "001 002 003 named"),
        ("--formats luks,vpc", "001 named"),
    ] {
        assert_eq!(names(&suite, line), want, "{line}");
    }
}

#[test]
fn nothing_is_written_and_no_program_is_needed() {
    let suite = suite();
    std::fs::remove_dir_all(suite.root().join("storage-daemon")).expect("removed");
    std::fs::remove_file(suite.root().join("qemu-img")).expect("removed");
    let count = || std::fs::read_dir(suite.dir()).expect("a directory").count();
    let before = count();
    names(&suite, "-qcow2");
    assert_eq!(count(), before);
}

#[test]
fn through_a_link_the_source_is_where_it_points() {
    let suite = suite();
    let build = tempfile::tempdir().expect("a directory");
    // What stands beside the tests in the source directory.
    suite.file("check", "");
    let link = build.path().join("check");
    symlink(suite.dir().join("check"), &link).expect("a link");
    let mut command = bare(CHECK.as_ref());
    std::os::unix::process::CommandExt::arg0(&mut command, "./check");
    command
        .args(["-n", "-g", "quick"])
        .current_dir(build.path());
    assert_eq!(said(&mut command).fine(), "001\n");
    let mut command = bare(CHECK.as_ref());
    command
        .args(["-n", "-g", "quick", "--source-dir"])
        .arg(suite.dir());
    command.current_dir(build.path());
    assert_eq!(said(&mut command).fine(), "001\n");
}
