//! LUKS, of the kinds that QEMU reads: version 1 with its header before the payload.

use image_formats::AnySpec;
use image_formats::luks::{Kdf, Slot, Spec};

use super::common::{alone, blocks};
use crate::base::{OtherBase, PASSPHRASE};
use crate::rng::Rng;

/// Modes and bytes in the key, of AES.
const MODES: [(&str, u32, u64); 5] = [
    ("cbc-plain64", 16, 50),
    ("xts-plain64", 32, 25),
    ("xts-plain64", 64, 10),
    ("cbc-essiv:sha256", 16, 10),
    ("cbc-plain", 32, 5),
];

/// A random valid image.
pub(super) fn draw(rng: &mut Rng) -> OtherBase {
    let mode = rng
        .weighted(&MODES.map(|(_, _, weight)| weight))
        .unwrap_or(0);
    let (mode, key_bytes, _) = MODES[mode];
    let count = rng.between(1, 40);
    let mut slots = vec![Slot {
        index: if rng.chance(75) {
            0
        } else {
            rng.below(8) as u8
        },
        passphrase: PASSPHRASE.to_owned(),
        iterations: 1,
        kdf: Kdf::Pbkdf2,
    }];
    if rng.chance(25) {
        let index = (slots[0].index + 1) % 8;
        slots.push(Slot {
            index,
            passphrase: "another".to_owned(),
            ..slots[0].clone()
        });
    }
    alone(AnySpec::Luks(Spec {
        virtual_size: count * 4096,
        mode: mode.to_owned(),
        key_bytes,
        digest_iterations: rng.between(1, 3) as u32,
        slots,
        blocks: blocks(count, 6, [80, 20, 0], rng),
        seed: rng.below(1 << 16),
        ..Spec::default()
    }))
}
