//! Known bugs in a small reader: each is found, grouped, and minimised.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use image_fuzzer::campaign::{Campaign, Plan};
use image_fuzzer::commands::{Command, Programs};
use image_fuzzer::exec::Limits;
use image_fuzzer::finding::{Record, records};
use image_fuzzer::input::guard::GuardPlan;
use image_fuzzer::input::recipe::Recipe;
use image_fuzzer::oracle::Class;
use image_fuzzer::oracle::readers::SecondReader;
use image_fuzzer::oracle::runner::Settings;
use image_fuzzer::triage::minimise::Budget;
use image_mutations::edit::Edit;
use image_mutations::mutate::Intensity;

/// The reader with the bugs.
fn planted() -> PathBuf {
    env!("CARGO_BIN_EXE_planted").into()
}

/// A campaign against the reader.
fn campaign(dir: &Path, commands: &[Vec<&str>], config: Option<&str>) -> Campaign {
    let tool: Vec<OsString> = vec![planted().into(), "tool".into()];
    let other: Vec<OsString> = vec![planted().into(), "other".into()];
    let programs = Programs::new(tool.clone(), tool);
    let commands = commands
        .iter()
        .map(|words| Command(words.iter().map(|word| (*word).to_owned()).collect()))
        .collect();
    let settings = Settings {
        limits: Limits {
            wall: Duration::from_secs(2),
            cpu: Duration::from_secs(1),
            memory: 256 << 20,
            output: 1 << 20,
            disk_growth: 64 << 20,
            ..Limits::default()
        },
        compare_with: Some(SecondReader::QemuImg(programs.with_qemu_img(other))),
        ..Settings::new(programs, dir)
    };
    Campaign {
        seed: Some("planted".into()),
        plan: Plan {
            commands: Some(commands),
            selection: config.map(|config| config.parse().expect("a sound config")),
            intensity: Intensity::Mutations(1, 3),
            guard: GuardPlan::Off,
            ..Plan::default()
        },
        workers: 2,
        budget: Budget {
            tests: 40,
            time: Duration::from_secs(20),
        },
        ..Campaign::new(dir, settings)
    }
}

/// Runs the campaign, 100 tests at a time, until `enough` is found or `most` tests are run.
fn search(
    campaign: &mut Campaign,
    most: u64,
    enough: impl Fn(&[Record]) -> bool,
) -> Vec<(PathBuf, Record)> {
    for tests in (100..=most).step_by(100) {
        campaign.tests = Some(tests);
        let summary = campaign
            .run(&Arc::new(AtomicBool::new(false)))
            .expect("the campaign runs");
        assert_eq!(summary.error, None);
        let found = records(&campaign.dir).expect("the findings can be read");
        let plain: Vec<Record> = found.iter().map(|(_, record)| record.clone()).collect();
        if enough(&plain) {
            return found;
        }
    }
    let found = records(&campaign.dir).expect("the findings can be read");
    let keys: Vec<String> = found
        .iter()
        .map(|(_, record)| record.key.to_string())
        .collect();
    panic!("not all found in {most} tests, only {keys:?}");
}

/// The fields that the example in a finding's folder changes.
fn fields(folder: &Path) -> Vec<String> {
    let recipe = Recipe::read(&folder.join("recipe.json")).expect("a finding has its recipe");
    recipe
        .edits
        .iter()
        .map(|mutation| match &mutation.edit {
            Edit::Set { path, .. } | Edit::Text { path, .. } => path.clone(),
            other => format!("{other:?}"),
        })
        .collect()
}

/// The bugs of `planted read`: class, a part of the group's signature, the field.
const READER: [(Class, &str, &str); 7] = [
    (Class::Crash, "nb_snapshots <= MAX", "header.nb_snapshots"),
    (Class::Crash, "SIGSEGV", "header.l1_size"),
    (
        Class::Sanitizer,
        "heap-buffer-overflow",
        "header.header_length",
    ),
    // Its signature is its stack, or its command where there is no gdb.
    (Class::Hang, "", "header.refcount_table_clusters"),
    (Class::ResourceUse, "memory", "header.size"),
    (Class::ResourceUse, "output", "header.cluster_bits"),
    (Class::ResourceUse, "disk", "header.refcount_table_offset"),
];

fn is(record: &Record, (class, part, _): &(Class, &str, &str)) -> bool {
    record.key.class == *class && record.key.signature.to_string().contains(part)
}

