//! `--install-into` and `--remove-from`, and Python starting the stub.

use std::os::unix::fs::symlink;

use crate::fixture::{Suite, bare, said};

const RUNNER: &str = "#!/usr/bin/env python3\nfrom x import TestRunner, TestFinder\n";

#[test]
fn python_starts_this_program_through_the_stub() {
    if let Err(e) = bare("python3".as_ref()).arg("--version").output() {
        eprintln!("not run: no python3: {e}");
        return;
    }
    let suite = Suite::new();
    suite.pair("001", "", "").file("check", RUNNER);
    let root = suite.root().to_str().expect("UTF-8");
    for _ in 0..2 {
        let out = said(&mut suite.check(&format!("--install-into {root}"))).fine();
        assert!(out.contains("check.orig"), "{out}");
    }
    let mut python = bare("python3".as_ref());
    python
        .args(["check", "-n", "-raw"])
        .current_dir(suite.dir());
    assert_eq!(said(&mut python).fine(), "001\n");

    // As from a build tree: the link's place is the build, its target the source.
    let build = suite.root().join("build/tests/qemu-iotests");
    std::fs::create_dir_all(&build).expect("a directory");
    symlink("../../../tests/qemu-iotests/check", build.join("check")).expect("a link");
    let mut python = bare("python3".as_ref());
    python.args(["check", "-n"]).current_dir(&build);
    assert_eq!(said(&mut python).fine(), "001\n");
    std::fs::write(suite.root().join("build/config-host.mak"), "").expect("written");
    let mut python = bare("python3".as_ref());
    python.args(["./check", "-tap", "1"]).current_dir(&build);
    let err = said(&mut python).failed(1);
    assert!(err.contains("/build/qemu-system-*'"), "{err}");

    for _ in 0..2 {
        said(&mut suite.check(&format!("--remove-from {root}"))).fine();
        let back = std::fs::read_to_string(suite.dir().join("check")).expect("a runner");
        assert_eq!(back, RUNNER);
    }
}

#[test]
fn what_is_no_runner_of_qemus_is_left_alone() {
    let suite = Suite::new();
    suite.file("check", "#!/bin/sh\n");
    let root = suite.root().to_str().expect("UTF-8");
    let err = said(&mut suite.check(&format!("--install-into {root}"))).failed(1);
    assert!(err.contains("is not QEMU's runner"), "{err}");
    let err = said(&mut suite.check("--install-into /nonexistent")).failed(1);
    assert!(
        err.contains("is this the top of a QEMU source tree?"),
        "{err}"
    );
}
