//! The library in a real afl-fuzz, on a small reader that is compiled here.

use std::path::Path;
use std::process::Command;

use image_mutator::{Format, seeds};

use crate::built::library_path;

/// Reads the header of a qcow2 image, as far as to tell a few of its fields apart.
const READER: &str = r#"
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint8_t image[1 << 20];

static uint64_t number(int at, int len) {
    uint64_t value = 0;
    for (int i = 0; i < len; i++)
        value = value << 8 | image[at + i];
    return value;
}

int main(int argc, char **argv) {
    FILE *file = fopen(argv[argc - 1], "rb");
    if (!file)
        return 1;
    size_t len = fread(image, 1, sizeof image, file);
    fclose(file);
    if (len < 104 || memcmp(image, "QFI\xfb", 4))
        return 2;
    if (number(4, 4) < 2 || number(4, 4) > 3)
        return 3;
    if (number(20, 4) < 9 || number(20, 4) > 21)
        return 4;
    if (number(24, 8) > 1ull << 50)
        return 5;
    if (number(36, 4) > 1 << 22)
        return 6;
    if (number(40, 8) >= len)
        return 7;
    if (number(48, 8) & 511)
        return 8;
    if (number(60, 4) > 0 && number(64, 8) == 0)
        return 9;
    return 0;
}
"#;

/// Whether a program is installed.
fn installed(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.code() != Some(127))
}

/// What AFL++ counts as edges of a campaign, by name.
fn stat(stats: &str, name: &str) -> u64 {
    let line = stats.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split(':').nth(1));
    let value = value.and_then(|value| value.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{name}: {stats}"))
}

#[test]
fn afl_fuzz_finds_paths_with_it_alone() {
    if !installed("afl-fuzz") || !installed("afl-clang-fast") {
        println!("not run: afl++ is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("reader.c"), READER).unwrap();
    let compiled = Command::new("afl-clang-fast")
        .args(["-O1", "reader.c", "-o", "reader"])
        .env("AFL_QUIET", "1")
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{said}");
    std::fs::create_dir(path("in")).unwrap();
    let seed = seeds(Format::Qcow2, 1, 1 << 16, "afl").remove(0);
    std::fs::write(path("in/seed"), seed).unwrap();

    let fuzzed = Command::new("afl-fuzz")
        .args([
            "-i", "in", "-o", "out", "-s", "1", "-E", "1500", "-t", "10000",
        ])
        .args(["--", "./reader", "@@"])
        .current_dir(dir.path())
        .env("AFL_CUSTOM_MUTATOR_LIBRARY", library_path())
        .env("AFL_CUSTOM_MUTATOR_ONLY", "1")
        .env("AFL_NO_UI", "1")
        .env("AFL_SKIP_CPUFREQ", "1")
        .env("AFL_NO_AFFINITY", "1")
        .env("AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES", "1")
        .env("AFL_SKIP_BIN_CHECK", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&fuzzed.stdout);
    assert!(fuzzed.status.success(), "{said}");

    let stats = std::fs::read_to_string(path("out/default/fuzzer_stats")).unwrap();
    assert!(stat(&stats, "execs_done") >= 1500, "{stats}");
    let names = entries(&path("out/default/queue"));
    let ours = names.iter().filter(|name| name.contains(",op:"));
    assert!(ours.count() >= 4, "{names:?}\n{stats}");
    let by_field = |name: &&String| name.contains("-header.");
    assert!(names.iter().any(|name| by_field(&name)), "{names:?}");
}

/// The names of the files in a folder.
fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.collect()
}

#[test]
fn a_mistake_in_the_options_ends_afl_fuzz_before_it_starts() {
    if !installed("afl-fuzz") {
        println!("not run: afl++ is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("in")).unwrap();
    std::fs::write(dir.path().join("in/seed"), "seed").unwrap();
    let fuzzed = Command::new("afl-fuzz")
        .args(["-n", "-i", "in", "-o", "out", "-E", "1", "--", "/bin/true"])
        .current_dir(dir.path())
        .env("AFL_CUSTOM_MUTATOR_LIBRARY", library_path())
        .env("IMAGE_MUTATOR_FORMATS", "qcow9")
        .env("AFL_NO_UI", "1")
        .env("AFL_SKIP_CPUFREQ", "1")
        .env("AFL_NO_AFFINITY", "1")
        .env("AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&fuzzed.stderr);
    assert_eq!(fuzzed.status.code(), Some(2), "{said}");
    let wanted = "image-mutator: IMAGE_MUTATOR_FORMATS: unknown word 'qcow9'; known are qcow2,";
    assert!(said.contains(wanted), "{said}");
}
