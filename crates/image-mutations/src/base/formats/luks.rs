//! LUKS, of the kinds that QEMU reads: version 1 with its header before the payload.

use image_formats::AnySpec;
use image_formats::luks::{Hash, Kdf, Slot, Spec};

use super::common::{alone, blocks, placement};
use crate::base::{OtherBase, PASSPHRASE};
use crate::rng::Rng;

/// Ciphers, modes and bytes in the key. Builds of QEMU without a library for the others know AES
/// alone, and none opens volumes whose key material is not of whole sectors: keys of 192 bits.
const CIPHERS: [(&str, &str, u32, u64); 11] = [
    ("aes", "cbc-plain64", 16, 44),
    ("aes", "xts-plain64", 32, 16),
    ("aes", "xts-plain64", 64, 8),
    ("aes", "cbc-essiv:sha256", 16, 10),
    ("aes", "cbc-essiv:sha256", 32, 4),
    ("aes", "cbc-plain", 32, 4),
    ("aes", "ecb-plain", 16, 3),
    ("serpent", "cbc-essiv:sha256", 16, 2),
    ("twofish", "cbc-essiv:sha256", 16, 2),
    ("serpent", "xts-plain", 32, 2),
    ("twofish", "ctr-plain64", 16, 1),
];

/// Hashes, each with its weight.
const HASHES: [(Hash, u64); 5] = [
    (Hash::Sha256, 60),
    (Hash::Sha1, 15),
    (Hash::Sha512, 10),
    (Hash::Sha384, 8),
    (Hash::Sha224, 7),
];

/// A random valid image.
pub(super) fn draw(rng: &mut Rng) -> OtherBase {
    let cipher = rng.weighted(&CIPHERS.map(|(.., weight)| weight));
    let (cipher, mode, key_bytes, _) = CIPHERS[cipher.unwrap_or(0)];
    let hash = rng.weighted(&HASHES.map(|(_, weight)| weight));
    let (hash, _) = HASHES[hash.unwrap_or(0)];
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
    if rng.chance(45) {
        let index = (slots[0].index + rng.between(1, 7) as u8) % 8;
        slots.push(Slot {
            index,
            passphrase: "another".to_owned(),
            ..slots[0].clone()
        });
    }
    alone(AnySpec::Luks(Spec {
        virtual_size: count * 4096,
        cipher: cipher.to_owned(),
        hash,
        mode: mode.to_owned(),
        key_bytes,
        digest_iterations: rng.between(1, 3) as u32,
        slots,
        blocks: blocks(count, 6, [80, 20, 0], rng),
        seed: rng.below(1 << 16),
        placement: placement(false, rng),
        payload_alignment: [4096, 512, 1 << 20][rng.weighted(&[60, 20, 20]).unwrap_or(0)],
        ..Spec::default()
    }))
}
