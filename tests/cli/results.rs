//! What a run leaves for later: records, events, merged results, shards.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fixture::{CHECK, Said, Suite, bare, said};

/// A pass, two failures, a test that is not run, one that runs into its time-out, and one
/// that leaves a core where the system writes any.
fn suite() -> Suite {
    let suite = Suite::new();
    suite
        .pair("001", "echo fine\n", "fine\n")
        .pair(
            "002",
            "printf 'other\\tthing \\377\\n'; seq 1 3000\n",
            "some thing\n",
        )
        .pair("003", "echo fine; exit 3\n", "fine\n")
        .pair("004", "echo no KVM >$TEST_DIR/004.notrun\n", "")
        .pair(
            "005",
            "echo fine; echo part >$TEST_DIR/005.casenotrun\n",
            "fine\n",
        )
        .test("006", "rw", "echo fine\n")
        .pair("007", "echo start; exec sleep 1000\n", "start\n");
    suite
}

/// `check` where there is neither a suite nor QEMU.
fn elsewhere(dir: &Path, words: &[&str]) -> Command {
    let mut command = bare(Path::new(CHECK));
    command.args(words).current_dir(dir).env("PATH", "/none");
    command
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn a_record_shows_the_run_again_as_every_report_did() {
    let suite = suite();
    // The page compares with the run before, of nearly the same tests.
    said(&mut suite.check("-qcow2 001-006"));
    let line = "-qcow2 -j 2 --timeout 1 --record r --json r.json --junit r.xml --html r.html";
    let live = said(&mut suite.check(line));
    assert_eq!(
        (live.status, live.err.as_str()),
        (Some(1), ""),
        "{}",
        live.out
    );
    let dir = tempfile::tempdir().expect("a directory");
    for file in ["r", "r.json"] {
        let file = suite.dir().join(file);
        let file = file.to_str().expect("UTF-8");
        let words = [
            "replay", file, "--json", "a.json", "--junit", "a.xml", "--html", "a.html",
        ];
        let again = said(&mut elsewhere(dir.path(), &words));
        assert_eq!((again.status, again.err.as_str()), (Some(1), ""));
        assert_eq!(again.out, live.out);
        for (live, again) in [
            ("r.json", "a.json"),
            ("r.xml", "a.xml"),
            ("r.html/index.html", "a.html/index.html"),
        ] {
            let (live, again) = (suite.dir().join(live), dir.path().join(again));
            assert_eq!(text(&live), text(&again), "{}", live.display());
        }
    }
    assert!(text(&dir.path().join("a.html/index.html")).contains("Changes since"));
    let live = said(&mut suite.check("-qcow2 -j 1 -tap 001-006 --record t --color on"));
    let file = suite.dir().join("t");
    let words = [
        "replay",
        file.to_str().expect("UTF-8"),
        "-tap",
        "--color",
        "on",
    ];
    let again = said(&mut elsewhere(dir.path(), &words));
    assert_eq!((again.out, again.err), (live.out, live.err));
}

#[test]
fn the_files_of_a_record_are_unpacked() {
    let suite = suite();
    said(&mut suite.check("-qcow2 --timeout 1 --record r"));
    let outputs = |n: &str, name: &str| suite.dir().join(format!("scratch/qcow2-file-{n}/{name}"));
    let (output, diff) = (
        outputs("002", "002.out.bad"),
        outputs("002", "002.out.diff"),
    );
    let (output, diff) = (std::fs::read(output), std::fs::read(diff));
    let extract = || suite.check("replay r --extract kept/files");
    let listed = said(&mut extract()).fine();
    let kept = |file: &str| {
        assert!(
            listed.contains(&format!("    kept/files/{file}\n")),
            "{listed}"
        );
        std::fs::read(suite.dir().join("kept/files").join(file)).expect("an unpacked file")
    };
    let folder = "0001-qcow2-file-002";
    assert_eq!(
        kept(&format!("{folder}/002.out.bad")),
        output.expect("an output")
    );
    assert_eq!(
        kept(&format!("{folder}/002.out.diff")),
        diff.expect("a difference")
    );
    assert_eq!(kept(&format!("{folder}/002.out")), b"some thing\n");
    assert_eq!(kept("0003-qcow2-file-004/004.notrun"), b"no KVM\n");
    assert!(
        !listed.contains("-001"),
        "what passed is not kept: {listed}"
    );
    let again = said(&mut extract()).failed(1);
    assert!(again.contains("kept/files is not empty"), "{again}");
    said(&mut suite.check("-qcow2 001 --json r.json")).fine();
    let none = said(&mut suite.check("replay r.json --extract x")).failed(1);
    assert!(none.contains("--record keeps them"), "{none}");
    assert!(!suite.dir().join("x").exists());
}

/// A tar file with one member, compressed.
fn archive(path: &str, kind: tar::EntryType) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let name = &mut header.as_old_mut().name;
    name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(0);
    if kind.is_symlink() {
        header.set_link_name("/etc").expect("a link");
    }
    header.set_cksum();
    builder.append(&header, std::io::empty()).expect("a member");
    let tar = builder.into_inner().expect("an archive");
    zstd::encode_all(&*tar, 1).expect("a record")
}

