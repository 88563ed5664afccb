//! Commands drawn at random: sequences of operations on the same image, as a
//! person or a management program would run them.

use super::{Command, qemu_io};
use crate::base::{BACKING_FILE, Base};
use crate::rng::Rng;

/// The output formats `convert` and `dd` are asked for.
const OUTPUTS: [&str; 8] = [
    "raw",
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
    match rng.weighted(&[40, 60]) {
        Some(0) => qemu_io::script(base.image.virtual_size, base.cluster_size(), rng),
        _ => qemu_img(base, rng),
    }
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
    match rng.weighted(&[8, 16, 6, 5, 14, 5, 6, 16, 8, 6, 8, 5, 4, 3]) {
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
        Some(3) => Words::new("measure")
            .format(rng)
            .maybe(70, rng, ["-O", "qcow2"])
            .image(),
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
        _ => Words::new("bench")
            .format(rng)
            .add(["-c", "16"])
            .maybe(40, rng, ["-w"])
            .maybe(30, rng, ["-S", "65536"])
            .image(),
    }
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
    let mut words = Words::new("convert")
        .format(rng)
        .maybe(10, rng, ["-U"])
        .maybe(10, rng, ["-W", "-m", "4"])
        .maybe(10, rng, ["-S", "0"]);
    if let Some(snapshot) = rng.pick(&base.image.snapshots)
        && rng.chance(40)
    {
        words = words.add(["-l", &snapshot.name]);
    }
    if output == "qcow2" {
        words = words.maybe(40, rng, ["-c"]);
        if !base.image.bitmaps.is_empty() {
            words = words.maybe(40, rng, ["--bitmaps"]);
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
    let existing = rng
        .pick(&base.image.snapshots)
        .map_or("new", |snapshot| snapshot.name.as_str());
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
    let (words, name) = match rng.below(6) {
        0 => (words.add(["--add"]).maybe(40, rng, ["-g", "65536"]), "new"),
        1 => (words.add(["--remove"]), existing),
        2 => (words.add(["--clear"]), existing),
        3 => (words.add(["--enable"]), existing),
        4 => (words.add(["--disable"]), existing),
        _ => (words.add(["--add", "--merge", existing]), "new"),
    };
    words.add(["$test_img", name]).done()
}

fn amend(rng: &mut Rng) -> Command {
    let option = match rng.below(7) {
        0 => "compat=0.10",
        1 => "compat=1.1",
        2 => "lazy_refcounts=on",
        3 => "lazy_refcounts=off",
        4 => "refcount_bits=1",
        5 => "refcount_bits=64",
        _ => "size=3M",
    };
    Words::new("amend").format(rng).add(["-o", option]).image()
}

fn resize(base: &Base, rng: &mut Rng) -> Command {
    let size = qemu_io::new_size(base.image.virtual_size, base.cluster_size(), rng).to_string();
    Words::new("resize")
        .format(rng)
        .maybe(60, rng, ["--shrink"])
        .maybe(15, rng, ["--preallocation=metadata"])
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

/// Whether `command` may write to the image under test. Where unsure it says so.
pub fn writes(command: &Command) -> bool {
    let words: Vec<&str> = command.0.iter().map(String::as_str).collect();
    match words.as_slice() {
        [
            "qemu-img",
            "info" | "map" | "measure" | "compare" | "dd",
            ..,
        ] => false,
        ["qemu-img", "check", rest @ ..] => rest.contains(&"-r"),
        ["qemu-img", "bench", rest @ ..] => rest.contains(&"-w"),
        ["qemu-img", "snapshot", rest @ ..] => !rest.contains(&"-l"),
        ["qemu-img", "convert", rest @ ..] => rest.contains(&"-n"),
        ["qemu-io", rest @ ..] => {
            let mut scripts = rest.windows(2).filter(|pair| pair[0] == "-c");
            !scripts.all(|pair| {
                let verb = pair[1].split(' ').next().unwrap_or_default();
                [
                    "read", "readv", "aio_read", "map", "alloc", "info", "length",
                ]
                .contains(&verb)
            })
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_names_the_image() {
        let mut rng = Rng::from_text("sequences");
        for round in 0..300 {
            let base = crate::base::draw(&mut rng);
            for command in sequence(&base, &mut rng) {
                let named = command.0.iter().any(|word| word.contains("$test_img"));
                assert!(named, "round {round}: {command:?}");
            }
        }
    }

    #[test]
    fn readers_are_told_from_writers() {
        let writes = |line: &str| super::writes(&Command(shlex::split(line).unwrap()));
        assert!(!writes("qemu-img check $test_img"));
        assert!(writes("qemu-img check -r all $test_img"));
        assert!(!writes("qemu-io -c 'read 0 512' $test_img"));
        assert!(writes("qemu-io -c 'read 0 512' -c 'write 0 512' $test_img"));
        assert!(writes("some-tool $test_img"));
    }
}
