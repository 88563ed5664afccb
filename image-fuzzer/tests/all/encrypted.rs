//! Encrypted base images: the commands drawn for them have the key, and what is drawn
//! works on the stock programs.

use std::process::Command as Process;

use image_formats::ReadAt as _;
use image_fuzzer::commands::{self, Command, adapted};
use image_fuzzer::oracle::{check, data_change};
use image_mutations::base::{self, Base};
use image_mutations::case::Maker;
use image_mutations::rng::Rng;

/// The first few encrypted images that are drawn, each with a sequence of commands.
fn drawn_ones(count: usize) -> Vec<(Base, Vec<Command>)> {
    let mut rng = Rng::from_text("encrypted");
    let mut found = Vec::new();
    for _ in 0..5000 {
        let base = base::draw(&mut rng);
        let alone = base.qcow2().is_some_and(|base| base.backing.is_none());
        if base.is_encrypted() && alone {
            let commands = commands::sequence(&base, &mut rng);
            found.push((base, commands));
            if found.len() == count {
                break;
            }
        }
    }
    assert_eq!(found.len(), count, "hardly any encrypted image is drawn");
    found
}

/// Runs a command of `qemu-img` or `qemu-io` in `folder`.
fn run(folder: &std::path::Path, command: &Command) -> std::process::Output {
    let words = command.0.iter();
    let mut words = words.map(|word| word.replace("$test_img", "test.qcow2"));
    let program = words.next().expect("a command has a program");
    Process::new(program)
        .args(words)
        .current_dir(folder)
        .output()
        .expect("the program starts")
}

#[test]
fn what_is_drawn_for_encrypted_images_opens_them() {
    if Process::new("qemu-img").arg("--version").output().is_err() {
        eprintln!("not run: qemu-img is not in PATH");
        return;
    }
    let mut maker = Maker::default();
    let mut opened = 0;
    for (base, commands) in drawn_ones(12) {
        let dir = tempfile::tempdir().expect("a folder");
        let prepared = maker.prepared(&base).expect("the image can be made");
        let fresh = || {
            let image = prepared.image.bytes();
            let bytes = image.to_vec(image.len()).expect("it is small");
            std::fs::write(dir.path().join("test.qcow2"), bytes).expect("it is written");
            for file in &prepared.extra_files {
                file.write_into(dir.path()).expect("it is written");
            }
        };
        fresh();
        for own in [check(), data_change::copy(), data_change::compare()] {
            let done = run(dir.path(), &adapted(&base, own));
            assert!(done.status.success(), "{done:?}");
        }
        // Some name no key, or one that is not there, on purpose: for a new image or key.
        let is_locked = |word: &String| {
            let keyless = [
                "encrypt.format=",
                "encrypt.new-secret=none",
                "encryption=on",
            ];
            keyless.iter().any(|option| word.contains(option))
        };
        let opening = commands
            .iter()
            .filter(|command| !command.0.iter().any(is_locked));
        for command in opening {
            opened += 1;
            let done = run(dir.path(), command);
            let said = String::from_utf8_lossy(&done.stderr);
            let locked = ["key-secret' is required", "mutually exclusive", "No secret"];
            assert!(
                !locked.iter().any(|words| said.contains(words)),
                "{command:?}: {said}"
            );
            // The next command gets a fresh image, not one without its only key.
            fresh();
        }
    }
    assert!(opened >= 12, "{opened} commands");
}
