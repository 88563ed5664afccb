//! The scripts of a finding, run by a shell.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::finding::test_examples::folder;

/// "Not reproduced" was once said of a program that was not run at all.
#[test]
fn the_script_tells_which_program_it_cannot_run() {
    let root = tempfile::tempdir().unwrap();
    let blank = root.path().join("a b");
    fs::create_dir(&blank).unwrap();
    let script = |name: &str, text: &str| {
        let path = blank.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    script("qimg", "#!/bin/sh\n[ \"$1\" = info ] && kill -SEGV $$\n");
    script("strange", "#!/no/such/program\n");
    for hits_in_10 in [10, 1] {
        let folder = folder(root.path(), &["qemu-img", "info", "$test_img"], hits_in_10);
        let run = |program: &str| {
            let mut sh = Command::new(folder.join("reproduce.sh"));
            let done = sh.current_dir(&blank).env("QEMU_IMG", program).output();
            let done = done.unwrap();
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            (done.status.code(), said)
        };
        for program in ["/nosuch", "nosuchprogram", "./nosuch", "./strange"] {
            let (status, said) = run(program);
            assert_eq!(status, Some(2), "{program}: {said}");
            let name = program.trim_start_matches("./");
            assert!(
                said.contains("cannot run '") && said.contains(name),
                "{said}"
            );
        }
        if hits_in_10 == 10 {
            assert_eq!(run("true").0, Some(1));
        }
        let whole = format!("'{}/qimg'", blank.display());
        for program in ["./qimg", &whole, &format!("sh {whole}"), "env './qimg' "] {
            let (status, said) = run(program);
            // Only the program itself is looked for in the folder of the caller.
            let wanted = if program.starts_with("env") { 2 } else { 0 };
            assert_eq!(status, Some(wanted), "{program}: {said}");
        }
    }
}

/// Whether a process works in a folder below `folder`.
fn in_use(folder: &Path) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let folders = processes.filter_map(|it| fs::read_link(it.path().join("cwd")).ok());
    folders.into_iter().any(|cwd| cwd.starts_with(folder))
}

/// An interrupt once left the images and the program that hangs.
#[test]
fn the_scripts_leave_nothing_when_they_are_interrupted() {
    let root = tempfile::tempdir().unwrap();
    let (up, tmp) = (root.path().join("up"), root.path().join("tmp"));
    fs::create_dir(&tmp).unwrap();
    mkfifo(&up, Mode::S_IRWXU).unwrap();
    let script = format!("echo $$ >'{}'; exec sleep 100000", up.display());
    let shells = ["sh", "bash"].map(|shell| (shell, "reproduce.sh"));
    for hits_in_10 in [10, 1] {
        let words = ["sh", "-c", &script, "$test_img"];
        let folder = folder(root.path(), &words, hits_in_10);
        for (shell, file) in shells.into_iter().chain([("bash", "iotest")]) {
            // Open for both sides, so that nobody waits for the other one.
            let both = fs::File::options().read(true).write(true).open(&up);
            let mut both = both.unwrap();
            let mut sh = Command::new(shell);
            sh.arg(folder.join(file))
                .env("TMPDIR", &tmp)
                .env("TEST_DIR", &tmp);
            sh.stdout(Stdio::null());
            let mut sh = sh.spawn().unwrap();
            let mut byte = [0];
            while byte != *b"\n" {
                both.read_exact(&mut byte).unwrap();
            }
            let pid = Pid::from_raw(sh.id().cast_signed());
            kill(pid, Signal::SIGTERM).unwrap();
            let status = sh.wait().unwrap();
            assert!(status.code().is_some_and(|code| code > 128), "{status}");
            assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0, "{shell} {file}");
            // What was ended may need a moment to be gone.
            while in_use(&tmp) {
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn the_script_of_a_flaky_finding_runs_until_it_is_reproduced() {
    let root = tempfile::tempdir().unwrap();
    let count = root.path().join("count");
    let script = format!(
        "printf x >>'{0}'; [ $(wc -c <'{0}') -lt 12 ] || kill -SEGV $$",
        count.display()
    );
    let folder = folder(root.path(), &["sh", "-c", &script, "$test_img"], 1);
    let run = |words: &[&str]| {
        let mut sh = Command::new("sh");
        let done = sh.arg(folder.join("reproduce.sh")).args(words).output();
        done.unwrap().status.code()
    };
    assert_eq!(run(&["once"]), Some(1));
    assert_eq!(run(&[]), Some(0));
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(readme.contains("Reproduced in 1 of 10 runs"), "{readme}");
    // The numbered test once tried a single time, and passed.
    fs::write(&count, "").unwrap();
    let mut bash = Command::new("bash");
    let test = bash.arg(folder.join("iotest")).env("TEST_DIR", root.path());
    let said = String::from_utf8(test.output().unwrap().stdout).unwrap();
    let golden = fs::read_to_string(folder.join("iotest.out")).unwrap();
    assert_eq!(said, golden.replace("exited", "ended by signal 11"));
    assert!(readme.contains("like the script"), "{readme}");
}
