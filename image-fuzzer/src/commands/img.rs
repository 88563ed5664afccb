//! Random `qemu-img` commands on the image under test.

use super::amend::amend;
use super::creation::{self, create, measure};
use super::words::Words;
use super::{Command, qemu_io};
use image_mutations::base::{BACKING_FILE, Qcow2Base};
use image_mutations::rng::Rng;

/// The output formats `convert` and `dd` are asked for.
const OUTPUTS: [&str; 12] = [
    "raw",
    "raw",
    "qcow2",
    "qcow2",
    "qcow2",
    "qcow2",
    "vmdk",
    "vdi",
    "vpc",
    "vhdx",
    "qed",
    "parallels",
];

/// A `qemu-img` command that writes to the image, or reads much of it: one that has something
/// to do where `base` has it.
pub(super) fn writer(base: &Qcow2Base, rng: &mut Rng) -> Command {
    let has = |has: bool, weight| if has { weight } else { 1 };
    let image = &base.image;
    let weights = [
        16,
        5,
        2,
        has(!image.snapshots.is_empty(), 14),
        has(image.version == 3, 6) + has(!image.bitmaps.is_empty(), 10) - 1,
        12,
        12,
        has(base.backing.is_some(), 6),
        has(base.backing.is_some(), 14),
        3,
        5,
    ];
    match rng.weighted(&weights) {
        Some(0) => check(rng),
        Some(1) => convert(base, rng),
        Some(2) => measure_disk(rng),
        Some(3) => snapshot(base, rng),
        Some(4) => bitmap(base, rng),
        Some(5) => amend(base, rng),
        Some(6) => resize(base, rng),
        Some(7) => rebase(base, rng),
        Some(8) => commit(rng),
        Some(9) => bench(rng),
        _ => onto(base, rng),
    }
}

/// One command.
pub(super) fn one(base: &Qcow2Base, rng: &mut Rng) -> Command {
    match rng.weighted(&[5, 15, 5, 6, 16, 3, 4, 16, 11, 15, 11, 5, 5, 3, 9]) {
        Some(0) => Words::new("info")
            .format(rng)
            .maybe(40, rng, ["--backing-chain"])
            .maybe(30, rng, ["--output=json"])
            .image(),
        Some(1) => check(rng),
        Some(2) => Words::new("map")
            .format(rng)
            .maybe(50, rng, ["--output=json"])
            .image(),
        Some(3) => measure(base, rng),
        Some(4) => convert(base, rng),
        Some(5) => Words::new("compare")
            .format(rng)
            .maybe(20, rng, ["-s"])
            .add(["$test_img", "$test_img"])
            .done(),
        Some(6) => dd(base, rng),
        Some(7) => snapshot(base, rng),
        Some(8) => bitmap(base, rng),
        Some(9) => amend(base, rng),
        Some(10) => resize(base, rng),
        Some(11) => rebase(base, rng),
        Some(12) => commit(rng),
        Some(13) => bench(rng),
        _ => create(rng),
    }
}

pub(super) fn commit(rng: &mut Rng) -> Command {
    Words::new("commit")
        .format(rng)
        .maybe(30, rng, ["-d"])
        .image()
}

fn bench(rng: &mut Rng) -> Command {
    Words::new("bench")
        .format(rng)
        .add(["-c", "16"])
        .maybe(40, rng, ["-w"])
        .maybe(20, rng, ["-w", "--flush-interval=4"])
        .maybe(30, rng, ["-S", "65536"])
        .image()
}

fn measure_disk(rng: &mut Rng) -> Command {
    Words::new("measure")
        .format(rng)
        .add(["-O", "qcow2"])
        .image()
}

/// A disk without files is copied onto the one of the image.
fn onto(base: &Qcow2Base, rng: &mut Rng) -> Command {
    let size = match rng.below(3) {
        0 => 512,
        _ => base.image.virtual_size,
    };
    let source = format!("driver=null-co,read-zeroes=on,size={size}");
    let target = "driver=qcow2,file.filename=$test_img";
    Words::new("convert")
        .add(["--image-opts", "--target-image-opts", "-n"])
        .maybe(40, rng, ["-S", "0"])
        .maybe(30, rng, ["-c"])
        .maybe(20, rng, ["-W"])
        .add([&source, target])
        .done()
}

fn check(rng: &mut Rng) -> Command {
    let words = Words::new("check").format(rng);
    match rng.below(3) {
        0 => words.image(),
        1 => words.add(["-r", "leaks"]).image(),
        _ => words.add(["-r", "all"]).image(),
    }
}

