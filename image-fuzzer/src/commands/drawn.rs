//! Commands drawn at random: sequences of operations on the same image, as a
//! person or a management program would run them.

use super::encrypted::{self, unlocked};
use super::{Command, qemu_io};
use crate::input::base::{BACKING_FILE, Base};
use crate::rng::Rng;

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

/// One to four commands for an image made from `base`. The first one often only
/// looks, since what cannot be opened is not worth more.
pub fn sequence(base: &Base, rng: &mut Rng) -> Vec<Command> {
    if base.image.encryption.is_none() && rng.chance(2) {
        return encrypted::sequence(rng);
    }
    let count = match rng.below(10) {
        0..=3 => 1,
        4..=6 => 2,
        7..=8 => 3,
        _ => 4,
    };
    (0..count).map(|_| one(base, rng)).collect()
}

/// One command.
pub fn one(base: &Base, rng: &mut Rng) -> Command {
    if base.image.encryption.is_some() && rng.chance(15) {
        return encrypted::special(rng);
    }
    let command = match rng.weighted(&[40, 60]) {
        Some(0) => qemu_io::script(base.image.virtual_size, base.cluster_size(), rng),
        _ => qemu_img(base, rng),
    };
    unlocked(base, command)
}

/// A `qemu-img` command being put together.
struct Words(Vec<String>);

impl Words {
    fn new(verb: &str) -> Self {
        Self(vec!["qemu-img".into(), verb.into()])
    }

    /// Adds words as they are.
    fn add<const N: usize>(mut self, words: [&str; N]) -> Self {
        self.0.extend(words.map(String::from));
        self
    }

    /// Adds words with a chance of `percent` in a hundred.
    fn maybe<const N: usize>(self, percent: u64, rng: &mut Rng, words: [&str; N]) -> Self {
        if rng.chance(percent) {
            self.add(words)
        } else {
            self
        }
    }

    /// Names the format most of the time; without it the tool probes.
    fn format(self, rng: &mut Rng) -> Self {
        self.maybe(75, rng, ["-f", "qcow2"])
    }

    /// Ends with the image under test.
    fn image(self) -> Command {
        self.add(["$test_img"]).done()
    }

    fn done(self) -> Command {
        Command(self.0)
    }
}

/// One `qemu-img` command.
fn qemu_img(base: &Base, rng: &mut Rng) -> Command {
    match rng.weighted(&[7, 16, 5, 5, 16, 4, 5, 16, 11, 13, 10, 5, 4, 3, 4]) {
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
        Some(9) => amend(rng),
        Some(10) => resize(base, rng),
        Some(11) => rebase(base, rng),
        Some(12) => Words::new("commit")
            .format(rng)
            .maybe(30, rng, ["-d"])
            .image(),
        Some(13) => Words::new("bench")
            .format(rng)
            .add(["-c", "16"])
            .maybe(40, rng, ["-w"])
            .maybe(30, rng, ["-S", "65536"])
            .image(),
        _ => create(rng),
    }
}

/// A new image over the one under test.
fn create(rng: &mut Rng) -> Command {
    let option = creation(rng);
    Words::new("create")
        .add(["-f", "qcow2", "-F", "qcow2", "-b", "$test_img"])
        .maybe(60, rng, ["-o", option])
        .add(["out.img"])
        .done()
}

fn measure(base: &Base, rng: &mut Rng) -> Command {
    const OF: [&str; 4] = [
        "cluster_size=512",
        "extended_l2=on",
        "refcount_bits=1",
        "preallocation=full",
    ];
    // To measure a LUKS header is to make one, which takes long on purpose.
    let option = if rng.chance(3) {
        "encrypt.format=luks,encrypt.key-secret=key"
    } else {
        rng.pick(&OF).copied().unwrap_or(OF[0])
    };
    let mut words = Words::new("measure")
        .format(rng)
        .maybe(70, rng, ["-O", "qcow2"]);
    if rng.chance(25) {
        words = words.add(["-o", option]);
    }
    match rng.pick(&base.image.snapshots) {
        Some(snapshot) if rng.chance(40) => words.add(["-l", &snapshot.name]).image(),
        _ => words.image(),
    }
}

/// What a new qcow2 image is to be like.
fn creation(rng: &mut Rng) -> &'static str {
    if rng.chance(15) {
        return contradiction(rng);
    }
    const OPTIONS: [&str; 16] = [
        "preallocation=metadata",
        "preallocation=falloc",
        "preallocation=metadata,extended_l2=on",
        "preallocation=metadata,cluster_size=512",
        "extended_l2=on",
        "cluster_size=512",
        "cluster_size=2M",
        "compression_type=zstd",
        "compat=0.10",
        "compat=0.10,cluster_size=4k",
        "lazy_refcounts=on",
        "refcount_bits=1",
        "refcount_bits=64",
        "data_file=out.data",
        "data_file=out.data,data_file_raw=on",
        "data_file=out.data,data_file_raw=on,preallocation=metadata",
    ];
    rng.pick(&OPTIONS).copied().unwrap_or("compat=1.1")
}

