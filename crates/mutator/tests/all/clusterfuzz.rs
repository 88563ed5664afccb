//! The black-box fuzzer, called as ClusterFuzz calls it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use image_mutator::{Format, seeds};

/// The program, which cargo builds with the tests.
fn program() -> PathBuf {
    let exe = std::env::current_exe().expect("the test program");
    let folder = exe.ancestors().nth(2).expect("a folder");
    let path = folder.join("examples/clusterfuzz");
    assert!(path.exists(), "{} is not built", path.display());
    path
}

/// Runs it in a folder with `in` and `out`.
fn run(program: &Path, dir: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(["--input_dir", "in", "--output_dir", "out"]);
    command
        .args(words)
        .current_dir(dir)
        .output()
        .expect("it runs")
}

/// The files of a folder whose names begin with `prefix`.
fn files(folder: &Path, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("a folder");
    let named = entries.map(|entry| {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, fs::read(entry.path()).expect("a file"))
    });
    let mut files: Vec<_> = named.filter(|(name, _)| name.starts_with(prefix)).collect();
    files.sort();
    files
}

#[test]
fn images_of_the_input_folder_are_mutated() {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["in/more", "out", "bundle"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    let images = seeds(Format::Vdi, 2, 64 << 10, "clusterfuzz");
    fs::write(dir.path().join("in/a"), &images[0]).unwrap();
    fs::write(dir.path().join("in/more/b"), &images[1]).unwrap();
    let unpacked = dir.path().join("bundle/run");
    fs::copy(program(), &unpacked).unwrap();
    fs::write(dir.path().join("bundle/flags"), "check -f {format}\n").unwrap();

    let output = run(&unpacked, dir.path(), &["--no_of_files=30", "--seed", "1"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let made = files(&dir.path().join("out"), "fuzz-");
    assert_eq!(made.len(), 30);
    let mutated = made.iter().filter(|(_, bytes)| !images.contains(bytes));
    assert!(mutated.count() >= 29);
    let flags = files(&dir.path().join("out"), "flags-");
    assert_eq!(flags.len(), 30);
    let vdi = flags.iter().filter(|(_, text)| text == b"check -f vdi");
    assert!(vdi.count() >= 20);

    // The same seed and files give the same.
    fs::remove_dir_all(dir.path().join("out")).unwrap();
    fs::create_dir(dir.path().join("out")).unwrap();
    run(&unpacked, dir.path(), &["--no_of_files=30", "--seed", "1"]);
    assert!(files(&dir.path().join("out"), "fuzz-") == made);
}

#[test]
fn the_bundle_has_what_is_run() {
    let installed = |program| Command::new(program).arg("-v").output().is_ok();
    if !installed("zip") || !installed("unzip") {
        println!("not run: zip and unzip are not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for folder in ["in", "out"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/clusterfuzz-bundle");
    let bundle = || {
        Command::new(&script)
            .args(["--flags", "info -f {format}", "images.zip"])
            .env("CLUSTERFUZZ_RUN", program())
            .current_dir(dir.path())
            .output()
            .unwrap()
    };
    let output = bundle();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let mut unzip = Command::new("unzip");
    let unzip = unzip.args(["-q", "images.zip", "-d", "bundle"]);
    assert!(unzip.current_dir(dir.path()).status().unwrap().success());
    let run = run(
        &dir.path().join("bundle/run"),
        dir.path(),
        &["--no_of_files=3"],
    );
    assert!(run.status.success());
    assert_eq!(files(&dir.path().join("out"), "fuzz-").len(), 3);
    let flags = files(&dir.path().join("out"), "flags-");
    assert!(flags.iter().all(|(_, text)| text.starts_with(b"info -f ")));

    let again = bundle();
    assert_eq!(again.status.code(), Some(2));
    let wanted =
        "clusterfuzz-bundle: 'images.zip' exists already; remove it or name another file\n";
    assert_eq!(String::from_utf8_lossy(&again.stderr), wanted);
}

#[test]
fn an_empty_input_folder_gives_new_images() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    fs::create_dir(dir.path().join("out")).unwrap();
    let mut command = Command::new(program());
    command.args(["--input_dir=in", "--output_dir=out", "--no_of_files=20"]);
    command
        .env("IMAGE_MUTATOR_FORMATS", "qed")
        .current_dir(dir.path());
    assert!(command.output().unwrap().status.success());
    let made = files(&dir.path().join("out"), "fuzz-");
    let qed = made.iter().filter(|(_, bytes)| bytes.starts_with(b"QED\0"));
    assert!(qed.count() >= 15, "of {}", made.len());
}

#[test]
fn mistakes_are_named_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    for (words, wanted) in [
        (
            &["--no_of_files", "x"][..],
            "run: --no_of_files: 'x' is not a number\n",
        ),
        (&[], "run: --no_of_files is missing\n"),
        (
            &["--files", "3"],
            "run: unknown option '--files'; known are --input_dir, --output_dir, --no_of_files, --seed\n",
        ),
        (
            &["--no_of_files", "3"],
            "run: cannot read 'in': No such file or directory (os error 2)\n",
        ),
    ] {
        let output = run(&program(), dir.path(), words);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(String::from_utf8_lossy(&output.stderr), wanted);
    }
}