#[test]
fn a_record_cannot_write_elsewhere() {
    let dir = tempfile::tempdir().expect("a directory");
    for (path, kind) in [
        ("jobs/../../out", tar::EntryType::Regular),
        ("/jobs/a/out", tar::EntryType::Regular),
        ("jobs/a/out", tar::EntryType::Symlink),
        ("jobs/a/out", tar::EntryType::Link),
        ("other", tar::EntryType::Regular),
    ] {
        std::fs::write(dir.path().join("r"), archive(path, kind)).expect("a record");
        let words = ["replay", "r", "--extract", "sub/x"];
        let refused = said(&mut elsewhere(dir.path(), &words)).failed(1);
        assert!(refused.contains(path), "{refused}");
        let left = std::fs::read_dir(dir.path().join("sub/x")).expect("a directory");
        let left = left
            .flatten()
            .filter(|entry| entry.path().is_file())
            .count();
        assert_eq!(left, 0, "{path}");
        assert!(!dir.path().join("out").exists());
        let _ = std::fs::remove_dir_all(dir.path().join("sub"));
    }
}

#[test]
fn a_run_that_is_killed_leaves_a_record_up_to_its_last_result() {
    let suite = Suite::new();
    let pipe = suite.dir().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let wait = format!("echo running >{}; exec sleep 1000\n", pipe.display());
    suite
        .pair("001", "echo other\n", "fine\n")
        .pair("002", &wait, "")
        .pair("003", "echo fine\n", "fine\n");
    let mut check = suite.check("-qcow2 -j 1 --record r --json r.json");
    let mut child = check.stdout(Stdio::null()).spawn().expect("a run");
    let mut word = String::new();
    let mut opened = std::fs::File::open(&pipe).expect("a test that runs");
    opened.read_to_string(&mut word).expect("a word");
    // The record is written by a thread of its own.
    let of_002 = |said: &Said| said.out.contains("\n002   interrupted");
    let mut again = said(&mut suite.check("replay r"));
    while !of_002(&again) {
        again = said(&mut suite.check("replay r"));
    }
    child.kill().expect("a kill");
    child.wait().expect("an end");
    let json = said(&mut suite.check("replay r.json"));
    assert_eq!(again.out, json.out);
    assert_eq!((again.status, json.status), (Some(130), Some(130)));
    assert!(
        again.err.contains("r ends before its run does"),
        "{}",
        again.err
    );
    let out = &again.out;
    assert!(
        out.contains("no result: the file ends while it was running"),
        "{out}"
    );
    let end = "Not run: 002\nNot started: 003\nFailures: 001\n\
               Interrupted: passed 0, failed 1 of 3 iotests\n";
    assert!(out.contains("\n001   fail ") && out.ends_with(end), "{out}");

    // Whatever the length at which it was cut, it is read or refused in a line.
    let whole = std::fs::read(suite.dir().join("r")).expect("a record");
    for len in (0..whole.len()).step_by(97) {
        std::fs::write(suite.dir().join("cut"), &whole[..len]).expect("a part");
        let cut = said(&mut suite.check("replay cut"));
        assert!(matches!(cut.status, Some(1 | 130)), "{len}: {}", cut.err);
        assert_eq!(cut.err.lines().count(), 1, "{len}: {}", cut.err);
    }
}

#[test]
fn a_record_that_cannot_be_written_is_no_success() {
    let suite = suite();
    let full = said(&mut suite.check("-qcow2 001 --record /dev/full"));
    assert!(full.out.contains("Passed all 1 iotests"), "{}", full.out);
    let error = full.failed(1);
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(
        error.contains("cannot write the record /dev/full: No space left"),
        "{error}"
    );
    let none = said(&mut suite.check("-qcow2 001 --record none/r")).failed(1);
    assert!(none.contains("cannot write the record none/r"), "{none}");
}

