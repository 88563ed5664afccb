//! Interrupted commands end at once and leave nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use image_fuzzer::campaign::Totals;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn fuzzer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-fuzzer"));
    command.env_remove("QEMU_IMG").env_remove("QEMU_IO");
    command.stdin(Stdio::null());
    command
}

/// Scratch folders in memory that belong to process `owner`.
fn scratch_of(owner: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let owned = |path: &PathBuf| {
        fs::read_to_string(path.join("owner")).is_ok_and(|text| text == owner.to_string())
    };
    entries.map(|entry| entry.path()).filter(owned).collect()
}

/// Waits until the file `up` has so many lines, and gives the last one.
fn wait_for(child: &mut Child, up: &Path, lines: usize) -> String {
    loop {
        let text = fs::read_to_string(up).unwrap_or_default();
        if text.matches('\n').count() >= lines {
            return text.lines().last().unwrap_or_default().to_owned();
        }
        let ended = child.try_wait().expect("a child");
        assert!(ended.is_none(), "it exited: {ended:?}");
        std::thread::yield_now();
    }
}

/// An interrupted `-s`, `reproduce` or `minimise` once left its scratch folder.
#[test]
fn what_is_interrupted_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    let (work, up, waits) = (path("work"), path("up"), path("waits"));
    // Once the file exists, waits for ever and writes its process id.
    let script = format!(
        "test -e '{0}' || exit 0; echo $$ >>'{1}'; exec sleep 100000",
        waits.display(),
        up.display()
    );
    let command = serde_json::json!([["sh", "-c", script, "$test_img"]]).to_string();
    let kept = work.join("test-0");
    let [work, kept] = [&work, &kept].map(|path| path.to_str().expect("a path that is text"));
    let one = ["-s", "seed", "-c", &command, work];
    let options = ["--no-sandbox", "--timeout", "50000"];
    let done = fuzzer().args(options).args(one).status();
    assert_eq!(done.expect("the fuzzer starts").code(), Some(0));
    fs::write(&waits, "").expect("a file");
    let cases = [
        (&one[..], Signal::SIGINT),
        (&["reproduce", kept], Signal::SIGTERM),
        (&["minimise", kept], Signal::SIGHUP),
    ];
    for (words, signal) in cases {
        fs::write(&up, "").expect("a file");
        let mut fuzzer = fuzzer();
        // Options follow their subcommand.
        fuzzer.args(words).args(options);
        fuzzer.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = fuzzer.spawn().expect("the fuzzer starts");
        // The first run is on a valid image.
        let program = wait_for(&mut child, &up, 2);
        let owner = child.id();
        kill(Pid::from_raw(owner.cast_signed()), signal).expect("it lives");
        let done = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(130), "{words:?}: {said}");
        assert!(said.contains("image-fuzzer: interrupted\n"), "{said}");
        assert_eq!(scratch_of(owner), Vec::<PathBuf>::new(), "{words:?}");
        let gone = !Path::new("/proc").join(&program).exists();
        assert!(gone, "{words:?}: {program} is still running");
    }
}

/// How many tests the campaign in `work` has finished.
fn finished(work: &Path) -> u64 {
    let text = fs::read_to_string(work.join("done")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut below = 0;
    let mut beyond = BTreeSet::new();
    for line in whole.lines() {
        match line.strip_prefix("below ") {
            Some(count) => below = count.parse().expect("a number"),
            None => {
                beyond.insert(line.parse::<u64>().expect("a number"));
            }
        }
    }
    below + beyond.range(below..).count() as u64
}

/// A killed campaign once began its totals anew from what had been logged some seconds before.
#[test]
fn a_campaign_that_is_killed_again_and_again_loses_nothing() {
    const WORKERS: u64 = 2;
    let dir = tempfile::tempdir().expect("a folder");
    let (work, ran) = (dir.path().join("work"), dir.path().join("ran"));
    let script = format!("echo >>'{}'", ran.display());
    let command = serde_json::json!([["sh", "-c", script, "$test_img"]]).to_string();
    let start = |tests: u64| {
        let mut fuzzer = fuzzer();
        fuzzer.args(["--no-sandbox", "--status", "off", "--guard", "off"]);
        // A sample of the blocks that tests reach is one more run.
        fuzzer.arg("--no-coverage");
        fuzzer.args(["--campaign-seed", "killed", "-j", &WORKERS.to_string()]);
        fuzzer.args(["--tests", &tests.to_string(), "-c", &command]);
        fuzzer.arg(&work).stdout(Stdio::null());
        fuzzer.spawn().expect("the fuzzer starts")
    };
    let runs = || fs::read_to_string(&ran).unwrap_or_default().lines().count() as u64;
    let kills = [1, 2, 17, 40, 5, 9];
    for tests in kills {
        let before = finished(&work);
        let mut child = start(u64::MAX);
        while finished(&work) < before + tests {
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none(), "it exited: {ended:?}");
            std::thread::yield_now();
        }
        child.kill().expect("it lives");
        child.wait().expect("it ends");
        assert!(finished(&work) >= before + tests);
    }
    let total = finished(&work) + 4;
    let end = |tests| start(tests).wait().expect("it ends").code();
    assert_eq!(end(total), Some(0));
    assert_eq!(finished(&work), total);
    assert_eq!(Totals::last(&work).images, total);
    // Besides the tests, a start runs the command a few times on other images.
    let before = runs();
    assert_eq!(end(total), Some(0));
    assert_eq!(Totals::last(&work).images, total);
    let checks = (runs() - before) * (kills.len() as u64 + 1);
    let again = before - checks - total;
    assert!(
        again <= WORKERS * kills.len() as u64,
        "{again} tests ran again"
    );
}

/// Only a campaign once removed what a killed fuzzer had left.
#[test]
fn every_start_removes_what_a_killed_fuzzer_left() {
    let Ok(left) = tempfile::Builder::new()
        .prefix("image-fuzzer.")
        .tempdir_in("/dev/shm")
    else {
        println!("not run: there is no /dev/shm");
        return;
    };
    fs::write(left.path().join("owner"), "2147483646").expect("a file");
    let absent = left.path().join("absent");
    let done = fuzzer().arg("reproduce").arg(absent).output();
    assert_eq!(done.expect("the fuzzer starts").status.code(), Some(1));
    assert!(!left.path().exists());
}

/// The programs are run once before the work folder, in which the scratch folder is, was
/// created.
#[test]
fn a_new_work_folder_holds_scratch_folders_without_shared_memory() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut unshare = Command::new("unshare");
    let read_only = "mount -t tmpfs -o ro none /dev/shm || exit 99; exec \"$@\"";
    unshare.args(["-r", "-m", "sh", "-c", read_only, "sh"]);
    unshare.arg(env!("CARGO_BIN_EXE_image-fuzzer"));
    let reader = format!("{} read", env!("CARGO_BIN_EXE_planted"));
    unshare.args(["-j", "1", "--tests", "1", "--intensity", "0", "-c", &reader]);
    let Ok(done) = unshare.arg(dir.path().join("new/work")).output() else {
        println!("not run: there is no unshare");
        return;
    };
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.code() == Some(99) || said.starts_with("unshare:") {
        println!("not run: no mount namespace");
        return;
    }
    assert_eq!(done.status.code(), Some(0), "{said}");
}
