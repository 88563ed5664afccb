//! Several campaigns as one, and their images for other fuzzers.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use image_fuzzer::campaign::{BlockLog, Totals};
use image_fuzzer::finding::{counts, records};
use nix::fcntl::{Flock, FlockArg};

fn fuzzer(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-fuzzer"));
    command.env_remove("QEMU_IMG").env_remove("QEMU_IO");
    command.args(words).stdin(Stdio::null());
    command
}

/// Runs a campaign in a new folder.
fn campaign(folder: &Path, seed: &str, tests: u64) {
    let reader = format!("{} read", env!("CARGO_BIN_EXE_planted"));
    let words = [
        "-j",
        "1",
        "--no-sweep",
        "-c",
        &reader,
        "--campaign-seed",
        seed,
    ];
    let config = [
        "--config",
        r#"[["header", "nb_snapshots"], ["header", "l1_size"]]"#,
    ];
    let tests = ["--tests", &tests.to_string()];
    let done = fuzzer(&words).args(config).args(tests).arg(folder).output();
    let done = done.unwrap();
    assert!(matches!(done.status.code(), Some(0 | 3)), "{}", both(&done));
}

fn merge(sources: &[&Path], into: &Path) -> Output {
    let mut command = fuzzer(&["merge"]);
    command.args(sources).arg("--into").arg(into);
    command.output().unwrap()
}

fn both(done: &Output) -> String {
    String::from_utf8_lossy(&[&done.stdout[..], &done.stderr].concat()).into_owned()
}

/// All files below a folder, with their bytes where they are short.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (u64, Vec<u8>)> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                folders.push(entry.path());
            } else {
                let bytes = match meta.len() < 1 << 22 {
                    true => fs::read(entry.path()).unwrap(),
                    false => Vec::new(),
                };
                files.insert(entry.path(), (meta.len(), bytes));
            }
        }
    }
    files
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_merged_campaign_has_the_groups_and_the_hits_of_all() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, into] = ["one", "two", "into"].map(|name| dir.path().join(name));
    campaign(&one, "one", 60);
    campaign(&two, "two", 80);
    let before = [&one, &two].map(|folder| snapshot(folder));
    let done = merge(&[&one, &two], &into);
    assert_eq!(done.status.code(), Some(0), "{}", both(&done));
    assert!(
        both(&done).starts_with("140 tests of 2 campaigns: "),
        "{}",
        both(&done)
    );
    assert_eq!([&one, &two].map(|folder| snapshot(folder)), before);
    let mut expected = counts(&one);
    for (key, hits) in counts(&two) {
        *expected.entry(key).or_default() += hits;
    }
    assert!(expected.len() >= 2, "{expected:?}");
    assert_eq!(counts(&into), expected);
    let size = |folder: &Path| -> BTreeMap<String, usize> {
        let found = records(folder).unwrap().into_iter();
        found
            .map(|(_, record)| (record.key.to_string(), record.edits))
            .collect()
    };
    let (of_one, of_two) = (size(&one), size(&two));
    for (key, edits) in size(&into) {
        let smallest = [of_one.get(&key), of_two.get(&key)]
            .into_iter()
            .flatten()
            .min();
        assert_eq!(Some(&edits), smallest, "{key}");
    }
    assert_eq!(
        names(&into.join("crashes")).len() + names(&into.join("hangs")).len(),
        expected.len()
    );
    // Blocks and features are those of both.
    let blocks = |folder: &Path| {
        let reached = BlockLog::read(folder).reached.into_iter();
        let ids = reached.map(|first| (first.block.file, first.block.address));
        ids.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(blocks(&into), &blocks(&one) | &blocks(&two));
    assert_eq!(Totals::last(&into).images, 140);
    // Each image has its recipe, and the campaign goes on.
    let recipes = names(&into.join("recipes")).into_iter();
    let recipes: Vec<String> = recipes.map(|name| name.replace(".json", "")).collect();
    assert_eq!(recipes, names(&into.join("queue")));
    assert!(!recipes.is_empty());
    campaign_goes_on(&into, 150);
    assert_eq!(
        fs::read_to_string(into.join("done")).unwrap(),
        "below 150\n"
    );
    // A finding can be reproduced from there.
    let (folder, _) = &records(&into).unwrap()[0];
    let done = fuzzer(&["reproduce"]).arg(folder).output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", both(&done));
}

