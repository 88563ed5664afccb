//! Commands that are about a feature of an image, for images that have it: drawn from all
//! commands, they would mostly meet images without.

use image_formats::qcow2::Compression;

use super::qemu_io::{Operation, script_of};
use super::{Command, amend, img};
use image_mutations::base::Qcow2Base;
use image_mutations::rng::Rng;

/// A feature that commands are about.
struct Feature {
    has: fn(&Qcow2Base) -> bool,
    commands: &'static [fn(&Qcow2Base, &mut Rng) -> Command],
}

use Operation::{Compressed, Discard, Read, Write, Zero, ZeroSubclusters, ZeroUnmap};

/// The features, each with what is done about it.
const FEATURES: [Feature; 10] = [
    Feature {
        has: |base| base.backing.is_some(),
        commands: &[
            |_, rng| img::commit(rng),
            |_, rng| img::commit(rng),
            img::resize,
            |base, rng| script_of(&[Zero, Discard], base, rng),
            |base, rng| script_of(&[Write, Read], base, rng),
        ],
    },
    Feature {
        has: |base| base.image.compression == Compression::Zstd,
        commands: &[
            |base, rng| script_of(&[Compressed, Read], base, rng),
            |base, rng| script_of(&[Compressed, Compressed], base, rng),
            |_, _| amend::to("compat=0.10,refcount_bits=16"),
        ],
    },
    Feature {
        has: |base| base.image.version == 2,
        commands: &[
            |_, _| amend::to("compat=1.1"),
            |_, _| Command::new(["qemu-img", "info", "-f", "qcow2", "$test_img"]),
            |_, _| amend::to("compat=1.1,lazy_refcounts=on,refcount_bits=64"),
        ],
    },
    Feature {
        has: |base| base.image.lazy_refcounts,
        commands: &[
            |_, _| amend::to("lazy_refcounts=off"),
            |base, rng| script_of(&[Write, Operation::Reopen], base, rng),
        ],
    },
    Feature {
        has: |base| !base.image.bitmaps.is_empty(),
        commands: &[
            |_, rng| reopened(rng),
            img::bitmap,
            img::resize,
            img::convert,
        ],
    },
    Feature {
        has: |base| !base.image.snapshots.is_empty(),
        commands: &[
            img::snapshot,
            |_, _| amend::to("compat=0.10,refcount_bits=16"),
            |base, rng| script_of(&[Write, Compressed], base, rng),
        ],
    },
    Feature {
        has: |base| base.image.data_file.is_some(),
        commands: &[
            |base, rng| script_of(&[Zero, Discard], base, rng),
            |base, rng| script_of(&[ZeroUnmap, Write], base, rng),
            img::resize,
        ],
    },
    Feature {
        has: |base| base.image.extended_l2,
        commands: &[
            |base, rng| script_of(&[ZeroSubclusters, ZeroSubclusters], base, rng),
            |base, rng| script_of(&[Discard, Write], base, rng),
            |base, rng| script_of(&[Compressed, ZeroSubclusters], base, rng),
        ],
    },
    Feature {
        // Refcount structures that are soon full.
        has: |base| base.image.cluster_bits == 9,
        commands: &[
            |base, rng| script_of(&[Operation::Grow, Operation::Shrink], base, rng),
            |base, rng| script_of(&[Operation::Stretch, Write], base, rng),
        ],
    },
    Feature {
        has: |base| base.image.refcount_order != 4,
        commands: &[|_, _| amend::to("refcount_bits=16"), img::resize],
    },
];

/// A command for one of the features that `base` has; `None` where it has none of them.
pub(super) fn one(base: &Qcow2Base, rng: &mut Rng) -> Option<Command> {
    let features: Vec<&Feature> = FEATURES.iter().filter(|it| (it.has)(base)).collect();
    let feature = rng.pick(&features)?;
    let command = rng.pick(feature.commands)?;
    Some(command(base, rng))
}

/// Bitmaps are loaded to be read, and then to be written.
fn reopened(rng: &mut Rng) -> Command {
    let mode: &[&str] = if rng.chance(50) { &["-r"] } else { &[] };
    let head = ["qemu-io", "-f", "qcow2"];
    let tail = [
        "-c",
        "reopen -r",
        "-c",
        "reopen -w",
        "-c",
        "write 0 512",
        "$test_img",
    ];
    let words = [&head, mode, &tail[if mode.is_empty() { 0 } else { 2 }..]].concat();
    Command(words.into_iter().map(String::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_has_commands_on_the_image() {
        let mut rng = Rng::from_text("fitting");
        let mut met = [false; FEATURES.len()];
        for _ in 0..400 {
            let base = image_mutations::base::draw(&mut rng);
            let base = base.qcow2().expect("a qcow2 image");
            for (feature, met) in FEATURES.iter().zip(&mut met) {
                if !(feature.has)(base) {
                    continue;
                }
                *met = true;
                for command in feature.commands {
                    let command = command(base, &mut rng);
                    let named = command.0.iter().any(|word| word.contains("$test_img"));
                    assert!(named, "{command:?}");
                }
            }
        }
        assert_eq!(met, [true; FEATURES.len()]);
    }
}
