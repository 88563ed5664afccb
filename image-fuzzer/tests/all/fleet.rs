//! Fleets: instances that share a folder, ours and AFL++'s; and what becomes of them when one
//! is killed or leaves half of a file.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use image_formats::qcow2::{Spec, build};
use image_fuzzer::finding::records;

/// A reader that is there on every machine, refuses most of what is wrong, and never hangs.
const READER: &str = "fault snapshot-count info";

/// A folder for the fleet, and work folders beside it.
struct Fleet(tempfile::TempDir);

impl Fleet {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("fleet")
    }

    fn work(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("work-{name}"))
    }

    /// The instance `name`, on a program that is there on every machine.
    fn instance(&self, name: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_image-fuzzer"));
        command.env_remove("QEMU_IMG").env_remove("QEMU_IO");
        let reader = format!("{} {READER}", env!("CARGO_BIN_EXE_planted"));
        command.args(["-j", "2", "--no-sweep", "-c", &reader, "--sync"]);
        command.arg(self.dir()).args(["--name", name]).args(words);
        command.arg(self.work(name));
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end, and gives what it printed.
    fn run(&self, name: &str, words: &[&str]) -> String {
        let done = self.instance(name, words).output().unwrap();
        assert!(matches!(done.status.code(), Some(0 | 3)), "{}", both(&done));
        both(&done)
    }

    /// The names in the queue of an instance, sorted.
    fn queue(&self, name: &str) -> Vec<String> {
        names(&self.dir().join(name).join("queue"))
    }

    /// How many entries of `sibling` the instance `name` has read.
    fn synced(&self, name: &str, sibling: &str) -> u32 {
        let path = self.dir().join(name).join(".synced").join(sibling);
        let bytes = fs::read(path).unwrap_or_default();
        bytes.try_into().map_or(0, u32::from_ne_bytes)
    }

    /// Writes an entry into the queue of another fuzzer.
    fn write(&self, sibling: &str, name: &str, bytes: &[u8]) {
        let queue = self.dir().join(sibling).join("queue");
        fs::create_dir_all(&queue).unwrap();
        fs::write(queue.join(name), bytes).unwrap();
    }
}

fn both(done: &Output) -> String {
    String::from_utf8_lossy(&[&done.stdout[..], &done.stderr].concat()).into_owned()
}

/// The names of the files in a folder that AFL++ looks at, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// An image of version 3 with a number in four bytes of its header.
fn image(at: usize, number: u32) -> Vec<u8> {
    let built = build(&Spec::default()).unwrap();
    let mut bytes = built.image.bytes().to_vec(1 << 24).unwrap();
    bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The count behind a word in the line about the fleet.
fn counted(said: &str, word: &str) -> u64 {
    let line = said.lines().find(|line| line.starts_with("fleet: "));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    let words: Vec<&str> = line.split([' ', ',']).collect();
    let at = line.find(word).unwrap_or_else(|| panic!("{line}"));
    let before = line[..at]
        .split([' ', ','])
        .filter(|it| !it.is_empty())
        .count();
    let words: Vec<&str> = words.into_iter().filter(|it| !it.is_empty()).collect();
    words[before - 1]
        .parse()
        .unwrap_or_else(|_| panic!("{line}"))
}

/// All files below a folder with their sizes, times and bytes.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (u64, i64, Vec<u8>)> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let meta = entry.path().symlink_metadata().unwrap();
            if meta.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let bytes = match meta.is_file() && meta.len() < 1 << 20 {
                true => fs::read(entry.path()).unwrap(),
                false => Vec::new(),
            };
            files.insert(entry.path(), (meta.len(), meta.mtime(), bytes));
        }
    }
    files
}

/// Whether the numbers of the entries have no gap: AFL++ waits for ever for a missing one.
fn is_contiguous(names: &[String]) -> bool {
    let mut numbered = names.iter().enumerate();
    numbered.all(|(id, name)| name.starts_with(&format!("id:{id:06},")))
}

