//! Does all that can be done with the bytes of an image: no panic, the same bytes back.

#![no_main]

#[path = "../../tests/common/exercise.rs"]
mod exercise;

use exercise::{BASES, exercise};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|bytes: &[u8]| exercise(bytes));

// What is too short for a header is replaced by a valid image, so that an empty corpus
// will do; the rest is changed as libFuzzer does it.
fuzz_mutator!(|bytes: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let base = &BASES[seed as usize % BASES.len()];
    match bytes.get_mut(..base.len()).filter(|_| size < 72) {
        Some(room) if base.len() <= max_size => {
            room.copy_from_slice(base);
            base.len()
        }
        _ => fuzzer_mutate(bytes, size, max_size),
    }
});
