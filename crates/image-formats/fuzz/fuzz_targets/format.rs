//! Does all that can be done with the bytes of an image of the format that the environment
//! variable IMAGE_FORMAT names: no panic, and every field found by its path.

#![no_main]

#[path = "../../tests/common/any_format.rs"]
mod any_format;

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use any_format::exercise_as;
use image_formats::{AnyImage, Format, ReadAt as _};
use image_mutations::base::{Formats, Prepared};
use image_mutations::case::{Maker, apply};
use image_mutations::mutate::{self, Intensity};
use image_mutations::named_file::NamedFile;
use image_mutations::rng::Rng;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

static FORMAT: LazyLock<Format> = LazyLock::new(|| {
    let name = std::env::var("IMAGE_FORMAT").unwrap_or_default();
    Format::from_name(&name).unwrap_or_else(|| {
        let known: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
        eprintln!(
            "IMAGE_FORMAT='{name}' is not a format; set it to one of {}",
            known.join(", ")
        );
        std::process::exit(2);
    })
});

thread_local! {
    static MAKER: RefCell<Maker> = RefCell::default();
}

fuzz_target!(|bytes: &[u8]| exercise_as(bytes, *FORMAT));

/// A valid image, as long as the random numbers ask for none that is too long.
fn valid(rng: &mut Rng, max_size: usize) -> Option<Vec<u8>> {
    let base = Formats::of(*FORMAT).draw(rng);
    let files = MAKER
        .with_borrow_mut(|maker| maker.files(&base, &[]))
        .ok()?;
    let file = files.first().filter(|file| file.len() <= max_size as u64)?;
    Some(file.to_vec())
}

/// The image changed by its structure.
fn mutated(bytes: &[u8], rng: &mut Rng) -> Option<Vec<u8>> {
    let mut image = AnyImage::open(Arc::new(bytes.to_vec()), *FORMAT).ok()?;
    let file = NamedFile::new("image", image.bytes());
    let prepared = Prepared::of(file, *FORMAT, None, Vec::new()).ok()?;
    let weights = mutate::first_weights();
    let count = Intensity::Mutations(1, 3);
    let mut edits = mutate::draw(&prepared.map, None, count, &weights, rng);
    mutate::recompute(&mut edits, rng);
    for mutation in edits {
        let _ = apply(&mut image, &mutation.edit);
    }
    image.bytes().to_vec(64 << 20).ok()
}

fuzz_mutator!(
    |bytes: &mut [u8], size: usize, max_size: usize, seed: u32| {
        let mut rng = Rng::from_text(&seed.to_string());
        let made = match rng.below(10) {
            _ if size < 72 => valid(&mut rng, max_size),
            0 => valid(&mut rng, max_size),
            1..=6 => mutated(&bytes[..size], &mut rng),
            _ => None,
        };
        match made.filter(|made| made.len() <= max_size) {
            Some(made) => {
                bytes[..made.len()].copy_from_slice(&made);
                made.len()
            }
            None => fuzzer_mutate(bytes, size, max_size),
        }
    }
);