#[test]
fn two_instances_read_each_others_entries() {
    let fleet = Fleet::new();
    let said = fleet.run("one", &["--tests", "30"]);
    let ones = fleet.queue("one");
    assert!(!ones.is_empty() && is_contiguous(&ones), "{ones:?}");
    assert_eq!(counted(&said, "images written"), ones.len() as u64);
    assert!(names(&fleet.dir().join("one")).contains(&"fuzzer_stats".to_owned()));

    let said = fleet.run("two", &["--tests", "120"]);
    assert_eq!(fleet.synced("two", "one") as usize, ones.len());
    assert_eq!(counted(&said, "other instance"), 1);
    assert!(counted(&said, "of others run") > 0, "{said}");
    let twos = fleet.queue("two");
    assert!(!twos.is_empty() && is_contiguous(&twos), "{twos:?}");
    // What it has of the other is not written again, and what that has not, is.
    let images = |name: &str| -> Vec<Vec<u8>> {
        let queue = fleet.dir().join(name).join("queue");
        let names = names(&queue).into_iter();
        names
            .map(|name| fs::read(queue.join(name)).unwrap())
            .collect()
    };
    let (of_one, of_two) = (images("one"), images("two"));
    assert!(of_two.iter().all(|image| !of_one.contains(image)));
    let before = snapshot(&fleet.dir().join("two"));

    fleet.run("one", &["--tests", "160"]);
    assert_eq!(fleet.synced("one", "two") as usize, twos.len());
    assert!(fleet.queue("one").starts_with(&ones));
    assert!(is_contiguous(&fleet.queue("one")));
    // Nothing is written in the folder of another.
    assert_eq!(snapshot(&fleet.dir().join("two")), before);
}

#[test]
fn an_image_of_another_fuzzer_becomes_a_finding_with_all_that_belongs_to_it() {
    let fleet = Fleet::new();
    // More snapshots than the reader can count.
    fleet.write(
        "afl",
        "id:000000,time:0,execs:0,orig:seed",
        &image(60, 70_000),
    );
    fleet.write("afl", "id:000001,src:000000,op:havoc", &image(60, 1));
    let said = fleet.run("ours", &["--tests", "20", "--intensity", "0"]);
    assert_eq!(counted(&said, "of others run"), 1, "{said}");
    let work = fleet.work("ours");
    let kept = names(&work.join("queue"));
    assert!(
        kept.iter().any(|name| name.contains(",op:sync,")),
        "{kept:?}"
    );
    let found = records(&work).unwrap();
    let [(folder, record)] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert!(record.summary.contains("count <= MAX"), "{record:?}");
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(readme.contains("It was made elsewhere"), "{readme}");
    // It says again what it was, in each of the ways that there are.
    let run = |program: &Path, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(words).current_dir(folder).stdin(Stdio::null());
        command.output().unwrap()
    };
    let text = folder.to_str().unwrap();
    let fuzzer = Path::new(env!("CARGO_BIN_EXE_image-fuzzer"));
    let done = run(&folder.join("reproduce.sh"), &[]);
    assert_eq!(done.status.code(), Some(0), "{}", both(&done));
    let done = run(fuzzer, &["reproduce", text]);
    assert_eq!(done.status.code(), Some(0), "{}", both(&done));
    let done = run(fuzzer, &["minimise", text]);
    assert_eq!(done.status.code(), Some(0), "{}", both(&done));
    let done = run(&folder.join("iotest"), &[]);
    assert!(both(&done).contains("ended by signal 6"), "{}", both(&done));
    // Little is left of it: what the reader looks at.
    let file = image_fuzzer::finding::image_in(folder);
    let bytes = fs::read(&file).unwrap();
    let used = bytes.iter().filter(|byte| **byte != 0).count();
    assert!(used < 64, "{used} bytes used");
}

