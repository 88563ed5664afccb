//! `generate` and `conform`: images agree with their descriptions, and faulty readers are
//! distinguished from correct ones.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use data_encoding::HEXLOWER;
use image_formats::Format;
use image_mutations::base::Formats;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{fuzzer, run, text};

/// Writes images into `out`.
fn generate(format: &str, count: u32, seed: &str, out: &Path) {
    let count = count.to_string();
    let words = [
        "generate",
        format,
        "--count",
        &count,
        "--campaign-seed",
        seed,
    ];
    let done = run(fuzzer().args(words).arg("--out").arg(out));
    assert!(done.status.success(), "{format}: {}", text(&done.stderr));
}

/// All files below `folder`, by their names there.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = PathBuf::from(path.file_name().unwrap());
        if path.is_dir() {
            let below = tree(&path).into_iter();
            files.extend(below.map(|(file, bytes)| (name.join(file), bytes)));
        } else {
            files.insert(name, fs::read(&path).unwrap());
        }
    }
    files
}

/// The images of a folder that `generate` or `--keep` wrote: each with its `image.json`.
fn images(folder: &Path) -> Vec<(PathBuf, Value)> {
    let mut folders: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    let read = |folder: PathBuf| {
        let json = fs::read(folder.join("image.json")).unwrap();
        (folder, serde_json::from_slice(&json).unwrap())
    };
    folders.into_iter().map(read).collect()
}

#[test]
fn the_same_seed_generates_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    for format in Formats::words() {
        let trees = [("one", "a"), ("two", "a"), ("three", "b")].map(|(name, seed)| {
            let out = dir.path().join(format).join(name);
            generate(format, 2, seed, &out);
            tree(&out)
        });
        assert!(trees[0] == trees[1], "{format}");
        assert!(trees[0] != trees[2], "{format}");
        assert!(trees[0].len() >= 6, "{format}: {:?}", trees[0].keys());
    }
}

#[test]
fn generate_does_not_mix_images_with_other_files() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes"), "mine").unwrap();
    let words = ["generate", "qed", "--count", "1", "--out"];
    let done = run(fuzzer().args(words).arg(dir.path()));
    let stderr = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains("is not empty: name another folder"),
        "{stderr}"
    );
    assert_eq!(tree(dir.path()).len(), 1);
}

#[test]
fn mutated_images_are_described_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let words = ["generate", "qed", "--count", "8", "--intensity", "3"];
    let done = run(fuzzer().args(words).arg("--out").arg(&out));
    assert!(done.status.success(), "{done:?}");
    let images = images(&out);
    assert_eq!(images.len(), 8);
    for (folder, image) in &images {
        assert_eq!(image["valid"], false, "{}", folder.display());
        assert_eq!(image["sha256"], Value::Null);
    }
    let broken = |(_, image): &&(PathBuf, Value)| image["defects"][0].is_object();
    assert!(images.iter().any(|it| broken(&it)), "{images:?}");
}

/// What QEMU reads of an image, or what it said.
fn converted(folder: &Path, image: &Value) -> Result<Vec<u8>, String> {
    let format = image["format"].as_str().unwrap();
    let name = image["image"].as_str().unwrap();
    let mut command = Command::new("qemu-img");
    command.current_dir(folder).arg("convert");
    if let Some(passphrase) = image["passphrase"].as_str() {
        let secret = format!("secret,id=key,data={passphrase}");
        let options = match format {
            "luks" => format!("driver=luks,key-secret=key,file.filename={name}"),
            "qcow" => format!(
                "driver=qcow,encrypt.format=aes,encrypt.key-secret=key,file.filename={name}"
            ),
            _ => format!(
                "driver={format},encrypt.format=luks,encrypt.key-secret=key,file.filename={name}"
            ),
        };
        command.args(["--object", &secret, "--image-opts", &options]);
    } else {
        command.args(["-f", format, name]);
    }
    let out = folder.join("data.raw");
    let done = run(command.args(["-O", "raw"]).arg(&out));
    match done.status.success() {
        true => Ok(fs::read(out).unwrap()),
        false => Err(text(&done.stderr)),
    }
}

