//! Images that look like those of another format, and the programs of QEMU: what is taken for
//! what, and who opens which file.

use image_formats::raw::{Part, Spec};
use image_formats::{AnySpec, qcow2};
use image_fuzzer::commands::{Command, Programs};
use image_fuzzer::input::recipe::{FUZZER, Recipe};
use image_fuzzer::oracle::Class;
use image_fuzzer::oracle::runner::{Settings, TestRunner};
use image_mutations::base::{Base, OtherBase};
use image_mutations::case::Maker;
use image_mutations::edit::{Edit, Hex, Mutation, Number};

/// What is found when `lines` run on a raw disk of 1 MiB that begins so; `edited` is whether a
/// byte of it is changed first. `None` where QEMU is not installed.
fn found(start: &[u8], edited: bool, lines: &[&str]) -> Option<Vec<(Class, String)>> {
    found_with(programs(&[]), start, edited, lines)
}

/// The programs of QEMU; `qemu-io` with these first arguments.
fn programs(options: &[&str]) -> Programs {
    let qemu_io = ["qemu-io"].iter().chain(options).map(|word| word.into());
    Programs::new(vec!["qemu-img".into()], qemu_io.collect())
}

/// The same with these programs.
fn found_with(
    programs: Programs,
    start: &[u8],
    edited: bool,
    lines: &[&str],
) -> Option<Vec<(Class, String)>> {
    if std::process::Command::new("qemu-img")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("not run: qemu-img is not in PATH");
        return None;
    }
    let spec = Spec {
        parts: vec![Part {
            at: 0,
            bytes: start.to_vec(),
        }],
        ..Spec::default()
    };
    let edit = Mutation {
        family: "havoc".into(),
        edit: Edit::Bytes {
            at: Number(1 << 19),
            bytes: Hex(vec![1]),
        },
    };
    let command = |line: &&str| Command(shlex::split(line).expect("words"));
    let recipe = Recipe {
        fuzzer: FUZZER.into(),
        seed: "probe".into(),
        base: Base::Other(OtherBase {
            spec: AnySpec::Raw(spec),
            parent: None,
        }),
        edits: edited.then_some(edit).into_iter().collect(),
        commands: lines.iter().map(command).collect(),
        fresh_copies: true,
        guard: None,
    };
    let fallback = tempfile::tempdir().expect("a folder");
    let settings = Settings::new(programs, fallback.path());
    let mut runner = TestRunner::new(settings).expect("a runner");
    let files = Maker::default()
        .files(&recipe.base, &recipe.edits)
        .expect("an image");
    let outcome = runner.run(&recipe, &files).expect("it runs");
    let violations = outcome.violations.into_iter();
    Some(
        violations
            .map(|it| (it.class, it.signature.to_string()))
            .collect(),
    )
}

/// The bytes of a qcow2 image whose backing file is a canary.
fn naming_image() -> Vec<u8> {
    let spec = qcow2::Spec {
        cluster_bits: 9,
        virtual_size: 64 << 10,
        backing: Some(qcow2::Backing {
            name: "../w.canary/secret.raw".into(),
            format: Some("raw".into()),
        }),
        ..qcow2::Spec::default()
    };
    let image = qcow2::build(&spec).expect("a valid image").image;
    let len = image_formats::ReadAt::len(image.bytes()) as usize;
    image.bytes().to_vec(len as u64).expect("it is small")
}

#[test]
fn a_raw_disk_that_names_files_opens_them_where_its_format_is_probed() {
    let lines = [
        "qemu-img convert -O raw $test_img out.img",
        "qemu-img convert -f raw -O raw $test_img out.img",
        "qemu-img info $test_img",
    ];
    let Some(valid) = found(&naming_image(), false, &lines) else {
        return;
    };
    // What the guest wrote is its own, and none of these is a mutation.
    assert_eq!(valid, []);
    let mutated = found(&naming_image(), true, &lines).expect("QEMU is there");
    let probed = "probed qemu-img convert".to_owned();
    assert_eq!(mutated, [(Class::ExternalAccess, probed)]);
}

#[test]
fn what_is_named_raw_has_exactly_its_bytes() {
    let lines = [
        "qemu-img convert -f raw -O raw $test_img out.img",
        "qemu-io -f raw -c 'read -P 0x51 0 1' $test_img",
        "qemu-img convert -O raw $test_img out.img",
    ];
    let header = [b"QFI\xfb\0\0\0\x03".as_slice(), &[0xff; 200]].concat();
    assert_eq!(found(&header, true, &lines).unwrap_or_default(), []);
}

/// What a disk begins with, the writes of a guest that complete a signature, and what such a disk
/// would be for who is told no format.
fn writes() -> [(Vec<u8>, &'static str, &'static str); 3] {
    let mut unfinished = naming_image();
    unfinished[0] = b'x';
    [
        (
            Vec::new(),
            "qemu-io -c 'write -P 0x51 0 1' -c 'write -P 0x46 1 1' -c 'write -P 0x49 2 1' \
             -c 'write -P 0xfb 3 1' -c 'write -P 2 7 1' $test_img",
            "unreadable",
        ),
        (
            b"QEDx".to_vec(),
            "qemu-io -c 'write -z 3 1' $test_img",
            "unreadable",
        ),
        (
            unfinished,
            "qemu-io -c 'aio_write -P 0x51 0 1' $test_img",
            "qcow2",
        ),
    ]
}

#[test]
fn a_guest_cannot_turn_a_raw_disk_into_an_image_of_another_format() {
    for (start, line, _) in writes() {
        let found = found(&start, false, &[line]).unwrap_or_default();
        assert_eq!(found, [], "{line}");
    }
}

#[test]
fn a_program_that_lets_a_guest_do_that_is_found() {
    // One that is told that the image is raw, as if it knew nothing of probing.
    let unprotected = programs(&["-f", "raw"]);
    for (start, line, format) in writes() {
        let Some(found) = found_with(unprotected.clone(), &start, false, &[line]) else {
            return;
        };
        let changed = (Class::FormatChange, format!("{format} qemu-io"));
        assert_eq!(found, [changed], "{line}");
    }
}