/// Entries that another fuzzer left half written, or that are none.
#[test]
fn a_damaged_sibling_harms_nothing() {
    let fleet = Fleet::new();
    let good = image(60, 2);
    fleet.write("afl", "id:000000,time:0,execs:0,orig:seed", &good);
    fleet.write("afl", "id:000001,src:000000,op:havoc", b"");
    fleet.write("afl", "id:000002,src:000000,op:havoc", &good[..90]);
    fleet.write("afl", "id:000007,src:000000,op:havoc", &image(60, 3));
    for name in ["id:8", "README.txt", "id:", "core", ".state"] {
        fleet.write("afl", name, b"none of the queue");
    }
    let queue = fleet.dir().join("afl/queue");
    fs::create_dir(queue.join("id:000008,folder")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", queue.join("id:000009,link")).unwrap();
    nix::unistd::mkfifo(&queue.join("id:000010,pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let long = fs::File::create(queue.join("id:000011,long")).unwrap();
    long.set_len(1 << 40).unwrap();
    fleet.write("afl", "id:000012,sync:ours,src:000001", &image(60, 4));
    fleet.write("afl", "id:000013,src:000000,op:havoc", &image(60, 5));
    fs::write(fleet.dir().join("afl/is_main_node"), "").unwrap();
    fs::create_dir(fleet.dir().join("starting")).unwrap();
    fs::write(fleet.dir().join("notes"), "").unwrap();
    let before = snapshot(&fleet.dir());
    let said = fleet.run("ours", &["--tests", "40", "--intensity", "0"]);
    assert_eq!(counted(&said, "of others run"), 3, "{said}");
    assert_eq!(counted(&said, "unusable"), 5, "{said}");
    // The last one may still be written.
    assert_eq!(fleet.synced("ours", "afl"), 13);
    let mut after = snapshot(&fleet.dir());
    after.retain(|path, _| !path.starts_with(fleet.dir().join("ours")));
    assert_eq!(after, before);
    // A sibling that vanished is forgotten.
    fs::remove_dir_all(fleet.dir().join("afl")).unwrap();
    fleet.run("ours", &["--tests", "45", "--intensity", "0"]);
}

#[test]
fn an_instance_that_is_killed_harms_none_and_goes_on() {
    let fleet = Fleet::new();
    let quick = ["--sync-interval", "0.05"];
    let forever = [&quick[..], &["--tests", "1000000"]].concat();
    for round in 0..3 {
        let mut killed = fleet.instance("one", &forever);
        let mut killed = killed
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut other = fleet.instance("two", &forever);
        let mut other = other
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (before, read) = (fleet.queue("one").len(), fleet.synced("two", "one"));
        while fleet.queue("one").len() < before + 2 || fleet.synced("two", "one") <= read {
            assert!(
                killed.try_wait().unwrap().is_none(),
                "one exited in round {round}"
            );
            assert!(
                other.try_wait().unwrap().is_none(),
                "two exited in round {round}"
            );
            std::thread::yield_now();
        }
        killed.kill().unwrap();
        killed.wait().unwrap();
        let names = fleet.queue("one");
        assert!(is_contiguous(&names), "{names:?}");
        let queue = fleet.dir().join("one/queue");
        let len = |name: &String| fs::metadata(queue.join(name)).unwrap().len();
        assert!(
            names
                .iter()
                .all(|name| len(name) > 0 || name.contains("op:file"))
        );
        // The other one is as it was, and ends when it is asked to.
        let pid = nix::unistd::Pid::from_raw(other.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        let ended = other.wait().unwrap();
        assert!(matches!(ended.code(), Some(0 | 3)), "{ended:?}");
    }
    // All that it has in its queue is there for others after another start.
    let work = fleet.work("one");
    let tests = fs::read_to_string(work.join("done"))
        .unwrap()
        .lines()
        .count()
        + 1_000;
    fleet.run(
        "one",
        &["--tests", &(tests + 10_000_000).to_string(), "-d", "1"],
    );
    let own = names(&work.join("queue")).into_iter();
    let own = own.filter(|name| !name.contains(",op:sync,"));
    let mut own: Vec<String> = own.map(|name| name[3..9].to_owned()).collect();
    let written = fleet.queue("one").into_iter();
    let written = written.map(|name| name.split("orig:").nth(1).unwrap()[..6].to_owned());
    let mut written: Vec<String> = written.collect();
    own.sort();
    written.sort();
    written.dedup();
    assert_eq!(
        written.len(),
        fleet.queue("one").len(),
        "an image was written twice"
    );
    let long = |id: &String| {
        let names = names(&work.join("queue"));
        let name = names
            .into_iter()
            .find(|name| name.starts_with(&format!("id:{id}")));
        fs::metadata(work.join("queue").join(name.unwrap()))
            .unwrap()
            .len()
            > 64 << 20
    };
    let missing: Vec<&String> = own
        .iter()
        .filter(|id| !written.contains(id) && !long(id))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn what_is_wrong_with_a_fleet_is_said_in_a_line() {
    let fleet = Fleet::new();
    fleet.write("afl", "id:000000", b"x");
    let error = |mut command: Command| {
        let done = command.output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{}", both(&done));
        both(&done)
    };
    let said = error(fleet.instance("afl", &["--tests", "1"]));
    assert!(
        said.contains("belongs to another fuzzer: give another --name"),
        "{said}"
    );
    fleet.run("ours", &["--tests", "2"]);
    let mut other = fleet.instance("ours", &["--tests", "2"]);
    other.arg("--campaign-seed").arg("x");
    fs::rename(fleet.work("ours"), fleet.work("away")).unwrap();
    let said = error(other);
    assert!(
        said.contains("belongs to the campaign with the seed"),
        "{said}"
    );
    fs::remove_dir_all(fleet.work("ours")).unwrap();
    let mut inside = Command::new(env!("CARGO_BIN_EXE_image-fuzzer"));
    let reader = format!("{} read", env!("CARGO_BIN_EXE_planted"));
    inside.args(["-c", &reader, "--tests", "1", "--name", "in", "--sync"]);
    inside.arg(fleet.dir()).arg(fleet.dir().join("work"));
    let said = error(inside);
    assert!(said.contains("is in the folder of the fleet"), "{said}");
}

/// A reader for AFL++: what it branches on is in the header of an image.
const TARGET: &str = r#"
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv) {
    unsigned char b[512] = {0};
    FILE *f = fopen(argv[1], "rb");
    if (!f) return 1;
    size_t n = fread(b, 1, sizeof b, f);
    fclose(f);
    if (n < 72 || memcmp(b, "QFI\xfb", 4)) return 1;
    int reached = 0;
    for (int at = 4; at < 72; at++) {
        if (b[at] > 0x7f) reached |= 1;
        if (b[at] == 0xff) reached |= 2;
    }
    if (b[7] == 2) reached |= 4;
    if (b[7] == 3) reached |= 8;
    return reached == 99;
}
"#;

/// Whether a program can be started.
fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null());
    command.output().is_ok()
}

#[test]
fn afl_fuzz_reads_our_entries_and_we_read_its() {
    for program in ["afl-fuzz", "afl-clang-fast", "afl-whatsup"] {
        if !is_installed(program) {
            println!("not run: {program} is not installed");
            return;
        }
    }
    let fleet = Fleet::new();
    let at = |name: &str| fleet.0.path().join(name);
    fs::write(at("reader.c"), TARGET).unwrap();
    let mut compiler = Command::new("afl-clang-fast");
    compiler
        .arg("-o")
        .arg(at("reader"))
        .arg(at("reader.c"))
        .env("AFL_QUIET", "1");
    let built = compiler.output().unwrap();
    if !built.status.success() {
        println!("not run: afl-clang-fast cannot build: {}", both(&built));
        return;
    }
    fleet.run("ours", &["--tests", "40"]);
    let ours = fleet.queue("ours").len();
    fs::create_dir(at("seeds")).unwrap();
    // One that the reader refuses at once, so that ours reach more.
    fs::write(at("seeds/seed"), "no image").unwrap();
    let mut afl = Command::new("afl-fuzz");
    for variable in [
        "AFL_NO_UI",
        "AFL_SKIP_CPUFREQ",
        "AFL_NO_AFFINITY",
        "AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES",
        "AFL_IMPORT_FIRST",
    ] {
        afl.env(variable, "1");
    }
    afl.args(["-M", "afl", "-E", "1000", "-t", "5000", "-i"])
        .arg(at("seeds"));
    afl.arg("-o")
        .arg(fleet.dir())
        .arg("--")
        .arg(at("reader"))
        .arg("@@");
    let done = afl.stdin(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{}", both(&done));
    assert_eq!(
        fleet.synced("afl", "ours") as usize,
        ours,
        "{}",
        both(&done)
    );
    let taken = fleet.queue("afl");
    assert!(
        taken.iter().any(|name| name.contains(",sync:ours,")),
        "{taken:?}"
    );
    let said = fleet.run("ours", &["--tests", "100"]);
    assert!(counted(&said, "of others run") > 0, "{said}");
    assert!(fleet.synced("ours", "afl") > 0);
    let summary = Command::new("afl-whatsup")
        .args(["-s", "-d"])
        .arg(fleet.dir())
        .output()
        .unwrap();
    assert!(summary.status.success(), "{}", both(&summary));
}