#[test]
fn bugs_of_one_field_are_found_and_minimised() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = planted();
    let program = program.to_str().expect("a path that is text");
    let commands = vec![vec![program, "read", "$test_img"]];
    let mut campaign = campaign(dir.path(), &commands, Some(r#"[["header"]]"#));
    let found = search(&mut campaign, 4000, |records| {
        READER
            .iter()
            .all(|bug| records.iter().any(|record| is(record, bug)))
    });
    for bug in &READER {
        let groups: Vec<_> = found.iter().filter(|(_, record)| is(record, bug)).collect();
        assert_eq!(groups.len(), 1, "{bug:?} is one group: {groups:?}");
        let (folder, record) = groups[0];
        assert!(record.confirmed, "{bug:?}");
        assert_eq!(fields(folder), [bug.2], "{bug:?}");
        let script = std::fs::read_to_string(folder.join("reproduce.sh")).expect("a script");
        assert!(script.starts_with("#!/bin/sh\n"), "{bug:?}");
        let done = std::process::Command::new(folder.join("reproduce.sh"))
            .output()
            .expect("the script starts");
        assert_eq!(done.status.code(), Some(0), "{bug:?}: {done:?}");
        let readme = std::fs::read_to_string(folder.join("README.md")).expect("a README");
        assert!(readme.contains(bug.2), "{bug:?}: {readme}");
    }
}

#[test]
fn a_file_that_only_the_image_names_is_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = planted();
    let program = program.to_str().expect("a path that is text");
    let commands = vec![vec![program, "read", "$test_img"]];
    let mut campaign = campaign(dir.path(), &commands, None);
    campaign.plan.families = vec!["name".into()];
    let external = (Class::ExternalAccess, "planted", "");
    let found = search(&mut campaign, 4000, |records| {
        records.iter().any(|record| is(record, &external))
    });
    let (folder, _) = found
        .iter()
        .find(|(_, record)| is(record, &external))
        .expect("it was found");
    let recipe = std::fs::read_to_string(folder.join("recipe.json")).expect("a recipe");
    assert!(recipe.contains("header.backing_file_offset"), "{recipe}");
    let mut strace = std::process::Command::new("strace");
    if !strace
        .arg("true")
        .output()
        .is_ok_and(|done| done.status.success())
    {
        println!("partly not run: strace is not installed");
        return;
    }
    let done = std::process::Command::new(folder.join("reproduce.sh")).output();
    let done = done.expect("the script starts");
    assert_eq!(done.status.code(), Some(0), "{done:?}");
}

/// Bugs of commands that report success: class, command, field.
#[test]
fn bugs_of_commands_that_succeed_are_found() {
    let bugs = [
        (
            Class::FalseRepair,
            vec!["qemu-img", "check", "-r", "all", "$test_img"],
            "header.incompatible_features.corrupt",
        ),
        (
            Class::MetadataDamage,
            vec!["qemu-img", "resize", "$test_img", "1M"],
            "header.compatible_features.lazy_refcounts",
        ),
        (
            Class::DataChange,
            vec!["qemu-img", "bitmap", "--add", "$test_img", "b"],
            "header.compatible_features.lazy_refcounts",
        ),
        (
            Class::Disagreement,
            vec!["qemu-img", "check", "$test_img"],
            "header.refcount_order",
        ),
    ];
    for (class, command, field) in bugs {
        let dir = tempfile::tempdir().expect("a folder");
        // Base images that have the value already need no edit for it.
        let config = r#"[["header"]]"#;
        let mut campaign = campaign(dir.path(), std::slice::from_ref(&command), Some(config));
        let found = search(&mut campaign, 4000, |records| {
            records.iter().any(|record| record.key.class == class)
        });
        let (folder, record) = found
            .iter()
            .find(|(_, record)| record.key.class == class)
            .expect("it was found");
        assert!(record.confirmed, "{class}");
        // A base image may have the value already, and then needs no edit.
        let fields = fields(folder);
        let expected = |path: &String| field.starts_with(path.as_str());
        assert!(
            fields.len() <= 1 && fields.iter().all(expected),
            "{class}: {fields:?}"
        );
        // The command that shows the bug is not the one that has it.
        let readme = std::fs::read_to_string(folder.join("README.md")).expect("a README");
        let line = record.command.replace("\"$test_img\"", "test.qcow2");
        let line = format!("$ {line}\n");
        let Some((first, rest)) = readme.split_once(&line) else {
            panic!("{class}: {readme}");
        };
        let damaged = "ERROR the image is damaged\n(exit 2";
        let (before, after) = match class {
            Class::FalseRepair => ("", ["$ qemu-img check ", damaged]),
            Class::MetadataDamage => ("$ qemu-img check ", ["$ qemu-img check ", damaged]),
            Class::DataChange => ("$ qemu-img convert ", ["$ qemu-img compare ", "(exit 1"]),
            _ => ("", [""; 2]),
        };
        assert!(first.contains(before), "{class}: {readme}");
        assert!(
            after.iter().all(|text| rest.contains(text)),
            "{class}: {readme}"
        );
        // The script takes the words of a program as the fuzzer does.
        let words = |who: &str| format!("'{}' {who}", planted().display());
        let done = std::process::Command::new(folder.join("reproduce.sh"))
            .env("QEMU_IMG", words("tool"))
            .env("OTHER_IMG", words("other"))
            .output()
            .expect("the script starts");
        assert_eq!(done.status.code(), Some(0), "{class}: {done:?}");
        if fields.is_empty() {
            assert!(!readme.contains("The rules it breaks"), "{class}: {readme}");
        }
    }
}

