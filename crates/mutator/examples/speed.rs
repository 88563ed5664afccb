//! How long mutations take: `speed [COUNT]` prints a line for each format, with the bytes and
//! fields of its images and the microseconds of a call of each kind.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use image_mutator::{Format, Mutator, libfuzzer, repaired, seeds};

/// Microseconds of a call, on average.
fn microseconds(count: u32, mut call: impl FnMut(u32)) -> u128 {
    let start = Instant::now();
    for number in 0..count {
        call(number);
    }
    start.elapsed().as_micros() / u128::from(count.max(1))
}

fn main() -> ExitCode {
    let word = std::env::args().nth(1).unwrap_or_else(|| "400".to_owned());
    let Ok(count) = word.parse::<u32>() else {
        eprintln!("speed: '{word}' is not a number");
        return ExitCode::from(2);
    };
    println!("format bytes mutate-again mutate-alone repair new-image");
    for format in Format::ALL {
        let most = if format == Format::Vhdx {
            8 << 20
        } else {
            1 << 20
        };
        let images = seeds(format, 8, most, "speed");
        let image = |number: u32| images[number as usize % images.len()].as_slice();
        let bytes: usize = images.iter().map(Vec::len).sum();
        let mut mutator = Mutator::new(1);
        // An engine gives the same input many times.
        let again = microseconds(count, |number| {
            black_box(mutator.mutate(image(number / 64), most));
        });
        let mut buffer = vec![0; most];
        let alone = microseconds(count, |number| {
            let image = image(number);
            buffer[..image.len()].copy_from_slice(image);
            black_box(libfuzzer::mutate(&mut buffer, image.len(), most, number));
        });
        let repair = microseconds(count, |number| {
            black_box(repaired(image(number)));
        });
        let new_image = microseconds(count / 16, |number| {
            black_box(seeds(format, 1, most, &number.to_string()));
        });
        let average = bytes / images.len();
        println!("{format} {average} {again} {alone} {repair} {new_image}");
    }
    ExitCode::SUCCESS
}
