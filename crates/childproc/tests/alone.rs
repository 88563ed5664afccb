//! Ending children without a keeper. Each case runs in a process of its own,
//! this test program started again, since it ends every child it has.

use std::env;
use std::process::{Command, Stdio};
use std::time::Duration;

use childproc::{How, become_subreaper, descendants, end_all_children};

const ALONE: &str = "CHILDPROC_TEST_ALONE";

/// Runs `case` in this test program started again for the test `name` alone.
fn alone(name: &str, case: fn()) {
    if env::var_os(ALONE).is_some() {
        become_subreaper().unwrap();
        case();
        return;
    }
    let program = env::current_exe().unwrap();
    let output = Command::new(program)
        .args(["--exact", name, "--test-threads=1", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Runs a shell script to its end; what it leaves in the background stays.
fn shell(script: &str) {
    let status = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

fn me() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

#[test]
fn without_children_nothing_is_ended() {
    alone("without_children_nothing_is_ended", || {
        assert_eq!(end_all_children(How::Kill, &[]), []);
    });
}

#[test]
fn a_daemon_that_ignores_sigterm_is_found_and_ended() {
    alone("a_daemon_that_ignores_sigterm_is_found_and_ended", || {
        shell("setsid sh -c 'trap \"\" TERM HUP; (sleep 1000 & wait) & exit' >&- 2>&- <&-");
        // Until then it may still be the shell that was copied.
        while !descendants(me()).unwrap().iter().any(|p| p.name == "sleep") {
            std::thread::yield_now();
        }
        let left = end_all_children(How::Term(Duration::from_millis(50)), &[]);
        assert!(left.iter().any(|p| p.name == "sleep"), "{left:?}");
        assert_eq!(descendants(me()).unwrap(), []);
    });
}

#[test]
fn a_tree_that_is_spared_keeps_running() {
    alone("a_tree_that_is_spared_keeps_running", || {
        let mut spared = Command::new("sh")
            .args(["-c", "sleep 1000 & echo; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0];
        std::io::Read::read_exact(spared.stdout.as_mut().unwrap(), &mut line).unwrap();
        shell("sleep 1000 &");
        let pid = i32::try_from(spared.id()).unwrap();
        let left = end_all_children(How::Kill, &[pid]);
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(descendants(me()).unwrap().len(), 2);
        assert_eq!(spared.try_wait().unwrap(), None);
        let left = end_all_children(How::Kill, &[]);
        assert_eq!(left.len(), 2, "{left:?}");
        assert_eq!(descendants(me()).unwrap(), []);
    });
}

#[test]
fn a_fork_bomb_is_ended() {
    alone("a_fork_bomb_is_ended", || {
        // Each process starts its successor and exits.
        shell(
            "f() { [ $1 -gt 0 ] || exit; (f $(($1 - 1))) & sleep 0.01; }; for i in 1 2 3 4 5 6; do (f 5000) & done",
        );
        let left = end_all_children(How::Kill, &[]);
        assert!(!left.is_empty());
        assert_eq!(descendants(me()).unwrap(), []);
    });
}
