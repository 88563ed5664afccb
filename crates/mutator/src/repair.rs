//! Correction of what follows from other bytes, in what any mutation left of an image.

use std::sync::Arc;

use image_formats::{AnyImage, Derivation, Format, ReadAt as _};

use crate::decoded::{bytes_of, probe};

/// How often an image is corrected until nothing changes; one that goes on changing is left.
const MAX_ROUNDS: usize = 4;

/// What is corrected.
const WANTED: &[Derivation] = &[Derivation::Copy, Derivation::Checksum];

/// The input as a reader should see it, where that is not how it is: copies of structures and
/// checksums are corrected, but one input in eight is left with what is wrong, for the code
/// that checks it. Which of these is decided by the bytes, so that the same input gives the
/// same; what this gives stays as it is if it is given again, and has the length of the input.
#[must_use]
pub fn repaired(data: &[u8]) -> Option<Vec<u8>> {
    let format = probe(data)?;
    // Nothing in qcow2 is a checksum or a copy.
    if format == Format::Qcow2 || hash(data).is_multiple_of(8) {
        return None;
    }
    stable(data, format)
}

/// The input with copies and checksums corrected, where that changes it and ends.
fn stable(data: &[u8], format: Format) -> Option<Vec<u8>> {
    let mut now = Arc::new(data.to_vec());
    for round in 0..MAX_ROUNDS {
        let mut image = AnyImage::open(now.clone(), format).ok()?;
        image.recompute(WANTED);
        if image.bytes().len() != data.len() as u64 {
            return None;
        }
        if image.bytes().written_bytes() == 0 {
            return (round > 0).then(|| now.to_vec());
        }
        let next = bytes_of(&image, data.len());
        if next == *now {
            return (round > 0).then_some(next);
        }
        // Otherwise the same image would be of another format when it is given again.
        if probe(&next) != Some(format) {
            return None;
        }
        now = Arc::new(next);
    }
    None
}

/// A hash of bytes, eight at a time: it is made for every input that is run.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let add = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let mut words = bytes.chunks_exact(8);
    let mut hash = words.by_ref().fold(bytes.len() as u64, |hash, word| {
        // Always 8 bytes.
        add(
            hash,
            u64::from_le_bytes(word.try_into().unwrap_or_default()),
        )
    });
    for byte in words.remainder() {
        hash = add(hash, (*byte).into());
    }
    hash ^ hash >> 29
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fresh::seeds;
    use crate::havoc;
    use image_mutations::rng::Rng;

    #[test]
    fn valid_images_stay_as_they_are() {
        for format in Format::ALL {
            for image in seeds(format, 2, 8 << 20, "valid") {
                assert_eq!(repaired(&image), None, "{format}");
            }
        }
    }

    #[test]
    fn what_is_corrected_stays_and_most_is() {
        let mut rng = Rng::from_text("repair");
        let images = seeds(Format::Vpc, 8, 1 << 20, "repair");
        let (mut right, mut wrong) = (0, 0);
        for image in images.iter().cycle().take(200) {
            let mut changed = image.clone();
            // The version of the footer, which its checksum covers.
            let footer = changed.len() - 512;
            changed[footer + 15] ^= 1 + rng.below(255) as u8;
            let changed = havoc_outside(changed, footer, &mut rng);
            let fixed = repaired(&changed).unwrap_or_else(|| changed.clone());
            assert_eq!(fixed.len(), changed.len());
            assert_eq!(repaired(&fixed), None);
            let sum: u32 = (0..512)
                .filter(|at| !(64..68).contains(at))
                .map(|at| u32::from(fixed[footer + at]))
                .sum();
            let stored = fixed[footer + 64..footer + 68].try_into().unwrap();
            match u32::from_be_bytes(stored) == !sum {
                true => right += 1,
                false => wrong += 1,
            }
        }
        assert!(right > 4 * wrong && wrong > 0, "{right} {wrong}");
    }

    /// Random changes before `end`, so that each image has another hash.
    fn havoc_outside(mut bytes: Vec<u8>, end: usize, rng: &mut Rng) -> Vec<u8> {
        let changed = havoc::mutate(bytes[end / 2..end].to_vec(), end - end / 2, rng);
        bytes[end / 2..][..changed.len()].copy_from_slice(&changed);
        bytes
    }
}
