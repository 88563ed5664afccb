//! Programs that cannot run are reported before the first test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn fuzzer(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-fuzzer"));
    command.env_remove("QEMU_IMG").env_remove("QEMU_IO");
    command.args(words).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the fuzzer starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A script that stands in for `qemu-img` and runs a program in another folder.
fn wrapper(dir: &Path) -> (PathBuf, PathBuf) {
    let (outer, inner) = (dir.join("outer"), dir.join("inner"));
    for folder in [&outer, &inner] {
        fs::create_dir(folder).expect("a folder");
    }
    let program = inner.join("planted");
    fs::copy(env!("CARGO_BIN_EXE_planted"), &program).expect("a copy");
    let script = outer.join("qemu-img");
    let text = format!("#!/bin/sh\nexec '{}' tool \"$@\"\n", program.display());
    fs::write(&script, text).expect("a script");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&script, mode).expect("it can be executed");
    (script, inner)
}

#[test]
fn a_program_that_the_sandbox_denies_is_reported() {
    if image_fuzzer::exec::sandbox::landlock_version() == 0 {
        println!("not run: this kernel has no Landlock");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (script, inner) = wrapper(dir.path());
    let script = script.to_str().expect("a path that is text");
    let inner = inner.to_str().expect("a path that is text");
    let work = dir.path().join("work");
    let kept = work.join("test-0");
    let [work, kept] = [&work, &kept].map(|path| path.to_str().expect("a path that is text"));
    let info = ["-c", "qemu-img info"];
    let one = |more: &[&str]| {
        // The program takes every image.
        let mut fuzzer = fuzzer(&["-s", "seed", "--intensity", "0"]);
        fuzzer.args(info).args(more).arg(work);
        fuzzer
    };
    // What the sandbox allows can be run.
    let done = run(one(&["--readable", inner]).env("QEMU_IMG", script));
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let reader = format!("{} read", env!("CARGO_BIN_EXE_planted"));
    let compared = [
        "-c",
        &reader,
        "--compare-with",
        script,
        "--tests",
        "1",
        work,
    ];
    let cases = [
        (one(&[]), "QEMU_IMG"),
        (fuzzer(&["-c", info[1], "--tests", "1", work]), "QEMU_IMG"),
        (fuzzer(&["reproduce", kept]), "QEMU_IMG"),
        (fuzzer(&["minimise", kept]), "QEMU_IMG"),
        (fuzzer(&compared), "--compare-with"),
        (fuzzer(&["-c", script, "--tests", "1", work]), "-c"),
    ];
    for (mut command, from) in cases {
        let done = run(command.env("QEMU_IMG", script));
        let said = said(&done);
        assert_eq!(done.status.code(), Some(1), "{command:?}: {done:?}");
        let wanted = format!("'{script}' (from {from}) cannot run in the sandbox (exit 126): ");
        assert!(said.contains(&wanted), "{command:?}: {said}");
        assert!(said.contains("--allow-read DIR"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// Both once were in the log alone.
#[test]
fn what_is_not_available_is_reported_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let reader = format!("{} read", env!("CARGO_BIN_EXE_planted"));
    let words = ["-j", "2", "--tests", "4", "--intensity", "0", "-c", &reader];
    let work = |name| dir.path().join(name);
    let done = run(fuzzer(&words).arg(work("gdb")).env("PATH", dir.path()));
    let lines = said(&done);
    assert_eq!(lines.matches("gdb not found").count(), 1, "{lines}");
    let mut unshare = Command::new("unshare");
    let no_network = "echo 0 >/proc/sys/user/max_net_namespaces || exit 99; exec \"$@\"";
    unshare.args(["-r", "sh", "-c", no_network, "sh"]);
    unshare.arg(env!("CARGO_BIN_EXE_image-fuzzer")).args(words);
    let Ok(done) = unshare.arg(work("network")).output() else {
        println!("not run: there is no unshare");
        return;
    };
    let lines = said(&done);
    if done.status.code() == Some(99) || lines.starts_with("unshare:") {
        println!("not run: namespaces cannot be limited");
        return;
    }
    let gap = "image-fuzzer: the sandbox has a gap: ";
    assert_eq!(lines.matches(gap).count(), 1, "{lines}");
}