/// Creation options that must be refused.
fn contradiction(rng: &mut Rng) -> &'static str {
    const OPTIONS: [&str; 16] = [
        "compat=0.10,lazy_refcounts=on",
        "compat=0.10,refcount_bits=1",
        "compat=0.10,extended_l2=on",
        "compat=0.10,compression_type=zstd",
        "compat=0.10,data_file=out.data",
        "refcount_bits=3",
        "refcount_bits=128",
        "data_file_raw=on",
        "extended_l2=on,cluster_size=4k",
        "cluster_size=513",
        "cluster_size=4M",
        "backing_fmt=raw",
        "backing_file=backing.img,backing_fmt=raw,data_file=out.data,data_file_raw=on",
        "backing_file=backing.img,backing_fmt=raw,preallocation=full",
        "encrypt.format=luks",
        "size=1T,cluster_size=512",
    ];
    rng.pick(&OPTIONS).copied().unwrap_or("refcount_bits=3")
}

fn check(rng: &mut Rng) -> Command {
    let words = Words::new("check").format(rng);
    match rng.below(3) {
        0 => words.image(),
        1 => words.add(["-r", "leaks"]).image(),
        _ => words.add(["-r", "all"]).image(),
    }
}

fn convert(base: &Base, rng: &mut Rng) -> Command {
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
        let option = creation(rng);
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
        // Onto itself in the other direction: something else into the image.
        return words
            .add(["-n", "-O", "qcow2", "$test_img", "$test_img"])
            .done();
    }
    words.add(["-O", output, "$test_img", "out.img"]).done()
}

fn dd(base: &Base, rng: &mut Rng) -> Command {
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

fn snapshot(base: &Base, rng: &mut Rng) -> Command {
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

fn bitmap(base: &Base, rng: &mut Rng) -> Command {
    let existing = rng
        .pick(&base.image.bitmaps)
        .map_or("new", |bitmap| bitmap.name.as_str());
    let words = Words::new("bitmap").format(rng);
    let (words, name) = match rng.below(8) {
        0 => (words.add(["--add"]).maybe(40, rng, ["-g", "65536"]), "new"),
        1 => (words.add(["--remove"]), existing),
        2 => (words.add(["--clear"]), existing),
        3 => (words.add(["--enable"]), existing),
        4 => (words.add(["--disable"]), existing),
        5 => (words.add(["--clear", "--disable"]), existing),
        6 => (words.add(["--add", "--disable"]), "new"),
        _ => (words.add(["--add", "--merge", existing]), "new"),
    };
    words.add(["$test_img", name]).done()
}

fn amend(rng: &mut Rng) -> Command {
    const WIDTHS: [&str; 8] = [
        "refcount_bits=1",
        "refcount_bits=2",
        "refcount_bits=4",
        "refcount_bits=8",
        "refcount_bits=16",
        "refcount_bits=32",
        "refcount_bits=64",
        "refcount_bits=3",
    ];
    const OLDER: [&str; 4] = [
        "compat=0.10",
        "compat=0.10,refcount_bits=16",
        "compat=0.10,lazy_refcounts=off",
        "compat=0.10,lazy_refcounts=on",
    ];
    const OTHERS: [&str; 18] = [
        "compat=1.1",
        "compat=1.1",
        "compat=1.1,lazy_refcounts=on",
        "compat=2.0",
        "lazy_refcounts=on",
        "lazy_refcounts=off",
        "size=3M",
        "size=512",
        "backing_file=,backing_fmt=",
        "backing_file=backing.img,backing_fmt=raw",
        "data_file=test.data",
        "data_file_raw=on",
        "data_file_raw=off",
        "cluster_size=512",
        "preallocation=full",
        "compression_type=zstd",
        "extended_l2=on",
        "encrypt.format=luks",
    ];
    let options: &[&str] = match rng.below(10) {
        0..=2 => &WIDTHS,
        3..=5 => &OLDER,
        _ => &OTHERS,
    };
    let option = rng.pick(options).copied().unwrap_or("compat=1.1");
    Words::new("amend").format(rng).add(["-o", option]).image()
}

fn resize(base: &Base, rng: &mut Rng) -> Command {
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

fn rebase(base: &Base, rng: &mut Rng) -> Command {
    let words = Words::new("rebase")
        .format(rng)
        .maybe(40, rng, ["-u"])
        .maybe(15, rng, ["-c"]);
    match &base.backing {
        Some(backing) if rng.chance(50) => words
            .add(["-b", BACKING_FILE, "-F", backing.format()])
            .image(),
        _ => words.add(["-b", ""]).image(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_names_the_image() {
        let mut rng = Rng::from_text("sequences");
        for round in 0..300 {
            let base = crate::input::base::draw(&mut rng);
            let commands = sequence(&base, &mut rng);
            let named = commands[0].0.iter().any(|word| word.contains("$test_img"));
            assert!(named, "round {round}: {commands:?}");
        }
    }
}