fn campaign_goes_on(folder: &Path, tests: u64) {
    let reader = format!("{} read", env!("CARGO_BIN_EXE_planted"));
    let config = [
        "--config",
        r#"[["header", "nb_snapshots"], ["header", "l1_size"]]"#,
    ];
    let words = [
        "-j",
        "1",
        "--no-sweep",
        "-c",
        &reader,
        "--tests",
        &tests.to_string(),
    ];
    let done = fuzzer(&words).args(config).arg(folder).output().unwrap();
    assert_eq!(done.status.code(), Some(3), "{}", both(&done));
    assert!(!both(&done).contains("had a different"), "{}", both(&done));
}

#[test]
fn what_cannot_be_merged_is_said_in_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let [one, two, into] = ["one", "two", "into"].map(|name| dir.path().join(name));
    campaign(&one, "one", 5);
    campaign(&two, "two", 5);
    let refused = |sources: &[&Path], into: &Path, why: &str| {
        let done = merge(sources, into);
        assert_eq!(done.status.code(), Some(1), "{}", both(&done));
        let said = both(&done);
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
    };
    refused(&[&one, &two], &two, "is not empty");
    refused(&[&one, &one], &into, "is named twice");
    refused(
        &[&one, dir.path()],
        &into,
        "name the work folder of a campaign",
    );
    let lock = fs::File::open(two.join(".lock")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    refused(&[&one, &two], &into, "an image-fuzzer is using");
    drop(lock);
    let state = fs::read_to_string(two.join("state.json")).unwrap();
    let other = state.replacen("image-fuzzer ", "image-fuzzer 99.", 1);
    fs::write(two.join("state.json"), other).unwrap();
    refused(
        &[&one, &two],
        &into,
        "belongs to a campaign of image-fuzzer 99.",
    );
    fs::write(two.join("state.json"), "{").unwrap();
    refused(&[&one, &two], &into, "state.json' is damaged");
    fs::write(two.join("state.json"), state).unwrap();
    fs::write(two.join("done"), "0\nx\n").unwrap();
    refused(&[&one, &two], &into, "'done' is damaged");
    // None of these left anything behind.
    assert_eq!(names(dir.path()), ["one", "two"]);
    // A recipe that a kill damaged is left out, and that is said.
    fs::write(two.join("done"), "below 5\n").unwrap();
    fs::write(two.join("recipes/id:000099,src:000001.json"), "{").unwrap();
    let done = merge(&[&one, &two], &into);
    assert_eq!(done.status.code(), Some(0), "{}", both(&done));
    assert!(
        both(&done).contains("1 recipe that cannot be read left out"),
        "{}",
        both(&done)
    );
}

#[test]
fn exported_images_are_those_of_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let [work, afl, zip] = ["work", "afl", "seeds.zip"].map(|name| dir.path().join(name));
    campaign(&work, "export", 60);
    let before = snapshot(&work);
    let export = |words: &[&str]| {
        let mut command = fuzzer(&["export"]);
        command.arg(&work).args(words);
        command.output().unwrap()
    };
    let (afl_text, zip_text) = (afl.to_str().unwrap(), zip.to_str().unwrap());
    let done = export(&["--afl", afl_text, "--seeds", zip_text]);
    assert_eq!(done.status.code(), Some(0), "{}", both(&done));
    assert_eq!(snapshot(&work), before);
    let images = names(&afl);
    assert!(
        both(&done).starts_with(&format!("{} image", images.len())),
        "{}",
        both(&done)
    );
    assert!(!images.is_empty());
    let queue: Vec<Vec<u8>> = names(&work.join("queue"))
        .iter()
        .map(|name| work.join("queue").join(name))
        .filter(|path| fs::metadata(path).unwrap().len() <= 1 << 20)
        .map(|path| fs::read(path).unwrap())
        .collect();
    let mut read = zip::ZipArchive::new(fs::File::open(&zip).unwrap()).unwrap();
    assert_eq!(read.len(), images.len());
    for name in &images {
        let bytes = fs::read(afl.join(name)).unwrap();
        assert!(queue.contains(&bytes), "{name}");
        let mut zipped = Vec::new();
        read.by_name(name)
            .unwrap()
            .read_to_end(&mut zipped)
            .unwrap();
        assert_eq!(zipped, bytes, "{name}");
    }
    // The same bytes again.
    let first = fs::read(&zip).unwrap();
    export(&["--seeds", zip_text]);
    assert_eq!(fs::read(&zip).unwrap(), first);
    // Nothing is written over.
    let done = export(&["--afl", afl_text]);
    assert_eq!(done.status.code(), Some(1));
    assert!(both(&done).contains("is not empty"), "{}", both(&done));
    let done = export(&["--seeds", zip_text, "--max-size", "1"]);
    let said = both(&done);
    assert!(
        said.starts_with("0 images") && said.contains("larger than 1 bytes"),
        "{said}"
    );
    assert_eq!(export(&[]).status.code(), Some(2));
}
