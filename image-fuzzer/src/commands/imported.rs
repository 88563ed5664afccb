//! Commands drawn for images that were made elsewhere. Nothing is known of them but what their
//! bytes show: the format, or none, and the size of the disk.

use image_formats::Format;

use super::Command;
use super::other::{driver, in_format, range};
use super::words::weighted;
use image_mutations::base::ImportedBase;
use image_mutations::rng::Rng;

/// Formats as which bytes are opened that no format recognises: QEMU may know them.
const GUESSES: [&str; 9] = [
    "raw",
    "raw",
    "qcow2",
    "vmdk",
    "vpc",
    "vdi",
    "parallels",
    "dmg",
    "luks",
];

/// Commands that look at all of an image, and one that writes.
pub(super) fn survey(base: &ImportedBase, rng: &mut Rng) -> Vec<Command> {
    let driver = driver(base.format());
    let mut lines = vec!["qemu-img info --output=json $test_img"];
    if driver.checks {
        lines.push("qemu-img check -f qcow2 $test_img");
    }
    lines.push("qemu-img map -f qcow2 --output=json $test_img");
    lines.push("qemu-img convert -f qcow2 -O raw $test_img out.img");
    let lines = lines.into_iter();
    let mut commands: Vec<Command> = lines.map(|line| command(base, line, rng)).collect();
    if driver.writes {
        commands.push(script(base, false, rng));
    }
    commands
}

/// One to four commands.
pub(super) fn sequence(base: &ImportedBase, rng: &mut Rng) -> Vec<Command> {
    let count = match rng.below(10) {
        0..=3 => 1,
        4..=6 => 2,
        7..=8 => 3,
        _ => 4,
    };
    (0..count).map(|_| one(base, rng)).collect()
}

/// One command.
pub(super) fn one(base: &ImportedBase, rng: &mut Rng) -> Command {
    let driver = driver(base.format());
    let has = |has: bool, weight: u64| if has { weight } else { 0 };
    let rows = [
        (6, "qemu-img info --output=json $test_img"),
        (4, "qemu-img info --backing-chain -f qcow2 $test_img"),
        (has(driver.checks, 10), "qemu-img check -f qcow2 $test_img"),
        (
            has(driver.checks, 10),
            "qemu-img check -f qcow2 -r all $test_img",
        ),
        (6, "qemu-img map -f qcow2 --output=json $test_img"),
        (10, "qemu-img convert -f qcow2 -O raw $test_img out.img"),
        (4, "qemu-img convert -O raw $test_img out.img"),
        (4, "qemu-img convert -f qcow2 -O qcow2 -c $test_img out.img"),
        (4, "qemu-img compare -f qcow2 -F qcow2 $test_img $test_img"),
        (2, "qemu-img measure -O qcow2 -f qcow2 $test_img"),
        (2, "qemu-img snapshot -l $test_img"),
        (
            has(driver.writes, 2),
            "qemu-img bench -w -f qcow2 -c 8 $test_img",
        ),
        (
            has(driver.resizes, 4),
            "qemu-img resize -f qcow2 $test_img +1M",
        ),
        (
            has(driver.has_parents, 2),
            "qemu-img rebase -u -f qcow2 -b '' $test_img",
        ),
        (has(driver.writes, 25), WRITES),
        (10, READS),
    ];
    match weighted(&rows, rng) {
        READS => script(base, true, rng),
        WRITES => script(base, false, rng),
        line => command(base, line, rng),
    }
}

/// Stand for scripts of `qemu-io`.
const READS: &str = "reads";
const WRITES: &str = "writes";

/// The command that is written as for a qcow2 image.
fn command(base: &ImportedBase, line: &str, rng: &mut Rng) -> Command {
    let command = Command(shlex::split(line).unwrap_or_default());
    if base.format() != Format::Raw {
        return in_format(base.format(), command);
    }
    let guess = rng.pick(&GUESSES).copied().unwrap_or("raw");
    let mut words = command.0;
    for at in 1..words.len() {
        if matches!(words[at - 1].as_str(), "-f" | "-F") {
            guess.clone_into(&mut words[at]);
        }
    }
    Command(words)
}

/// A script of `qemu-io`: of reads, and unless `reads` is set, of writes.
fn script(base: &ImportedBase, reads: bool, rng: &mut Rng) -> Command {
    let mut line = String::from("qemu-io");
    if reads {
        line.push_str(" -r");
    } else if rng.chance(15) {
        line.push_str(" -d unmap");
    }
    if rng.chance(85) {
        line.push_str(" -f qcow2");
    }
    for index in 0..rng.between(1, 5) {
        let (at, len) = range(base.virtual_size(), rng);
        let writes = if reads { 0 } else { 1 };
        if !reads && index == 0 {
            line.push_str(&format!(" -c 'write -P 7 {at} {len}'"));
            continue;
        }
        let operation = match weighted(
            &[
                (12, "read"),
                (2, "read -P 0"),
                (3, "map"),
                (20 * writes, "write -P 7"),
                (6 * writes, "write -z"),
                (5 * writes, "discard"),
                (2 * writes, "write -c -P 5"),
                (2 * writes, "flush"),
            ],
            rng,
        ) {
            verb @ ("map" | "flush") => verb.to_owned(),
            verb => format!("{verb} {at} {len}"),
        };
        line.push_str(&format!(" -c '{operation}'"));
    }
    line.push_str(" $test_img");
    command(base, &line, rng)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use image_formats::Store;
    use image_formats::qcow2::{Spec, build};

    use super::*;

    #[test]
    fn commands_name_the_image_and_its_format() {
        let image = build(&Spec::default()).unwrap().image;
        let qcow2 = ImportedBase::new(image.bytes()).unwrap();
        let bytes = Store::over(Arc::new(vec![7; 3000]));
        let other = ImportedBase::new(&bytes).unwrap();
        let mut rng = Rng::from_text("imported");
        for (base, is_known) in [(&qcow2, true), (&other, false)] {
            let mut formats = std::collections::BTreeSet::new();
            for _ in 0..100 {
                let sequences = [survey(base, &mut rng), sequence(base, &mut rng)];
                for command in sequences.iter().flatten() {
                    assert!(command.0.contains(&"$test_img".to_owned()), "{command:?}");
                    let named = command.0.windows(2).filter(|pair| pair[0] == "-f");
                    formats.extend(named.map(|pair| pair[1].clone()));
                }
                assert!(sequences[0].iter().any(Command::writes));
            }
            assert_eq!(formats == ["qcow2".to_owned()].into(), is_known);
        }
    }
}