#[test]
fn generated_images_hold_what_is_said_of_them() {
    let dir = tempfile::tempdir().unwrap();
    for format in Formats::words_of_one() {
        let out = dir.path().join(format);
        generate(format, 6, "data", &out);
        let mut compared = 0;
        for (folder, image) in images(&out) {
            let place = folder.display();
            let features = image["features"].as_array().unwrap();
            let is_logged = |name: &Value| name.as_str().unwrap().starts_with("log");
            // QEMU does not replay the log of an image that it only reads.
            if format == Format::Vhdx.name() && features.iter().any(is_logged) {
                continue;
            }
            // Modules that are packages of their own read these.
            let in_module = |name: &Value| name == "bzip2" || name == "lzfse";
            if features.iter().any(in_module) {
                continue;
            }
            // Nor does it read all streams that fill twice the grain, which is its limit.
            if features.iter().any(|name| name == "empty-blocks") {
                continue;
            }
            let size = image["virtual_size"].as_u64().unwrap() as usize;
            // Larger disks are not hashed.
            if size > 64 << 20 {
                assert_eq!(image["sha256"], Value::Null, "{place}");
                continue;
            }
            let mut data = converted(&folder, &image)
                .unwrap_or_else(|said| panic!("{place}: {features:?}: {said}"));
            // QEMU counts in sectors.
            assert!(size <= data.len() && data.len() <= size.next_multiple_of(512));
            let rest = data.split_off(size);
            assert!(rest.iter().all(|byte| *byte == 0), "{place}");
            let hash = HEXLOWER.encode(&Sha256::digest(&data));
            assert_eq!(image["sha256"], hash, "{place}: {features:?}");
            compared += 1;
        }
        assert!(compared > 0, "{format}");
    }
}

/// Runs `conform` on the simplest valid QED images with data.
fn conform(options: &[&str], reader: &[&str]) -> Output {
    let words = ["conform", "qed", "--valid-only", "--only", "data"];
    let mut command = fuzzer();
    command.args(words).args(options).arg("--").args(reader);
    run(&mut command)
}

const QEMU_IMG: &[&str] = &[
    "qemu-img", "convert", "-f", "qed", "-O", "raw", "$img", "$out",
];

#[test]
fn a_reader_is_right_on_what_it_reads() {
    let words = ["conform", "qed", "--count", "2", "--"];
    let done = run(fuzzer().args(words).args(QEMU_IMG));
    let table = text(&done.stdout);
    assert_eq!(done.status.code(), Some(0), "{table}");
    let (features, rules) = table.split_once("\nbroken rules\n").unwrap();
    let rows: Vec<&str> = features.lines().filter(|it| it.starts_with("  ")).collect();
    assert!(rows.len() >= 8, "{table}");
    for row in rows {
        assert!(row.ends_with("right        2 right"), "{row}");
    }
    let magic = rules.lines().find(|it| it.starts_with("  magic ")).unwrap();
    assert!(magic.contains(" refused "), "{magic}");
    // The image is added where it is missing: cat writes it, which is not the disk.
    let done = conform(&[], &["cat"]);
    let table = text(&done.stdout);
    assert!(table.starts_with("cat on qed\n"), "{table}");
    assert!(table.contains("3 wrong data at 0\n"), "{table}");
}

#[test]
fn readers_that_do_wrong_are_told() {
    let cases = [
        (
            "head -c 65536 /dev/zero",
            3,
            "WRONG DATA",
            "3 wrong data at ",
        ),
        (
            "echo no such feature >&2; exit 1",
            0,
            "not read",
            "3 refused: no such feature",
        ),
        ("kill -SEGV $$", 3, "FAILS", "3 signal 11"),
        ("sleep 1000", 3, "FAILS", "1 no end"),
    ];
    for (script, status, summary, details) in cases {
        let options = match script.starts_with("sleep") {
            true => ["--count", "1", "--timeout", "1"],
            false => ["--count", "3", "--timeout", "60"],
        };
        let done = conform(&options, &["sh", "-c", script]);
        let table = text(&done.stdout);
        assert_eq!(done.status.code(), Some(status), "{script}: {done:?}");
        let row = table.lines().find(|it| it.starts_with("  data ")).unwrap();
        assert!(row.contains(&format!("  {summary} ")), "{row}");
        let start = details.split(':').next().unwrap();
        assert!(row.contains(start) && row.contains(details), "{row}");
    }
}

