//! What libFuzzer's hooks call: for `fuzz_mutator!` and `fuzz_crossover!` of the crate
//! libfuzzer-sys, and in fuzz targets in Rust of other kinds.

use crate::mutator::Mutator;
use crate::options::Options;
use crate::repair::repaired;

/// Mutates the first `size` bytes of `data` in place and returns how many there are then, at
/// most `max_size` and the length of `data`. The same seed and bytes give the same.
///
/// ```
/// let mut data = vec![0; 4096];
/// let size = image_mutator::libfuzzer::mutate(&mut data, 0, 4096, 5);
/// assert!(size <= 4096);
/// ```
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    mutate_with(&Options::default(), data, size, max_size, seed)
}

/// As [`mutate`], with options.
pub fn mutate_with(
    options: &Options,
    data: &mut [u8],
    size: usize,
    max_size: usize,
    seed: u32,
) -> usize {
    let room = data.len().min(max_size);
    let mut mutator = Mutator::with_options(seed.into(), options);
    let changed = mutator.mutate(&data[..size.min(room)], room);
    put(changed, &mut data[..room])
}

/// Writes the first input with parts of the second into `out`, and returns how many bytes
/// there are. The same seed and bytes give the same.
pub fn cross_over(data: &[u8], other: &[u8], out: &mut [u8], seed: u32) -> usize {
    cross_over_with(&Options::default(), data, other, out, seed)
}

/// As [`cross_over`], with options.
pub fn cross_over_with(
    options: &Options,
    data: &[u8],
    other: &[u8],
    out: &mut [u8],
    seed: u32,
) -> usize {
    let mut mutator = Mutator::with_options(seed.into(), options);
    let changed = mutator.cross_over(data, other, out.len());
    put(changed, out)
}

/// Puts the bytes, repaired, where libFuzzer takes them from.
fn put(bytes: Vec<u8>, out: &mut [u8]) -> usize {
    let bytes = repaired(&bytes).unwrap_or(bytes);
    let len = bytes.len().min(out.len());
    out[..len].copy_from_slice(&bytes[..len]);
    len
}
