//! Commands drawn for images of other formats than qcow2: those that QEMU's driver of the
//! format knows.

use image_formats::Format;

use super::Command;
use super::image_opts::named_by;
use super::words::weighted;
use image_mutations::base::OtherBase;
use image_mutations::rng::Rng;

/// What QEMU's driver of a format can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Driver {
    /// It writes.
    writes: bool,
    /// `qemu-img check` knows the format.
    checks: bool,
    /// It changes the size.
    resizes: bool,
    /// Images of it can have a backing file that `commit` and `rebase` know.
    has_parents: bool,
}

/// What the driver of `format` can do.
fn driver(format: Format) -> Driver {
    let read_only = Driver {
        writes: false,
        checks: false,
        resizes: false,
        has_parents: false,
    };
    let writer = Driver {
        writes: true,
        ..read_only
    };
    match format {
        Format::Bochs | Format::Cloop | Format::Dmg => read_only,
        Format::Qcow => Driver {
            has_parents: true,
            ..writer
        },
        Format::Vpc => writer,
        Format::Vhdx | Format::Vdi => Driver {
            checks: true,
            ..writer
        },
        Format::Luks | Format::Raw => Driver {
            resizes: true,
            ..writer
        },
        Format::Parallels => Driver {
            checks: true,
            resizes: true,
            ..writer
        },
        Format::Vmdk => Driver {
            checks: true,
            has_parents: true,
            ..writer
        },
        Format::Qed | Format::Qcow2 => Driver {
            checks: true,
            resizes: true,
            has_parents: true,
            ..writer
        },
    }
}

/// The object that holds the passphrase.
const SECRET: &str = "secret,id=key,data=passphrase";

/// One to four commands.
pub(super) fn sequence(base: &OtherBase, rng: &mut Rng) -> Vec<Command> {
    let count = match rng.below(10) {
        0..=3 => 1,
        4..=6 => 2,
        7..=8 => 3,
        _ => 4,
    };
    (0..count).map(|_| one(base, rng)).collect()
}

/// One command.
pub(super) fn one(base: &OtherBase, rng: &mut Rng) -> Command {
    let driver = driver(base.spec.format());
    let has = |has: bool, weight: u64| if has { weight } else { 1 };
    let rows = [
        (8, "qemu-img info --backing-chain -f qcow2 $test_img"),
        (5, "qemu-img info --output=json $test_img"),
        (has(driver.checks, 12), "qemu-img check -f qcow2 $test_img"),
        (
            has(driver.checks, 10),
            "qemu-img check -f qcow2 -r all $test_img",
        ),
        (
            has(driver.checks, 3),
            "qemu-img check -f qcow2 -r leaks $test_img",
        ),
        (6, "qemu-img map -f qcow2 --output=json $test_img"),
        (2, "qemu-img measure -O qcow2 -f qcow2 $test_img"),
        (10, "qemu-img convert -f qcow2 -O raw $test_img out.img"),
        (4, "qemu-img convert -f qcow2 -O qcow2 -c $test_img out.img"),
        (4, "qemu-img convert -f qcow2 -O SAME $test_img out.img"),
        (3, "qemu-img convert -O raw $test_img out.img"),
        (3, "qemu-img compare -f qcow2 -F qcow2 $test_img $test_img"),
        (
            3,
            "qemu-img dd -f qcow2 -O raw bs=4k skip=1 if=$test_img of=out.img",
        ),
        (
            has(driver.resizes, 5),
            "qemu-img resize -f qcow2 $test_img +1M",
        ),
        (
            has(driver.resizes, 3),
            "qemu-img resize -f qcow2 --shrink $test_img -64K",
        ),
        (2, "qemu-img snapshot -l $test_img"),
        (2, "qemu-img snapshot -a x $test_img"),
        (1, "qemu-img snapshot -c x $test_img"),
        (
            has(driver.has_parents, 4),
            "qemu-img commit -f qcow2 $test_img",
        ),
        (
            has(driver.has_parents, 3),
            "qemu-img rebase -f qcow2 -b '' $test_img",
        ),
        (
            has(driver.has_parents, 2),
            "qemu-img rebase -u -f qcow2 -b none.img -F raw $test_img",
        ),
        (2, "qemu-img bench -f qcow2 -c 8 -d 2 $test_img"),
        (
            has(driver.writes, 2),
            "qemu-img bench -w -f qcow2 -c 8 -d 2 $test_img",
        ),
        (1, "qemu-img amend -f qcow2 -o size=2M $test_img"),
        (has(driver.writes, 30), "qemu-io"),
        (if driver.writes { 6 } else { 20 }, "qemu-io -r"),
    ];
    let line = weighted(&rows, rng).replace("SAME", base.spec.format().name());
    let command = match line.strip_prefix("qemu-io") {
        Some(options) => script(base, !options.is_empty(), rng),
        None => Command(shlex::split(&line).unwrap_or_default()),
    };
    adapted(base, command)
}

