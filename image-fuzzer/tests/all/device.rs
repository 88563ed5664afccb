//! `image-fuzzer device` on the emulator that is installed, and on one that has a fault.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use image_fuzzer::device::machine::{Machine, Wanted};
use image_fuzzer::device::program::Program;
use image_fuzzer::device::{Emulator, InputLimits, Ran, Setup};
use image_fuzzer::path::find_program;

const EMULATOR: &str = "qemu-system-x86_64";

fn has_emulator() -> bool {
    let version = Command::new(EMULATOR).arg("--version").output();
    let is_there = version.is_ok_and(|it| it.status.success());
    if !is_there {
        eprintln!("skipped: there is no {EMULATOR}");
    }
    is_there
}

fn fuzzer(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-fuzzer"));
    command.args(words).env_remove("QEMU_PROG");
    command.stdin(Stdio::null());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_campaign_on_a_device_reaches_blocks_and_goes_on() {
    if !has_emulator() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let words = [
        "device",
        "virtio-blk-pci",
        work.to_str().unwrap(),
        "-j",
        "1",
    ];
    for inputs in ["150", "300"] {
        let done = fuzzer(&[&words[..], &["--inputs", inputs]].concat());
        let (out, err) = (text(&done.stdout), text(&done.stderr));
        assert!(matches!(done.status.code(), Some(0 | 3)), "{out}{err}");
        let first = out.lines().next().unwrap();
        assert!(first.starts_with(&format!("{inputs} inputs in ")), "{out}");
        assert!(err.contains("recorded of a driver"), "{err}");
        assert!(!err.contains("not noted"), "{err}");
    }
    let queue = fs::read_dir(work.join("queue")).unwrap().count();
    assert!(queue > 3, "{queue}");
    let blocks = fs::read_to_string(work.join("blocks")).unwrap();
    assert!(blocks.lines().count() > 100);
    // No folder of an emulator is left.
    let left = fs::read_dir(&work).unwrap().flatten().any(|it| {
        let name = it.file_name();
        name.to_string_lossy().starts_with("image-fuzzer.")
    });
    assert!(!left);
    let report = fuzzer(&["report", work.to_str().unwrap()]);
    assert!(text(&report.stdout).starts_with("virtio-blk-pci: 300 inputs in "));
    let other = fuzzer(&["device", "nvme", work.to_str().unwrap()]);
    assert!(
        text(&other.stderr).contains("is the work folder of 'virtio-blk-pci'"),
        "{}",
        text(&other.stderr)
    );
}

#[test]
fn what_cannot_be_fuzzed_is_said_in_a_line() {
    if !has_emulator() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let said = |words: &[&str]| {
        let words = [&["device"], words, &["-d", "1"]].concat();
        let done = fuzzer(&words);
        assert_eq!(done.status.code(), Some(1), "{words:?}");
        let err = text(&done.stderr);
        assert_eq!(err.lines().count(), 1, "{err}");
        err
    };
    let folder = work.to_str().unwrap();
    assert!(said(&["nvm", folder]).contains("has no device 'nvm'; did you mean 'nvme'?"));
    assert!(said(&["--args", "-M pc"]).contains("--args needs --objects"));
    let none = said(&["x", folder, "--args", "-M pc", "--objects", "zz*"]);
    assert!(
        none.contains("no registers of the machine belong to 'zz*'"),
        "{none}"
    );
    assert!(none.contains("i440FX-pcihost"), "{none}");
    let bad = said(&["x", folder, "--args", "-M nothing", "--objects", "*"]);
    assert!(
        bad.contains("does not start: ") && bad.contains("nothing"),
        "{bad}"
    );
    let gone = said(&["nvme", folder, "--qemu", "/no/such/emulator"]);
    assert!(gone.contains("--qemu names the emulator"), "{gone}");
}

/// An emulator of which a write of 0x66 to a port ends in a failed assertion, once another port
/// got a 7: a script that answers as one does.
fn faulty(dir: &Path) -> PathBuf {
    let path = dir.join("emulator");
    let text = format!(
        "#!/bin/sh\n\
         case \" $* \" in *' -qtest '*) ;; *) exec {EMULATOR} \"$@\" ;; esac\n\
         armed=\n\
         while read -r line; do\n\
         case $line in\n\
         'outb 0x82 0x7'*) armed=yes; echo OK ;;\n\
         'outb 0x80 0x66'*) [ \"$armed\" ] && {{\n\
         echo \"qemu: ../hw/x.c:7: x_write: Assertion \\`!armed' failed.\" >&2; kill -ABRT $$; }}\n\
         echo OK ;;\n\
         'outb 0xcf9 0x6'*) armed=; echo OK ;;\n\
         in*|read*) echo 'OK 0x0' ;;\n\
         endianness*) echo 'OK little' ;;\n\
         *) echo OK ;;\n\
         esac\n\
         done\n"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_trace_from_elsewhere_is_made_small_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let emulator = faulty(dir.path());
    let trace = dir.path().join("long");
    let mut lines = String::from("outl 0xcf8 0x80000804\n[R +0.1] outw 0xcfc 0x7\nOK\n");
    for at in 0..40 {
        lines.push_str(&format!("inl 0xc0{at:02x}\nwrite 0x1{at:05x} 0x2 0x0303\n"));
    }
    lines.push_str("outb 0x82 0x7\nreadl 0x100000\noutb 0x80 0x66\noutb 0x81 0x1\n");
    fs::write(&trace, lines).unwrap();
    let folder = dir.path().join("found");
    let words = [
        "minimise",
        "--device-args",
        "-M pc",
        "--qemu",
        emulator.to_str().unwrap(),
        "--no-emulator-sandbox",
        "--output",
        folder.to_str().unwrap(),
        trace.to_str().unwrap(),
    ];
    let done = fuzzer(&words);
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{out}{err}");
    assert!(
        out.contains("crash: assertion: x.c: x_write: !armed: 2 of "),
        "{out}"
    );
    let small = fs::read_to_string(folder.join("trace")).unwrap();
    let steps: Vec<&str> = small.lines().filter(|it| !it.starts_with('#')).collect();
    assert_eq!(steps.last(), Some(&"outb 0x80 0x66"), "{small}");
    assert_eq!(steps.len(), 2, "{small}");
    for (name, expected) in [
        ("qtest.c", "qtest_outb(s, 0x80, 0x66);"),
        ("mail.txt", "outb 0x80 0x66\nEOF\n"),
    ] {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        assert!(text.contains(expected), "{text}");
    }
    let status = |script: &str| {
        let done = Command::new("bash").arg(folder.join(script)).output();
        let done = done.unwrap();
        (text(&done.stdout), done.status.code())
    };
    let shown = ("ended by signal 6\n".to_owned(), Some(0));
    assert_eq!(status("reproduce.sh"), shown);
    assert_ne!(
        status("iotest").0,
        fs::read_to_string(folder.join("iotest.out")).unwrap()
    );
    // It is not made twice.
    let again = fuzzer(&words);
    assert!(text(&again.stderr).contains("exists; name another with --output"));
    let reproduced = fuzzer(&["reproduce", folder.to_str().unwrap()]);
    assert!(
        text(&reproduced.stdout).starts_with("reproduced: crash: assertion"),
        "{}{}",
        text(&reproduced.stdout),
        text(&reproduced.stderr)
    );
}

#[test]
fn images_with_mutations_and_the_guard_are_used() {
    if !has_emulator() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    let words = [
        "device",
        "virtio-blk-pci",
        work.to_str().unwrap(),
        "-j",
        "1",
    ];
    let more = [
        "--format", "qcow2", "--mutate", "--guard", "ends", "--inputs", "40",
    ];
    let done = fuzzer(&[&words[..], &more].concat());
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert!(matches!(done.status.code(), Some(0 | 3)), "{out}{err}");
    assert!(out.starts_with("40 inputs in "), "{out}{err}");
    let alone = fuzzer(&[&words[..], &["--mutate"]].concat());
    assert!(text(&alone.stderr).contains("--format"));
}

/// What the monitor does to a machine is part of an input.
#[test]
fn commands_of_the_monitor_are_steps() {
    if !has_emulator() {
        return;
    }
    let wanted = Wanted {
        name: Some("usb-storage"),
        ..Wanted::default()
    };
    let path = find_program(Path::new(EMULATOR)).unwrap();
    let machine = Machine::new(&path, &wanted).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let setup = Setup {
        machine: &machine,
        scratch: scratch.path(),
        image: None,
        sandbox: false,
        guard: None,
        limits: InputLimits {
            time: Duration::from_secs(20),
            ..InputLimits::default()
        },
    };
    let mut emulator = Emulator::start(&setup, None).unwrap();
    for (lines, is_spent) in [
        (
            "# monitor: stop\ninl 0xcfc\n# monitor: cont\n# monitor: system_reset\n",
            false,
        ),
        ("# monitor: device_del nothing\n", false),
        (
            "# monitor: {\"execute\":\"block_resize\",\"arguments\":{\"node-name\":\"no\",\"size\":1}}\n",
            false,
        ),
        ("# monitor: device_del dev2\ninl 0xcfc\n", true),
    ] {
        let program: Program = lines.parse().unwrap();
        assert_eq!(emulator.run(&program), Ran::Done, "{lines}");
        assert_eq!(emulator.is_spent(), is_spent, "{lines}");
    }
    let listed = emulator.ask("info usb").unwrap();
    assert!(!listed.contains("dev2"), "{listed}");
}
