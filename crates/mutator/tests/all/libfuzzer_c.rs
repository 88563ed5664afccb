//! The static library in a fuzz target in C, linked as docs/engines.md says.

use std::path::Path;
use std::process::Command;

use crate::built::library_path;

/// A target that tells whether it was given an image, with the header for C.
const TARGET: &str = r#"
#include <stdlib.h>
#include <string.h>
#include "image_mutator.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static volatile int images;
    if (size > 104 && !memcmp(data, "QED\0", 4))
        images++;
    return images < 0 || image_mutator_repair(NULL, 0);
}
"#;

/// Compiles the target with more words; says why not where it fails.
fn compile(dir: &Path, words: &[&str]) -> Result<(), String> {
    let compiled = Command::new("clang")
        .args(["-fsanitize=fuzzer", "target.c", "-o", "target"])
        .args(words)
        .current_dir(dir)
        .output();
    let output = compiled.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(said)
}

#[test]
fn a_target_in_c_gets_images_from_an_empty_corpus() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target.c");
    std::fs::write(&target, "int LLVMFuzzerTestOneInput(void) { return 0; }").unwrap();
    if compile(dir.path(), &[]).is_err() {
        println!("not run: clang with libFuzzer is not installed");
        return;
    }
    std::fs::write(&target, TARGET).unwrap();
    let library = library_path().with_extension("a");
    let include = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/include");
    let words = [
        "-Wall",
        "-Werror",
        include,
        "-Wl,-u,LLVMFuzzerCustomMutator",
        "-Wl,-u,LLVMFuzzerCustomCrossOver",
        library.to_str().unwrap(),
        "-lpthread",
        "-ldl",
        "-lm",
    ];
    compile(dir.path(), &words).unwrap_or_else(|said| panic!("{said}"));
    std::fs::create_dir(dir.path().join("corpus")).unwrap();
    let run = Command::new("./target")
        .args(["-runs=300", "-max_len=65536", "-seed=1", "-rss_limit_mb=0"])
        .arg("corpus")
        .env("IMAGE_MUTATOR_FORMATS", "qed")
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    assert!(said.contains("MS: ") && said.contains("Custom"), "{said}");
    let kept = std::fs::read_dir(dir.path().join("corpus")).unwrap();
    let kept = kept.map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    let images = kept.filter(|bytes| bytes.starts_with(b"QED\0"));
    assert!(images.count() > 0, "{said}");
}
