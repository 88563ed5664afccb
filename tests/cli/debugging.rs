//! Programs in gdb, output that streams, and keys.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::pty::openpty;
use nix::sys::termios::tcgetattr;

use crate::fixture::{CHECK, Said, Suite, bare, said, script};

/// Whether a program is there; where it is not, a test that needs it says so.
fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// `PATH` with `dir` before all others.
fn path_with(dir: PathBuf) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = [dir].into_iter().chain(std::env::split_paths(&path));
    std::env::join_paths(dirs).expect("a path")
}

/// Runs a command that reads `text`.
fn fed(command: &mut Command, text: &str) -> Said {
    let mut input = tempfile::tempfile().expect("a file");
    input.write_all(text.as_bytes()).expect("written");
    std::io::Seek::rewind(&mut input).expect("rewound");
    said(command.stdin(input))
}

#[test]
fn a_debugger_for_the_test_has_the_terminal() {
    let suite = Suite::new();
    suite.pair("001", "read word; echo \"$word\" >$SUITE/read\n", "x\n");
    let ran = said(suite.check("-raw").env("SUITE", suite.dir()));
    assert_eq!(ran.status, Some(1), "{}", ran.out);
    let bin = suite.root().join("bin");
    script(
        &bin.join("gdb"),
        "echo \"$*\" >$SUITE/gdb; shift; exec \"$@\"\n",
    );
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = [bin].into_iter().chain(std::env::split_paths(&path));
    let mut check = suite.check("-raw --debugger-for test 1");
    check
        .env("PATH", std::env::join_paths(dirs).expect("a path"))
        .env("SUITE", suite.dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut child = check.spawn().expect("check");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"typed\n").expect("typed");
    drop(stdin);
    assert!(child.wait().expect("an end").success());
    let read = |name: &str| std::fs::read_to_string(suite.dir().join(name)).expect(name);
    assert_eq!(read("read"), "typed\n");
    let words = read("gdb");
    assert!(words.starts_with("--args /bin/sh /"), "{words}");
    // A run under a debugger has no result: the test counts as failed.
    assert_eq!(said(&mut suite.check("-raw -n --failed")).fine(), "001\n");
    suite.pair("002", "", "");
    let err = said(&mut suite.check("-raw --debugger-for test")).failed(1);
    assert!(err.contains("exactly one test"), "{err}");
}

/// A suite whose test starts qemu-img three times.
fn three_starts() -> Suite {
    let suite = Suite::new();
    script(
        &suite.root().join("qemu-img"),
        "echo \"$0 $1\" | sed s,.*/,,\n",
    );
    suite.pair(
        "001",
        "$QEMU_IMG_PROG --version >/dev/null\nfor n in 1 2 3; do $QEMU_IMG_PROG $n; done\necho $?\n",
        "qemu-img 1\nqemu-img 2\nqemu-img 3\n0\n",
    );
    suite
}

#[test]
fn a_program_runs_in_gdb_as_it_does_without() {
    if !installed("gdb") {
        return;
    }
    let suite = three_starts();
    let words = "info inferiors\ncontinue\n";
    let ran = fed(&mut suite.check("-raw --debugger-for qemu-img:2 1"), words);
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    let program = suite.root().join("qemu-img");
    let told = format!(
        "001: in gdb (quit kills it, detach lets it go on): {} 2\n",
        program.display()
    );
    assert!(ran.out.contains(&told), "{}", ran.out);
    assert!(ran.out.contains("exited normally"), "{}", ran.out);
    assert!(ran.out.contains("Passed all 1 iotests"), "{}", ran.out);
    // Who quits in the middle wants no more of it.
    let ran = fed(&mut suite.check("-raw --debugger gdb 1"), "quit\n");
    assert_eq!(ran.status, Some(1), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("-qemu-img 1\n"), "{}", ran.out);
    assert!(!ran.out.contains("-qemu-img 2\n"), "{}", ran.out);
    // Nothing of it is recorded.
    let err = said(&mut suite.check("-raw -n --failed")).failed(1);
    assert!(err.contains("no run is recorded"), "{err}");
}

#[test]
fn a_start_that_never_comes_is_told() {
    if !installed("gdb") {
        return;
    }
    let suite = three_starts();
    let out = said(&mut suite.check("-raw --debugger-for qemu-img:4 1")).fine();
    let want = "nothing was debugged: the test started qemu-img 3 times, not 4";
    assert!(out.contains(want), "{out}");
}

#[test]
fn a_gdb_that_cannot_attach_leaves_nothing_that_waits() {
    let suite = three_starts();
    let bin = suite.root().join("bin");
    script(&bin.join("gdb"), "exit 1\n");
    let mut check = suite.check("-raw --debugger gdb 1");
    let ran = said(check.env("PATH", path_with(bin)));
    assert_eq!(ran.status, Some(1), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("gdb ended before "), "{}", ran.out);
    assert!(ran.out.contains("-qemu-img 1\n"), "{}", ran.out);
}