/// A `qemu-io` script of reads, and unless `reads` is set, of writes.
fn script(base: &OtherBase, reads: bool, rng: &mut Rng) -> Command {
    let mut words = vec!["qemu-io".to_owned()];
    match (reads, rng.below(10)) {
        (true, _) => words.push("-r".into()),
        (false, 0) => words.extend(["-d", "unmap"].map(String::from)),
        (false, 1) => words.push("-s".into()),
        (false, 2) => words.push("-n".into()),
        (false, _) => {}
    }
    if rng.chance(85) {
        words.extend(["-f", "qcow2"].map(String::from));
    }
    for _ in 0..rng.between(1, 6) {
        words.extend(["-c".into(), operation(base, reads, rng)]);
    }
    words.push("$test_img".into());
    Command(words)
}

/// An operation of a script.
fn operation(base: &OtherBase, reads: bool, rng: &mut Rng) -> String {
    let (at, len) = range(base.spec.virtual_size(), rng);
    let writes = if reads { 0 } else { 1 };
    let rows = [
        (20, "read"),
        (4, "read -P 0"),
        (3, "map"),
        (3, "alloc"),
        (30 * writes, "write -P 7"),
        (8 * writes, "write -z"),
        (4 * writes, "write -z -u"),
        (2 * writes, "write -f -P 9"),
        (3 * writes, "write -c -P 5"),
        (8 * writes, "discard"),
        (3 * writes, "flush"),
        (3 * writes, "aio_write -P 3"),
        (3 * writes, "truncate"),
        (2 * writes, "reopen"),
    ];
    match weighted(&rows, rng) {
        verb @ ("map" | "flush" | "reopen") => verb.to_owned(),
        "alloc" => format!("alloc {at} {len}"),
        "truncate" => format!("truncate {}", (at + len).max(512)),
        verb => format!("{verb} {at} {len}"),
    }
}

/// A range of sectors of a disk: often at its start or end, or around a multiple of 64 KiB,
/// where blocks of many sizes begin.
fn range(size: u64, rng: &mut Rng) -> (u64, u64) {
    let sectors = (size / 512).max(1);
    let at = match rng.below(5) {
        0 => 0,
        1 => sectors - 1 - rng.below(sectors.min(200)),
        2 => rng.below(sectors) / 128 * 128,
        _ => rng.below(sectors),
    };
    let room = sectors - at;
    let len = match rng.below(4) {
        0 => 1,
        1 => 8,
        2 => rng.between(1, 300),
        _ => rng.between(1, room.min(8192)),
    };
    (at * 512, len.min(room) * 512)
}

/// A `command` for a qcow2 image in the format of `base`, unlocked where it is encrypted.
pub(super) fn adapted(base: &OtherBase, command: Command) -> Command {
    let format = base.spec.format();
    if format == Format::Luks && command.needs_key() {
        return named_by(command, &[SECRET], "driver=luks,key-secret=key,");
    }
    let mut words = command.0;
    for at in 1..words.len() {
        let names_format = matches!(words[at - 1].as_str(), "-f" | "-F");
        if names_format && words[at] == "qcow2" {
            format.name().clone_into(&mut words[at]);
        }
    }
    Command(words)
}