/// Runs two or three shards of eight tests; gives their files.
fn shards(suite: &Suite, which: &[usize]) -> Vec<PathBuf> {
    for n in 10..18 {
        let body = if n == 13 {
            "echo other\n"
        } else {
            "echo fine\n"
        };
        suite.pair(&format!("0{n}"), body, "fine\n");
    }
    let shard = |index: &usize| {
        let file = suite.dir().join(format!("s{index}"));
        let line = format!("--formats raw,qcow2 --shard auto 010-017 --record s{index}");
        let mut check = suite.check(&line);
        check
            .env("CI_NODE_INDEX", index.to_string())
            .env("CI_NODE_TOTAL", "3");
        check.env("TEST_DIR", suite.dir().join(format!("scratch{index}")));
        let ran = said(&mut check);
        let header = format!("SHARD         -- {index} of 3 (CI_NODE_INDEX)\n");
        assert!(ran.out.contains(&header), "{}", ran.out);
        file
    };
    which.iter().map(shard).collect()
}

fn merge(suite: &Suite, files: &[PathBuf], options: &str) -> Said {
    let mut check = suite.check("merge-results");
    said(check.args(files).args(options.split_whitespace()))
}

#[test]
fn shards_are_merged_to_one_run() {
    let suite = Suite::new();
    let files = shards(&suite, &[1, 2, 3]);
    let merged = merge(&suite, &files, "--json all.json --junit all.xml");
    assert_eq!(
        (merged.status, merged.err.as_str()),
        (Some(1), ""),
        "{}",
        merged.out
    );
    let out = &merged.out;
    assert!(out.ends_with("Failed 2 of 16 iotests\n"), "{out}");
    assert_eq!(out.matches("IMGPROTO      -- file\n").count(), 1, "{out}");
    for index in 1..=3 {
        let dir = suite.dir();
        let line = format!(
            "TEST_DIR      -- {0}/scratch{index} ({0}/s{index})\n",
            dir.display()
        );
        assert!(out.contains(&line), "{line}{out}");
    }
    // Every job once, under a number of its own.
    let events = text(&suite.dir().join("all.json"));
    let events = events
        .lines()
        .map(serde_json::from_str::<serde_json::Value>);
    let events: Vec<_> = events.map(|event| event.expect("JSON")).collect();
    let results = events.iter().filter(|event| event["event"] == "finished");
    let mut jobs: Vec<_> = results.map(|event| event["job"].as_u64()).collect();
    jobs.sort();
    assert_eq!(jobs, (0..16).map(Some).collect::<Vec<_>>());
    assert_eq!(events[0]["jobs"], 16);
    let junit = text(&suite.dir().join("all.xml"));
    assert!(junit.contains("tests=\"16\""), "{junit}");
    let again = said(&mut suite.check("replay all.json"));
    assert_eq!((again.status, &again.out), (Some(1), out));
}

#[test]
fn a_missing_shard_is_named() {
    let suite = Suite::new();
    let files = shards(&suite, &[1, 3]);
    let merged = merge(&suite, &files, "--json all.json");
    assert_eq!(
        (merged.status, merged.err.as_str()),
        (
            Some(1),
            "check: shard 2 of 3 is missing: there is no result of it\n"
        )
    );
    assert!(
        merged.out.contains("\nMISSING       -- shard 2 of 3\n"),
        "{}",
        merged.out
    );
    let end = "Interrupted: passed 9, failed 2 of 16 iotests\n";
    assert!(merged.out.ends_with(end), "{}", merged.out);
    // The file says so too, and one shard alone is no run.
    assert_eq!(said(&mut suite.check("replay all.json")).status, Some(1));
    let alone = merge(&suite, &files[..1], "");
    assert_eq!(alone.status, Some(1));
    assert_eq!(alone.err.lines().count(), 2, "{}", alone.err);
}

#[test]
fn the_same_test_in_two_files_is_two_results() {
    let suite = suite();
    for name in ["a", "b"] {
        said(&mut suite.check(&format!("-raw 001 --json {name}"))).fine();
    }
    let files = ["a", "b"].map(PathBuf::from);
    let out = merge(&suite, &files, "").fine();
    assert!(out.contains("\n001 ") && out.contains("\n001#2 "), "{out}");
    assert!(out.ends_with("Passed all 2 iotests\n"), "{out}");
    let twice = merge(&suite, &["a", "./a"].map(PathBuf::from), "").failed(1);
    assert!(twice.contains("./a is named twice"), "{twice}");
    let over = merge(&suite, &files, "--json b").failed(1);
    assert!(over.contains("b would be replaced"), "{over}");
    assert!(text(&suite.dir().join("b")).contains("run-finished"));
}

