//! Feeds changed images to the decoder for a while: `fuzz_decode [SECONDS [SEED]]`.
//!
//! A panic ends it; the image that caused it is left in `fuzz_decode.failed`, and the
//! one that took longest in `fuzz_decode.slowest`. Given as the first argument, such a
//! file is tried again.

#[path = "../tests/common/exercise.rs"]
mod exercise;

use exercise::{BASES, exercise};
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// A base image with a few numbers changed, most of them where the metadata is.
fn image(random: &mut Random) -> Vec<u8> {
    const NUMBERS: [u64; 12] = [
        0,
        1,
        8,
        0x1ff,
        0x200,
        0x1000,
        0x4000,
        0xffff,
        0x7fff_ffff,
        1 << 62,
        1 << 63,
        u64::MAX,
    ];
    let mut bytes = BASES[random.below(BASES.len())].clone();
    for _ in 0..=random.below(6) {
        let range = if random.below(2) == 0 {
            600
        } else {
            bytes.len()
        };
        let width = 1 << random.below(4);
        let at = random.below(range.saturating_sub(width)) / width * width;
        let value = match random.below(3) {
            0 => random.next(),
            1 => NUMBERS[random.below(NUMBERS.len())]
                .wrapping_add(random.next() % 3)
                .wrapping_sub(1),
            _ => (random.next() % 64) << 9 | random.next() << 63,
        };
        bytes[at..at + width].copy_from_slice(&value.to_be_bytes()[8 - width..]);
    }
    if random.below(8) == 0 {
        bytes.truncate(random.below(bytes.len()));
    }
    bytes
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let first = args.next().unwrap_or_else(|| "60".to_owned());
    let Ok(seconds) = first.parse() else {
        match std::fs::read(&first) {
            Ok(bytes) => exercise(&bytes),
            Err(error) => {
                eprintln!(
                    "fuzz_decode: '{first}' is neither a number of seconds nor a file: {error}"
                );
                return ExitCode::FAILURE;
            }
        }
        return ExitCode::SUCCESS;
    };
    let mut random = Random(args.next().and_then(|seed| seed.parse().ok()).unwrap_or(1));
    let (start, duration) = (Instant::now(), Duration::from_secs(seconds));
    let (mut images, mut slowest) = (0_u64, Duration::ZERO);
    while start.elapsed() < duration {
        let bytes = image(&mut random);
        let before = Instant::now();
        if catch_unwind(|| exercise(&bytes)).is_err() {
            let kept = std::fs::write("fuzz_decode.failed", &bytes);
            eprintln!("fuzz_decode: panic at image {images}; kept in fuzz_decode.failed: {kept:?}");
            return ExitCode::FAILURE;
        }
        let took = before.elapsed();
        if took > slowest {
            slowest = took;
            if let Err(error) = std::fs::write("fuzz_decode.slowest", &bytes) {
                eprintln!("fuzz_decode: failed to write fuzz_decode.slowest: {error}");
                return ExitCode::FAILURE;
            }
        }
        images += 1;
    }
    println!("{images} images, no panic, the slowest took {slowest:?}");
    ExitCode::SUCCESS
}