#[test]
fn what_waits_for_gdb_is_told_with_the_line_that_connects() {
    if !installed("gdb") || !installed("gdbserver") {
        return;
    }
    let suite = Suite::new();
    let body = "gdbserver --once $GDB_OPTIONS /bin/echo 'a b' 2>/dev/null\n";
    suite.pair("001", body, "a b\n");
    let mut check = suite.check("-raw -gdb");
    check
        .env("GDB_OPTIONS", "localhost:0")
        .stdout(Stdio::piped());
    let mut child = check.stderr(Stdio::inherit()).spawn().expect("check");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    let told = loop {
        let line = next();
        if line.starts_with("001: waits for gdb: ") {
            break line;
        }
    };
    assert!(told.ends_with("echo 'a b'"), "{told}");
    let command = next();
    assert!(
        command.starts_with("gdb -ex 'target remote localhost:"),
        "{command}"
    );
    let mut gdb = bare("/bin/sh".as_ref());
    gdb.args(["-c", &format!("{command} -batch -ex continue")]);
    let ran = said(&mut gdb);
    assert!(
        ran.out.contains("exited normally"),
        "{}{}",
        ran.out,
        ran.err
    );
    let rest: Vec<String> = lines.map(|line| line.expect("text")).collect();
    assert!(rest.iter().any(|l| l == "Passed all 1 iotests"), "{rest:?}");
    assert!(child.wait().expect("an end").success());
}

#[test]
fn a_missing_debugger_is_told_before_anything_runs() {
    let suite = Suite::new();
    suite.pair("001", "", "");
    for (line, want) in [
        (
            "-raw -gdb",
            "check: argument -gdb: gdbserver is not installed; install",
        ),
        (
            "-raw --debugger gdb",
            "check: argument --debugger: gdb is not installed; install",
        ),
    ] {
        let ran = said(suite.check(line).env("PATH", "/nowhere"));
        assert!(
            ran.err.starts_with(want) && ran.err.lines().count() == 1,
            "{}",
            ran.err
        );
        assert_eq!((ran.status, ran.out.as_str()), (Some(1), ""));
    }
    let err = said(&mut suite.check("-raw --debugger gdb -valgrind")).failed(2);
    let want = "argument --debugger: not allowed with argument -valgrind";
    assert!(err.contains(want), "{err}");
}

#[test]
fn output_streams_safely_and_is_compared_all_the_same() {
    let suite = Suite::new();
    suite.pair(
        "001",
        "printf 'a\\033[2J\\n\\303\\274 end'\n",
        "a\x1b[2J\n\u{fc} end\n",
    );
    let out = said(&mut suite.check("-raw --no-capture")).fine();
    assert!(
        out.contains("a\u{241b}[2J\n\u{fc} end\n001   pass "),
        "{out}"
    );
    // Into a file or pipe -d changes nothing.
    let out = said(&mut suite.check("-raw -d")).fine();
    assert!(!out.contains("end"), "{out}");
    let pty = openpty(None, None).expect("a terminal");
    let mut screen = File::from(pty.master);
    let mut check = suite.check("-raw -d");
    let status = check.env("TERM", "xterm").stdout(pty.slave).status();
    drop(check);
    let mut shown = Vec::new();
    // Reading from a terminal that was closed is an error.
    let _ = screen.read_to_end(&mut shown);
    let shown = String::from_utf8_lossy(&shown);
    assert!(status.expect("check").success(), "{shown}");
    assert!(shown.contains("\u{fc} end\r\n001 "), "{shown}");
}

#[test]
fn keys_answer_a_review_and_the_terminal_is_as_it_was() {
    let suite = Suite::new();
    for name in ["001", "002", "003"] {
        suite.pair(name, "echo new\n", "old\n");
    }
    said(&mut suite.check("-raw")).failed(1);
    let pty = openpty(None, None).expect("a terminal");
    let before = tcgetattr(&pty.slave).expect("settings");
    let mut typist = File::from(pty.master);
    // Accepted, taken back, skipped, accepted.
    typist.write_all(b"absa").expect("typed");
    let stdin = pty.slave.try_clone().expect("a descriptor");
    let out = said(suite.check("--review 1 3 -raw").stdin(stdin)).fine();
    assert!(out.ends_with("1 accepted, 0 rejected, 1 left\n"), "{out}");
    assert!(out.contains("undone: 001 raw-file"), "{out}");
    assert_eq!(tcgetattr(&pty.slave).expect("settings"), before);
    let read = |name: &str| std::fs::read_to_string(suite.dir().join(name)).expect(name);
    let all = ["001.out", "002.out", "003.out"].map(read);
    assert_eq!(all, ["old\n", "old\n", "new\n"]);
}

#[test]
fn tests_without_anything_to_review_are_told() {
    let suite = Suite::new();
    suite.pair("001", "echo new\n", "old\n").pair("002", "", "");
    said(&mut suite.check("-raw")).failed(1);
    let mut review = bare("/bin/sh".as_ref());
    review.args(["-c", "echo s | \"$0\" --review 1 2", CHECK]);
    let ran = said(review.current_dir(suite.dir()));
    assert_eq!(
        ran.err,
        "check: nothing to review of test 002: its output did not differ in the last run\n"
    );
    assert!(ran.out.contains("001 raw-file (1 of 1)"), "{}", ran.out);
    let out = said(&mut suite.check("--review -qcow2")).fine();
    assert!(out.contains("nothing to review"), "{out}");
    let err = said(&mut suite.check("--review 777")).failed(1);
    assert!(err.contains("777") && err.lines().count() == 1, "{err}");
}