pub(super) fn convert(base: &Qcow2Base, rng: &mut Rng) -> Command {
    let output = rng.pick(&OUTPUTS).copied().unwrap_or("raw");
    // Only these two can have the kernel copy for them.
    let offload = ["raw", "qcow2"].contains(&output) && rng.chance(20);
    let mut words = Words::new("convert")
        .format(rng)
        .maybe(10, rng, ["-U"])
        .maybe(10, rng, ["-W", "-m", "4"])
        .maybe(10, rng, ["-S", "0"]);
    if offload {
        words = words.add(["-C"]);
    }
    if let Some(snapshot) = rng.pick(&base.image.snapshots)
        && rng.chance(40)
    {
        words = words.add(["-l", &snapshot.name]);
    }
    if output == "qcow2" {
        let option = creation::options(rng);
        words = words
            .maybe(if offload { 0 } else { 40 }, rng, ["-c"])
            .maybe(40, rng, ["-o", option]);
        if !base.image.bitmaps.is_empty() {
            words = words.maybe(50, rng, ["--bitmaps"]).maybe(
                20,
                rng,
                ["--bitmaps", "--skip-broken-bitmaps"],
            );
        }
    }
    if rng.chance(8) {
        // In the other direction: something else into the image.
        if rng.chance(60) {
            return onto(base, rng);
        }
        return words
            .add(["-n", "-O", "qcow2", "$test_img", "$test_img"])
            .done();
    }
    words.add(["-O", output, "$test_img", "out.img"]).done()
}

fn dd(base: &Qcow2Base, rng: &mut Rng) -> Command {
    let count = format!("count={}", rng.between(1, 200));
    let skip = format!("skip={}", rng.below(base.image.virtual_size / 4096 + 4));
    let output = rng.pick(&OUTPUTS).copied().unwrap_or("raw");
    Words::new("dd")
        .format(rng)
        .add(["-O", output, "bs=4096", &count])
        .maybe(40, rng, [&skip])
        .add(["if=$test_img", "of=out.img"])
        .done()
}

pub(super) fn snapshot(base: &Qcow2Base, rng: &mut Rng) -> Command {
    let by_id = rng.chance(30);
    let existing = rng.pick(&base.image.snapshots).map_or("new", |snapshot| {
        let name = if by_id { &snapshot.id } else { &snapshot.name };
        name.as_str()
    });
    let words = Words::new("snapshot").maybe(20, rng, ["-q"]);
    match rng.below(4) {
        0 => words.add(["-l"]).image(),
        1 => words.add(["-c", "new"]).image(),
        2 => words.add(["-a", existing]).image(),
        _ => words.add(["-d", existing]).image(),
    }
}

pub(super) fn bitmap(base: &Qcow2Base, rng: &mut Rng) -> Command {
    const GRANULARITIES: [&str; 4] = ["512", "65536", "256", "4k"];
    let existing = rng
        .pick(&base.image.bitmaps)
        .map_or("new", |bitmap| bitmap.name.as_str());
    let words = Words::new("bitmap").format(rng);
    let (words, name) = match rng.below(10) {
        0 => {
            let granularity = rng.pick(&GRANULARITIES).copied().unwrap_or("512");
            let words = words.add(["--add"]);
            (words.maybe(40, rng, ["-g", granularity]), "new")
        }
        1 => (words.add(["--remove"]), existing),
        2 => (words.add(["--clear"]), existing),
        3 => (words.add(["--enable"]), existing),
        4 => (words.add(["--disable"]), existing),
        5 => (words.add(["--clear", "--disable"]), existing),
        6 => (words.add(["--add", "--disable"]), "new"),
        7 => (words.add(["--add"]), existing),
        8 => {
            let merged = [
                "--add",
                "--merge",
                existing,
                "-b",
                "$test_img",
                "-F",
                "qcow2",
            ];
            (words.add(merged), "new")
        }
        _ => (words.add(["--add", "--merge", existing]), "new"),
    };
    if rng.chance(2) {
        // As long as a name may be, and one byte more.
        let name = "n".repeat(if rng.chance(50) { 1023 } else { 1024 });
        return Words::new("bitmap")
            .add(["--add", "$test_img", &name])
            .done();
    }
    words.add(["$test_img", name]).done()
}

pub(super) fn resize(base: &Qcow2Base, rng: &mut Rng) -> Command {
    const MODES: [&str; 4] = ["metadata", "falloc", "full", "off"];
    let size = qemu_io::new_size(base.image.virtual_size, base.cluster_size(), rng);
    let mode = qemu_io::sparing(rng.pick(&MODES).copied().unwrap_or("off"), size);
    let preallocation = format!("--preallocation={mode}");
    let size = size.to_string();
    Words::new("resize")
        .format(rng)
        .maybe(50, rng, ["--shrink"])
        .maybe(30, rng, [&preallocation])
        .add(["$test_img", &size])
        .done()
}

fn rebase(base: &Qcow2Base, rng: &mut Rng) -> Command {
    let words = Words::new("rebase")
        .format(rng)
        .maybe(40, rng, ["-u"])
        .maybe(15, rng, ["-c"]);
    match &base.backing {
        Some(backing) if rng.chance(50) => words
            .add(["-b", BACKING_FILE, "-F", backing.format()])
            .image(),
        _ if rng.chance(20) => {
            // A header of the smallest clusters has no room for such a name.
            let name = format!("{}/backing.img", "./".repeat(rng.between(60, 510) as usize));
            words.add(["-u", "-b", &name, "-F", "raw"]).image()
        }
        _ => words.add(["-b", ""]).image(),
    }
}