#[test]
fn a_reader_may_write_to_standard_output_and_be_a_script() {
    let dir = tempfile::tempdir().unwrap();
    let script = |folder: &str, text: &str| {
        let folder = dir.path().join(folder);
        fs::create_dir(&folder).unwrap();
        let file = folder.join("reader");
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let inner = script(
        "inner",
        "qemu-img convert -f qed -O raw \"$1\" data && cat data",
    );
    let done = conform(&[], &[&inner]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(text(&done.stdout).contains("3 right\n"), "{done:?}");
    // What it starts elsewhere must be allowed.
    let outer = script("outer", &format!("exec {inner} \"$@\""));
    let done = conform(&[], &[&outer]);
    assert!(text(&done.stdout).contains("3 refused: "), "{done:?}");
    let inner_folder = dir.path().join("inner");
    let done = conform(&["--allow-read", inner_folder.to_str().unwrap()], &[&outer]);
    assert!(text(&done.stdout).contains("3 right\n"), "{done:?}");
}

#[test]
fn conform_reports_as_json_and_a_page_and_keeps_images() {
    let dir = tempfile::tempdir().unwrap();
    let (page, keep) = (dir.path().join("page.html"), dir.path().join("kept"));
    let (page_name, keep_name) = (page.to_str().unwrap(), keep.to_str().unwrap());
    let options = [
        "--json", "--count", "2", "--html", page_name, "--keep", keep_name,
    ];
    let reader = ["sh", "-c", "echo '<zeros>' >&2; head -c 512 /dev/zero"];
    let done = conform(&options, &reader);
    assert_eq!(done.status.code(), Some(3), "{done:?}");
    let json: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(json["format"], "qed");
    assert_eq!(json["reader"].as_array().unwrap().len(), 3);
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["subject"]["feature"]["name"], "data");
    assert_eq!(rows[0]["summary"], "wrong_data");
    let results = rows[0]["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!(results[0]["outcome"]["is"], "wrong_data");
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.ends_with("</html>\n"), "{html}");
    assert!(
        html.contains("&#39;&lt;zeros&gt;") || html.contains("'&lt;zeros&gt;"),
        "{html}"
    );
    assert!(html.contains("<tr><th>data<td>"), "{html}");
    // What was kept is what the reader was given.
    let kept = images(&keep);
    assert_eq!(kept.len(), 2);
    for ((folder, image), result) in kept.iter().zip(results) {
        assert_eq!(image["seed"], result["seed"]);
        let data = converted(folder, image).unwrap();
        assert_eq!(image["sha256"], HEXLOWER.encode(&Sha256::digest(&data)));
    }
    // A second run does not write over it.
    let before = tree(&keep);
    let done = conform(&["--keep", keep_name], &reader);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(text(&done.stderr).contains("is not empty"), "{done:?}");
    assert!(tree(&keep) == before);
    // A reader that does right leaves nothing.
    let empty = dir.path().join("empty");
    let done = conform(&["--keep", empty.to_str().unwrap()], QEMU_IMG);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(tree(&empty).is_empty());
}

#[test]
fn unknown_words_of_conform_are_errors() {
    let cases: [(&[&str], i32, &str); 5] = [
        (
            &["qed", "--only", "dta", "--valid-only", "--", "true"],
            1,
            "no image of qed for 'dta': --only takes minimal, data, ",
        ),
        (
            &[
                "qed",
                "--only",
                "data",
                "--only",
                "magick",
                "--valid-only",
                "--",
                "true",
            ],
            1,
            "'magick'",
        ),
        (
            &["qed", "--valid-only", "--", "no-such-reader"],
            1,
            "cannot run no-such-reader: not found in PATH",
        ),
        (
            &["qed", "--valid-only", "--", "/no/such"],
            1,
            "cannot run '/no/such': No such file",
        ),
        (&["qde", "--", "true"], 2, "invalid value 'qde'"),
    ];
    for (words, status, wanted) in cases {
        let done = run(fuzzer().arg("conform").args(words));
        let stderr = text(&done.stderr);
        assert_eq!(done.status.code(), Some(status), "{words:?}: {stderr}");
        assert!(stderr.contains(wanted), "{words:?}: {stderr}");
        assert!(text(&done.stdout).is_empty(), "{words:?}");
        if status == 1 {
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
        }
    }
    // It once panicked.
    let done = conform(&["--timeout", "18446744073709551615"], &["true"]);
    assert_eq!(done.status.code(), Some(2), "{done:?}");
}
