//! `iotest` as a runner starts it: what it prints, writes, returns and leaves.

#[path = "cli/faulty.rs"]
mod faulty;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory for one run, in which tests are started.
struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a folder"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn iotest(&self, args: &[&str], vars: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iotest"));
        for (name, _) in std::env::vars() {
            if name.starts_with("IMG") || name.starts_with("Q") || name.ends_with("MODE") {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .env("TEST_DIR", self.path("d"))
            .env("SOCK_DIR", self.path("s"))
            .envs(vars.iter().copied())
            .output()
            .expect("iotest starts")
    }

    /// The files that a run left in its directories.
    fn left(&self) -> Vec<String> {
        let mut names = Vec::new();
        for dir in ["d", "s"] {
            let Ok(list) = fs::read_dir(self.path(dir)) else {
                continue;
            };
            names.extend(
                list.flatten()
                    .map(|e| e.file_name().to_string_lossy().into_owned()),
            );
        }
        names
    }

    /// A program that does something to its arguments or output, then the real one.
    fn wrapper(&self, name: &str, script: &str) -> String {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
        path.to_string_lossy().into_owned()
    }
}

fn golden(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../goldens");
    fs::read(root.join(format!("{name}.out"))).expect("a golden")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether the image tools are installed.
fn has_tools() -> bool {
    let there = Command::new("qemu-img").arg("--version").output().is_ok();
    if !there {
        eprintln!("qemu-img is not installed: this is not tested");
    }
    there
}

#[test]
fn every_test_is_listed_with_its_description() {
    let out = Scratch::new().iotest(&["--list"], &[]);
    assert!(out.status.success());
    let list = text(&out.stdout);
    assert!(list.lines().count() >= 10);
    for line in list.lines() {
        let (number, rest) = line.split_once(' ').expect("a number and a sentence");
        assert!(number.len() == 3 && rest.contains(". ["), "{line}");
    }
}

#[test]
fn wrong_arguments_are_reported_in_one_line() {
    let scratch = Scratch::new();
    let unknown = scratch.iotest(&["999"], &[]);
    assert_eq!(unknown.status.code(), Some(1));
    assert_eq!(
        text(&unknown.stderr),
        "iotest 999: failed: there is no test 999; `iotest --list` lists them\n"
    );
    let usage = scratch.iotest(&["--what"], &[]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn what_cannot_run_gives_a_reason_and_makes_nothing() {
    let scratch = Scratch::new();
    let out = scratch.iotest(&["003"], &[("IMGFMT", "bochs")]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(out.stdout, b"");
    assert_eq!(scratch.left(), ["003.notrun"]);
    let reason = fs::read_to_string(scratch.path("d/003.notrun")).expect("a reason");
    assert_eq!(reason, "not for image format bochs\n");
}

#[test]
fn a_missing_program_is_a_reason_too() {
    let scratch = Scratch::new();
    let none = [("QEMU_IMG_PROG", "/nowhere/qemu-img"), ("IMGFMT", "qcow2")];
    let out = scratch.iotest(&["001"], &none);
    assert!(out.status.success());
    let reason = fs::read_to_string(scratch.path("d/001.notrun")).expect("a reason");
    assert_eq!(reason, "qemu-img is not installed\n");
}

#[test]
fn what_is_listed_and_does_not_work_is_tried_once_for_a_run() {
    if !has_tools() {
        return;
    }
    let scratch = Scratch::new();
    // A QEMU without a library for cryptography lists the driver.
    let (calls, found) = (scratch.path("calls"), scratch.path("found"));
    let script = format!(
        "case \"$*\" in create*luks*) echo 1 >>{}\n\
         echo 'qemu-img: No crypto library in this build' >&2; exit 1 ;; esac\n\
         exec qemu-img \"$@\"",
        calls.display()
    );
    let program = scratch.wrapper("qemu-img", &script);
    let found = found.to_string_lossy();
    for (name, format) in [("134", "qcow2"), ("120", "qcow2"), ("001", "luks")] {
        let vars = [
            ("QEMU_IMG_PROG", program.as_str()),
            ("IMGFMT", format),
            ("CHECK_FOUND_DIR", &found),
        ];
        let out = scratch.iotest(&[name], &vars);
        assert!(out.status.success(), "{}", text(&out.stderr));
        let reason = fs::read_to_string(scratch.path(&format!("d/{name}.notrun")));
        let want = "QEMU cannot make LUKS images here (No crypto library in this build); ";
        assert!(
            reason.as_ref().is_ok_and(|r| r.starts_with(want)),
            "{name}: {reason:?}"
        );
    }
    assert_eq!(fs::read_to_string(calls).expect("calls"), "1\n");
}

#[test]
fn modes_and_lengths_of_files_that_are_not_there_are_reasons() {
    if !has_tools() {
        return;
    }
    let scratch = Scratch::new();
    let notrun = |name: &str, vars: &[(&str, &str)], limit: &str| {
        let script = format!("ulimit -f {limit}; exec \"$0\" \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_iotest"), name]);
        command
            .env("TEST_DIR", scratch.path("d"))
            .envs(vars.iter().copied());
        let out = command.output().expect("bash");
        assert!(out.status.success(), "{}", text(&out.stderr));
        fs::read_to_string(scratch.path(&format!("d/{name}.notrun"))).expect("a reason")
    };
    let reason = notrun("002", &[("IMGFMT", "raw")], "1000");
    assert_eq!(
        reason,
        "it makes a file of 1G, and files may have 1024000 bytes; set: ulimit -f unlimited\n"
    );
    let refused = scratch.wrapper("qemu-io", "echo 'qemu-io: io_uring is refused' >&2; exit 1");
    let vars = [
        ("IMGFMT", "raw"),
        ("AIOMODE", "io_uring"),
        ("QEMU_IO_PROG", &refused),
    ];
    assert_eq!(
        notrun("002", &vars, "unlimited"),
        "not with cache mode writeback and aio mode io_uring: io_uring is refused\n"
    );
}

#[test]
fn a_test_prints_its_golden_and_leaves_nothing() {
    if !has_tools() {
        return;
    }
    for (format, protocol) in [("qcow2", "file"), ("qcow2", "nbd"), ("raw", "nbd")] {
        let scratch = Scratch::new();
        let out = scratch.iotest(&["7"], &[("IMGFMT", format), ("IMGPROTO", protocol)]);
        assert!(out.status.success(), "{}", text(&out.stderr));
        assert_eq!(text(&out.stdout), text(&golden("007")));
        assert_eq!(scratch.left(), Vec::<String>::new());
    }
}

#[test]
fn a_stream_in_the_daemon_prints_its_golden() {
    if !has_tools() {
        return;
    }
    let scratch = Scratch::new();
    let out = scratch.iotest(&["030"], &[("IMGFMT", "qcow2")]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    if scratch.left().is_empty() {
        assert_eq!(text(&out.stdout), text(&golden("030")));
    } else {
        assert_eq!(scratch.left(), ["030.notrun"]);
    }
}

#[test]
fn a_tool_that_fails_is_shown_with_its_output() {
    if !has_tools() {
        return;
    }
    let scratch = Scratch::new();
    let script =
        "case $1 in convert) echo 'no convert today' >&2; exit 3;; esac; exec qemu-img \"$@\"";
    let img = scratch.wrapper("qemu-img", script);
    let out = scratch.iotest(&["007"], &[("IMGFMT", "qcow2"), ("QEMU_IMG_PROG", &img)]);
    assert_eq!(out.status.code(), Some(1));
    let stderr = text(&out.stderr);
    for part in [
        "exit status 3",
        "qemu-img convert -O raw",
        "  | no convert today",
        "<empty>",
    ] {
        assert!(stderr.contains(part), "{part} is missing in:\n{stderr}");
    }
}

#[test]
fn lost_data_is_noticed() {
    if !has_tools() {
        return;
    }
    let scratch = Scratch::new();
    // Every write of one pattern is of another one.
    let io = scratch.wrapper(
        "qemu-io",
        "sed 's/^write -P 64 /write -P 65 /' | exec qemu-io \"$@\"",
    );
    let vars = [("IMGFMT", "qcow2"), ("QEMU_IO_PROG", io.as_str())];
    let out = scratch.iotest(&["002"], &vars);
    let same = out.status.success() && out.stdout == golden("002");
    assert!(!same, "a wrong write was not noticed");
}

#[test]
fn gdbserver_wraps_the_daemon() {
    if !has_tools() {
        return;
    }
    let scratch = Scratch::new();
    // A wrapper that records how it was called.
    let record = scratch.path("record");
    let gdb = format!("echo \"$1\" > {}; shift; exec \"$@\"", record.display());
    scratch.wrapper("gdbserver", &gdb);
    let path = format!(
        "{}:{}",
        scratch.dir.path().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let vars = [
        ("IMGFMT", "qcow2"),
        ("GDB_OPTIONS", "localhost:7"),
        ("PATH", &path),
    ];
    let out = scratch.iotest(&["030"], &vars);
    assert!(out.status.success(), "{}", text(&out.stderr));
    if !scratch.left().is_empty() {
        assert_eq!(scratch.left(), ["030.notrun"]);
        return;
    }
    assert_eq!(
        fs::read_to_string(record).expect("gdbserver was called"),
        "localhost:7\n"
    );
    assert_eq!(text(&out.stdout), text(&golden("030")));
}
