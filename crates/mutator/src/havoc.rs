//! Changes of bytes, for what is not recognised and for what structure does not reach.

use image_mutations::rng::Rng;

/// Numbers at the limits of 1 to 8 bytes.
const LIMITS: [u64; 16] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    i64::MAX as u64,
    u64::MAX,
];

/// Up to four changes of `bytes`, which stay at most `max_len` long; those of nothing are some
/// bytes.
pub(crate) fn mutate(mut bytes: Vec<u8>, max_len: usize, rng: &mut Rng) -> Vec<u8> {
    bytes.truncate(max_len);
    if bytes.is_empty() {
        let len = rng.between(1, 64).min(max_len as u64);
        return (0..len).map(|_| rng.bits() as u8).collect();
    }
    for _ in 0..rng.between(1, 4) {
        one(&mut bytes, max_len, rng);
    }
    bytes
}

/// One change of bytes that are not empty.
fn one(bytes: &mut Vec<u8>, max_len: usize, rng: &mut Rng) {
    let len = bytes.len();
    let at = place(len, rng);
    match rng.below(9) {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = rng.bits() as u8,
        2 | 3 => set_number(bytes, at, *rng.pick(&LIMITS).unwrap_or(&0), rng),
        4 => {
            let (width, big) = (width(rng), rng.chance(50));
            let step = rng.between(1, 32);
            let step = if rng.chance(50) {
                step
            } else {
                step.wrapping_neg()
            };
            let number = number(bytes, at, width, big).wrapping_add(step);
            write(bytes, at, width, number, big);
        }
        // A piece of the input over another one.
        5 => {
            let from = place(len, rng);
            let count = piece(rng).min(len - from.max(at));
            bytes.copy_within(from..from + count, at);
        }
        6 => {
            let count = piece(rng).min(len - at);
            let bytes_of_runs = [0, 0xff, rng.bits() as u8];
            let byte = *rng.pick(&bytes_of_runs).unwrap_or(&0);
            bytes[at..at + count].fill(byte);
        }
        7 if len > 1 => {
            let count = piece(rng).min(len - at).min(len - 1);
            bytes.drain(at..at + count);
        }
        _ => {
            let from = place(len, rng);
            let count = piece(rng).min(len - from).min(max_len - len);
            let copied = bytes[from..from + count].to_vec();
            bytes.splice(at..at, copied);
        }
    }
}

/// An offset below `len`, more often in the first 512 bytes, where headers are.
fn place(len: usize, rng: &mut Rng) -> usize {
    let len = if rng.chance(50) { len.min(512) } else { len };
    rng.index(len)
}

/// How long a piece is, in bytes: small ones more often.
fn piece(rng: &mut Rng) -> usize {
    1 << rng.between(0, 9).min(rng.between(0, 12))
}

/// Bytes of a number.
fn width(rng: &mut Rng) -> usize {
    1 << rng.below(4)
}

fn set_number(bytes: &mut [u8], at: usize, number: u64, rng: &mut Rng) {
    let (width, big) = (width(rng), rng.chance(50));
    write(bytes, at, width, number, big);
}

/// The number of `width` bytes at `at`, as far as the bytes go.
fn number(bytes: &[u8], at: usize, width: usize, big: bool) -> u64 {
    let add = |number, byte: &u8| number << 8 | u64::from(*byte);
    let bytes = &bytes[at..bytes.len().min(at + width)];
    match big {
        true => bytes.iter().fold(0, add),
        false => bytes.iter().rev().fold(0, add),
    }
}

/// Writes a number of `width` bytes at `at`, as far as the bytes go.
fn write(bytes: &mut [u8], at: usize, width: usize, number: u64, big: bool) {
    let end = bytes.len().min(at + width);
    let width = end - at;
    let (le, be) = (number.to_le_bytes(), number.to_be_bytes());
    match big {
        true => bytes[at..end].copy_from_slice(&be[8 - width..]),
        false => bytes[at..end].copy_from_slice(&le[..width]),
    }
}

/// The first part of one input and the last part of another, at most `max_len` bytes.
pub(crate) fn splice(one: &[u8], other: &[u8], max_len: usize, rng: &mut Rng) -> Vec<u8> {
    let len = one.len().min(other.len());
    let at = place(len.max(1), rng).min(len);
    let mut bytes = one[..at].to_vec();
    bytes.extend_from_slice(&other[at..]);
    bytes.truncate(max_len);
    bytes
}

#[cfg(test)]
mod tests {
    use image_mutations::rng::Rng;
    use proptest::prelude::{any, prop, prop_assert, proptest};

    use super::*;

    proptest! {
        #[test]
        fn sizes_are_kept(
            bytes in prop::collection::vec(any::<u8>(), 0..700),
            other in prop::collection::vec(any::<u8>(), 0..700),
            max_len in 0..900_usize,
            seed in any::<u64>(),
        ) {
            let mut rng = Rng::from_text(&seed.to_string());
            let changed = mutate(bytes.clone(), max_len, &mut rng);
            prop_assert!(changed.len() <= max_len);
            prop_assert!(max_len == 0 || !changed.is_empty());
            prop_assert!(splice(&bytes, &other, max_len, &mut rng).len() <= max_len);
        }
    }

    #[test]
    fn numbers_are_written_in_both_orders() {
        let mut bytes = [0; 4];
        write(&mut bytes, 0, 2, 0x1234, true);
        assert_eq!(bytes, [0x12, 0x34, 0, 0]);
        write(&mut bytes, 3, 8, 0x56, false);
        assert_eq!(bytes, [0x12, 0x34, 0, 0x56]);
        assert_eq!(number(&bytes, 0, 2, true), 0x1234);
        assert_eq!(number(&bytes, 0, 2, false), 0x3412);
    }
}