/// A reader that reads a byte past a block of memory where an image has many snapshots, and
/// prints bytes that it never wrote where its L1 table is long. Without the guard neither
/// shows.
const READER_IN_C: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static unsigned number(const unsigned char *p) { return p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }
static volatile unsigned char sink;
int main(int argc, char **argv) {
    int fd = argc > 1 ? open(argv[1], O_RDONLY) : -1;
    unsigned char *header = malloc(112), *name = malloc(32);
    if (fd < 0 || pread(fd, header, 104, 0) != 104) return 1;
    if (number(header + 60) > 65536) sink = header[112];
    if (number(header + 36) > 4194304) printf("%02x\n", name[16]);
    return 0;
}
"#;

#[test]
fn faults_that_show_only_under_the_guard_are_found() {
    let dir = tempfile::tempdir().expect("a folder");
    let program = dir.path().join("reader");
    let source = dir.path().join("reader.c");
    std::fs::write(&source, READER_IN_C).expect("a source file");
    let compiled = std::process::Command::new("cc")
        .args(["-O0", "-o"])
        .args([&program, &source])
        .status();
    assert!(compiled.is_ok_and(|status| status.success()));
    let command = vec![program.to_str().expect("a path that is text"), "$test_img"];
    let config = r#"[["header","nb_snapshots"],["header","l1_size"]]"#;
    let faults = [
        (
            Class::MemoryError,
            "read past the end",
            "header.nb_snapshots",
        ),
        (Class::Uninitialised, "stdout", "header.l1_size"),
    ];
    let of = |name: &str, guard| {
        let commands = std::slice::from_ref(&command);
        let mut campaign = campaign(&dir.path().join(name), commands, Some(config));
        campaign.settings.compare_with = None;
        campaign.settings.readable = vec![dir.path().to_owned()];
        campaign.plan.guard = guard;
        campaign
    };
    let mut plain = of("plain", GuardPlan::Off);
    search(&mut plain, 100, |records| records.is_empty());
    let mut guarded = of("guarded", GuardPlan::Share);
    let found = search(&mut guarded, 4000, |records| {
        let found = |fault| records.iter().any(|record| is(record, fault));
        faults.iter().all(found)
    });
    assert_eq!(found.len(), 2, "{found:?}");
    for fault in &faults {
        let (folder, record) = found
            .iter()
            .find(|(_, record)| is(record, fault))
            .expect("it was found");
        assert!(record.confirmed, "{fault:?}");
        assert_eq!(fields(folder), [fault.2], "{fault:?}");
        let recipe = Recipe::read(&folder.join("recipe.json")).expect("a recipe");
        let guard = recipe.guard.expect("the guard is a part of it");
        assert_eq!(guard.compare, fault.0 == Class::Uninitialised);
        let again = std::process::Command::new(folder.join("reproduce.sh")).output();
        let again = again.expect("the script starts");
        assert_eq!(again.status.code(), Some(0), "{fault:?}: {again:?}");
        let readme = std::fs::read_to_string(folder.join("README.md")).expect("a README");
        assert!(readme.contains(&record.summary), "{readme}");
        if fault.0 == Class::MemoryError {
            let what = "read 0 bytes past the end of a block of 112 bytes; accessed at reader+0x";
            assert!(record.summary.starts_with(what), "{}", record.summary);
            assert!(record.summary.contains("; allocated at reader+0x"));
        }
    }
}
