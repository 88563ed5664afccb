//! Commands drawn for raw images: with the format named and without, and what a guest may write
//! where other formats have their signatures.

use super::Command;
use super::other::{self, adapted};
use super::words::weighted;
use image_mutations::base::OtherBase;
use image_mutations::mutate::magics;
use image_mutations::rng::Rng;

/// One to three commands.
pub(super) fn sequence(base: &OtherBase, rng: &mut Rng) -> Vec<Command> {
    let count = [1, 1, 2, 3][rng.index(4)];
    (0..count).map(|_| one(base, rng)).collect()
}

/// One command.
pub(super) fn one(base: &OtherBase, rng: &mut Rng) -> Command {
    let rows = [
        (8, "qemu-img info $test_img"),
        (6, "qemu-img info --output=json $test_img"),
        (4, "qemu-img info -f qcow2 $test_img"),
        (3, "qemu-img info --backing-chain $test_img"),
        (12, "qemu-img convert -O raw $test_img out.img"),
        (8, "qemu-img convert -f qcow2 -O raw $test_img out.img"),
        (3, "qemu-img convert -O qcow2 $test_img out.img"),
        (4, "qemu-img map $test_img"),
        (3, "qemu-img map -f qcow2 $test_img"),
        (3, "qemu-img check $test_img"),
        (2, "qemu-img measure -O qcow2 $test_img"),
        (2, "qemu-img compare $test_img $test_img"),
        (2, "qemu-img snapshot -l $test_img"),
        (1, "qemu-img commit $test_img"),
        (1, "qemu-img rebase -u -b '' $test_img"),
        (1, "qemu-img resize $test_img +1M"),
        (2, "qemu-img bench -c 8 -d 2 $test_img"),
        (20, "guest"),
        (10, "qemu-io"),
        (8, "other"),
    ];
    match weighted(&rows, rng) {
        "guest" => guest(rng),
        "qemu-io" => script(vec!["-r".into()], vec![read(rng)]),
        "other" => other::one(base, rng),
        line => adapted(base, Command(shlex::split(line).unwrap_or_default())),
    }
}

/// A script of `qemu-io`, which finds out the format by the content.
fn script(options: Vec<String>, operations: Vec<String>) -> Command {
    let mut words = vec!["qemu-io".to_owned()];
    words.extend(options);
    for operation in operations {
        words.extend(["-c".to_owned(), operation]);
    }
    words.push("$test_img".to_owned());
    Command(words)
}

/// A guest that writes where programs look for a signature: all of one, or what completes one
/// that is almost there.
fn guest(rng: &mut Rng) -> Command {
    let magics = magics();
    let Some((start, magic)) = rng.pick(&magics).copied() else {
        return script(Vec::new(), vec![read(rng)]);
    };
    let mut operations: Vec<String> = (start..)
        .zip(magic)
        .map(|(at, byte)| byte_at(at, *byte, rng))
        .collect();
    if rng.chance(40) {
        rng.shuffle(&mut operations);
        operations.truncate(rng.between(1, 3) as usize);
    }
    if rng.chance(40) {
        let at = rng.index(operations.len() + 1);
        operations.insert(at, around(rng));
    }
    operations.truncate(48);
    let options = match rng.below(6) {
        0 => vec!["-d".to_owned(), "unmap".to_owned()],
        1 => vec!["-n".to_owned()],
        _ => Vec::new(),
    };
    script(options, operations)
}

/// A write of one byte.
fn byte_at(at: u64, byte: u8, rng: &mut Rng) -> String {
    match (byte, rng.below(10)) {
        (0, 0..=3) => format!("write -z {at} 1"),
        (0, 4..=5) => format!("write -z -u {at} 1"),
        (_, 6) => format!("aio_write -P {byte:#x} {at} 1"),
        (_, 7) => format!("writev -P {byte:#x} {at} 1"),
        (_, 8) => format!("write -f -P {byte:#x} {at} 1"),
        _ => format!("write -P {byte:#x} {at} 1"),
    }
}

/// What else a guest does to the first sectors.
fn around(rng: &mut Rng) -> String {
    let rows = [
        (4, "discard 0 512"),
        (3, "discard 0 64k"),
        (3, "write -z 0 512"),
        (3, "write -z -u 0 4k"),
        (2, "write -z 3 5"),
        (2, "flush"),
        (2, "reopen"),
        (1, "truncate 64k"),
        (2, "write -P 0x20 512 512"),
        (2, "read 0 4k"),
    ];
    weighted(&rows, rng).to_owned()
}

/// A read, of a pattern or of anything.
fn read(rng: &mut Rng) -> String {
    let at = rng.below(16) * 512;
    match rng.below(3) {
        0 => format!("read -P {} {at} 512", rng.below(256)),
        1 => format!("read -P 0 {at} 4k"),
        _ => format!("read {at} 4k"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image_mutations::base::{Base, Formats};

    #[test]
    fn formats_are_named_and_probed_and_signatures_written() {
        let Base::Other(base) = Formats::named("raw").unwrap().plain() else {
            panic!("raw is not qcow2");
        };
        let mut rng = Rng::from_text("raw");
        let commands: Vec<Command> = (0..500).map(|_| one(&base, &mut rng)).collect();
        let any = |wanted: &dyn Fn(&Command) -> bool| commands.iter().any(wanted);
        let words = |command: &Command, words: &[&str]| command.0 == *words;
        assert!(any(&|it| words(
            it,
            &["qemu-img", "info", "-f", "raw", "$test_img"]
        )));
        assert!(any(&|it| words(it, &["qemu-img", "info", "$test_img"])));
        // The signature of qcow2, byte by byte.
        let wanted = ["0x51 0 1", "0x46 1 1", "0x49 2 1", "0xfb 3 1"];
        assert!(any(&|it| {
            let has = |wanted: &&str| it.0.iter().any(|word| word.ends_with(*wanted));
            !it.0.iter().any(|word| word == "-f") && wanted.iter().all(has)
        }));
        let as_qcow2 = |it: &Command| it.0.windows(2).any(|pair| pair == ["-f", "qcow2"]);
        assert!(!any(&as_qcow2));
    }
}