#[test]
fn shards_by_times_are_those_of_the_file() {
    let suite = Suite::new();
    for n in 1..=6 {
        suite.pair(&format!("00{n}"), "echo fine\n", "fine\n");
    }
    said(&mut suite.check("-qcow2 --json all.json")).fine();
    // Times that make 003 as long as all others together.
    let lines = text(&suite.dir().join("all.json"));
    let timed = lines.lines().map(|line| {
        let mut event: serde_json::Value = serde_json::from_str(line).expect("JSON");
        if event["event"] == "finished" {
            let secs = if event["test"] == "003" { 50.0 } else { 10.0 };
            event["outcome"]["seconds"] = secs.into();
        }
        format!("{event}\n")
    });
    suite.file("times.json", timed.collect::<String>());
    let names = |shard: &str| {
        let line = format!("-n -qcow2 --shard {shard} --shard-times times.json");
        said(&mut suite.check(&line)).fine().replace('\n', " ")
    };
    assert_eq!(names("1/2"), "003 ");
    assert_eq!(names("2/2"), "001 002 004 005 006 ");
    let status = suite.dir().join("status");
    let mut bazel = suite.check("-qcow2 --shard auto --shard-times times.json");
    bazel
        .env("TEST_SHARD_INDEX", "0")
        .env("TEST_TOTAL_SHARDS", "2")
        .env("TEST_SHARD_STATUS_FILE", &status);
    let out = said(&mut bazel).fine();
    let header = "SHARD         -- 1 of 2 (TEST_SHARD_INDEX), balanced by times of times.json\n";
    assert!(out.contains(header), "{out}");
    assert!(status.is_file(), "Bazel wants a sign that shards are known");
    let none = said(&mut suite.check("-qcow2 --shard auto")).failed(1);
    assert!(none.contains("finds no share in the environment"), "{none}");
}

#[test]
fn what_is_no_file_of_a_run_is_refused_in_a_line() {
    let suite = suite();
    said(&mut suite.check("-raw 001 --json good")).fine();
    let good = text(&suite.dir().join("good"));
    let (first, rest) = good.split_once('\n').expect("lines");
    suite
        .file("none", "")
        .file("text", "hello\n")
        .file("rest", rest)
        .file("twice", format!("{good}{good}"))
        .file("cut", &first[..50])
        .file("bad", format!("{first}\n{{\"event\":\"started\"}}\n{rest}"))
        .file(
            "new",
            first.replace("\"version\":1", "\"version\":9") + "\n",
        )
        .file(
            "list",
            "{\"test\":\"001\",\"groups\":[],\"summary\":\"\"}\n",
        );
    for (file, want) in [
        ("none", "none is empty"),
        ("text", "text:1: not JSON"),
        ("rest", "rest:1: the first event is not run-started"),
        ("twice", ": a second run begins here"),
        ("cut", "cut ends within its first event"),
        ("bad", "bad:2: malformed event"),
        ("new", "new:1: written by a newer check: version 9"),
        ("list", "list:1: not an event of a run"),
        ("gone", "cannot read gone: No such file"),
        (".", ". is a directory"),
    ] {
        let error = said(&mut suite.check(&format!("replay {file}"))).failed(1);
        assert!(error.contains(want), "{file}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    for (line, want) in [
        ("replay", "usage of this command: check replay FILE"),
        ("replay a b", "usage of this command: check replay FILE"),
        (
            "merge-results",
            "usage of this command: check merge-results FILE...",
        ),
        (
            "replay good -qcow2",
            "argument -qcow2: check replay does not have it",
        ),
        (
            "merge-results good --record x",
            "argument --record: check merge-results",
        ),
        (
            "replay good --extract x -tap",
            "argument --extract: not with a report",
        ),
        (
            "-raw --extract x",
            "argument --extract: only with the command replay",
        ),
        (
            "-raw --shard-times good",
            "argument --shard-times: only with --shard",
        ),
        (
            "-raw --junit-failures-only",
            "argument --junit-failures-only: only with --junit",
        ),
    ] {
        let error = said(&mut suite.check(line)).failed(2);
        assert!(error.contains(want), "{line}: {error}");
    }
}
