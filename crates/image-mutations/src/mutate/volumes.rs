//! Headers of LUKS volumes that still open: names that readers know, another place of the
//! payload, and key slots that the passphrase is not for.

use image_formats::Field;

use super::edits::set;
use crate::edit::{Edit, Hex, Number};
use crate::map::Map;
use crate::rng::Rng;

/// A key slot in use.
const ENABLED: u64 = 0x00ac_71f3;

/// Bytes in a sector, the unit of offsets.
const SECTOR: u64 = 512;

/// As long as a name can be, without the zero that ends it.
const ENDLESS: &str = "aes-cbc-plain64-sha256-no-end-xx";

/// Ciphers, modes with their initial vectors, and hashes, some of which do not fit each other.
const CIPHERS: [&str; 7] = ["aes", "serpent", "twofish", "cast5", "sm4", "none", ENDLESS];
const MODES: [&str; 19] = [
    "cbc-essiv:sha256",
    "cbc-essiv:md5",
    "cbc-essiv:sha1",
    "cbc-essiv:sha512",
    "cbc-essiv:crc",
    "xts-essiv:sha256",
    "xts-essiv:md5",
    "cbc-essiv",
    "cbc-plain",
    "cbc-plain64",
    "cbc-plain64:sha256",
    "xts-plain64",
    "ecb-plain",
    "ctr-plain64",
    "cfb-plain",
    "cbc-null",
    "cbc",
    "",
    ENDLESS,
];
const HASHES: [&str; 10] = [
    "sha1",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "ripemd160",
    "md5",
    "sm3",
    "crc32",
    ENDLESS,
];

/// One such change; `None` in volumes of another version.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let payload = map.get("header.payload_offset")?;
    match rng.weighted(&[22, 3, 22, 26, 10, 14])? {
        0 => names(rng),
        1 => {
            let text = "x".repeat(rng.between(0, 40) as usize);
            Some(vec![named("header.uuid", &text)])
        }
        2 => Some(vec![set(payload, payload_offset(map, payload, rng)?)?]),
        3 => unused_slot(map, rng),
        4 => other_slot(map, rng),
        _ => behind(map, payload, rng),
    }
}

fn named(field: &str, text: &str) -> Edit {
    Edit::Text {
        path: field.to_owned(),
        text: text.to_owned(),
    }
}

/// Another cipher, another mode, or both, or another hash. What only looks at the header takes
/// any that it knows.
fn names(rng: &mut Rng) -> Option<Vec<Edit>> {
    let cipher = named("header.cipher_name", rng.pick(&CIPHERS)?);
    let mode = named("header.cipher_mode", rng.pick(&MODES)?);
    Some(match rng.below(6) {
        0 => vec![cipher],
        1 => vec![mode],
        2 => vec![named("header.hash_spec", rng.pick(&HASHES)?)],
        _ => vec![cipher, mode],
    })
}

/// Another first sector of the payload: later, at the end of the file, or past it.
fn payload_offset(map: &Map, payload: &Field, rng: &mut Rng) -> Option<u64> {
    let present = payload.value.as_uint()?;
    let end = map.file_len / SECTOR;
    Some(match rng.below(8) {
        0 => end,
        1 => end.saturating_sub(1),
        2 => end + 1,
        3 => end + rng.below(1 << 20),
        _ => present.wrapping_add(rng.between(1, 16)),
    })
}

/// A key slot that is not in use is, or has other numbers.
fn unused_slot(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let slots: Vec<String> = (0..8)
        .map(|index| format!("key_slot[{index}]."))
        .filter(|slot| map.number(&format!("{slot}active")) != Some(ENABLED))
        .collect();
    let slot = rng.pick(&slots)?;
    let active = map.get(&format!("{slot}active"))?;
    let iterations = map.get(&format!("{slot}iterations"))?;
    let count = match rng.below(8) {
        0 => 0xffff_ffff,
        _ => rng.between(1, 40),
    };
    let edits = match rng.below(4) {
        0 => [set(iterations, count), None],
        // So many iterations would only be waited for.
        _ => [set(iterations, count % 64), set(active, ENABLED)],
    };
    let edits: Vec<Edit> = edits.into_iter().flatten().collect();
    (!edits.is_empty()).then_some(edits)
}

/// The key material of the last slot in use, where there are several: mostly that of another
/// passphrase.
fn other_slot(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let materials = map.filter(|field| field.path.ends_with("].material"));
    let last = materials.last().filter(|_| materials.len() > 1)?;
    let within = rng.below((last.width_bits / 8).max(1));
    Some(vec![random_byte(last.offset.wrapping_add(within), rng)])
}

/// A byte of the payload, or the file ends within it.
fn behind(map: &Map, payload: &Field, rng: &mut Rng) -> Option<Vec<Edit>> {
    let start = payload.value.as_uint()?.checked_mul(SECTOR)?;
    let len = map.file_len.checked_sub(start).filter(|len| *len > 0)?;
    let at = start + rng.below(len);
    Some(vec![match rng.chance(40) {
        true => random_byte(at, rng),
        false => Edit::Length { bytes: Number(at) },
    }])
}

fn random_byte(at: u64, rng: &mut Rng) -> Edit {
    Edit::Bytes {
        at: Number(at),
        bytes: Hex(vec![rng.bits() as u8]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Formats;
    use crate::case::{Maker, disk_of};
    use image_formats::{DiskError, Format};

    /// Most volumes with one such change are still unlocked; those with other names are not
    /// asked.
    #[test]
    fn most_volumes_still_open() {
        let formats = Formats::named("luks").unwrap();
        let mut rng = Rng::from_text("volumes");
        let mut maker = Maker::default();
        let mut locked = 0;
        for round in 0..24 {
            let base = formats.draw(&mut rng);
            let map = maker.prepared(&base).unwrap().map.clone();
            let Some(edits) = draw(&map, &mut rng) else {
                continue;
            };
            if edits.iter().any(|edit| matches!(edit, Edit::Text { .. })) {
                continue;
            }
            let mutations = super::super::label("volume", edits);
            let files = maker.files(&base, &mutations).unwrap();
            let opened = disk_of(&files, Format::Luks);
            if matches!(opened, Err(DiskError::Locked)) {
                locked += 1;
                assert!(locked < 4, "{round}: {mutations:?}");
            }
        }
    }
}
