//! Valid images that an engine has not seen.

use image_formats::{Format, ReadAt as _, Store, qcow2};
use image_mutations::base::{Base, Formats};
use image_mutations::rng::Rng;

/// How often a description is drawn until its image suits: for a corpus, and between other
/// mutations, where a new image must not take long.
const ATTEMPTS_FOR_SEED: usize = 16;
const ATTEMPTS: usize = 3;

/// The fewest bytes of a VHDX image: headers, log, metadata and BAT each take a megabyte at
/// least (MS-VHDX, 2.1 and 2.2.2). No smaller one is looked for.
const SMALLEST_VHDX: usize = 4 << 20;

/// `count` valid images of `format` of at most `max_len` bytes each, in one file each. The same
/// `seed` gives the same images. There are fewer where images of the format do not fit.
///
/// ```
/// use image_mutator::{Format, seeds};
///
/// let images = seeds(Format::Vhdx, 3, 8 << 20, "a seed");
/// assert!(images.iter().all(|image| image.starts_with(b"vhdxfile")));
/// ```
#[must_use]
pub fn seeds(format: Format, count: usize, max_len: usize, seed: &str) -> Vec<Vec<u8>> {
    let mut rng = Rng::from_text(seed);
    let drawn = (0..count).map(|_| drawn(format, ATTEMPTS_FOR_SEED, max_len, &mut rng));
    drawn.flatten().collect()
}

/// A valid image of `format` of at most `max_len` bytes, where one is found. Images
/// that need other files are drawn again: a reader is given the image alone.
pub(crate) fn draw(format: Format, max_len: usize, rng: &mut Rng) -> Option<Vec<u8>> {
    drawn(format, ATTEMPTS, max_len, rng)
}

fn drawn(format: Format, attempts: usize, max_len: usize, rng: &mut Rng) -> Option<Vec<u8>> {
    let formats = Formats::of(format);
    if format == Format::Vhdx && max_len < SMALLEST_VHDX {
        return None;
    }
    (0..attempts).find_map(|_| {
        let image = image_alone(&formats.draw(rng))?;
        let fits = image.len() <= max_len as u64;
        fits.then(|| image.to_vec(max_len as u64).ok()).flatten()
    })
}

/// An image that is in one file and names no other.
fn image_alone(base: &Base) -> Option<Store> {
    match base {
        Base::Qcow2(base) => {
            let needs_another = base.backing.is_some() || base.image.data_file.is_some();
            let built = (!needs_another).then(|| qcow2::build(&base.image).ok())??;
            Some(built.image.bytes().clone())
        }
        // Those are never drawn.
        Base::Imported(_) => None,
        Base::Other(other) if other.parent.is_some() => None,
        Base::Other(other) => {
            let mut files = other.spec.build("image").ok()?;
            let alone = files.len() == 1;
            files.pop().filter(|_| alone).map(|file| file.bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_every_format_fit_into_a_megabyte() {
        // Of raw images nothing says what they are.
        let known = |format: &Format| *format != Format::Raw;
        for format in Format::ALL.into_iter().filter(known) {
            let images = seeds(format, 3, 1 << 20, "fresh");
            // The structures of VHDX alone take more.
            let most = if format == Format::Vhdx { 0 } else { 3 };
            assert_eq!(images.len(), most, "{format}");
            for image in images {
                assert!(image.len() <= 1 << 20);
                assert_eq!(Format::probe(&image[..]).unwrap(), Some(format));
            }
        }
    }

    #[test]
    fn the_smallest_image_of_vhdx_is_not_missed() {
        let images = seeds(Format::Vhdx, 4, 64 << 20, "smallest");
        assert!(images.iter().all(|image| image.len() >= SMALLEST_VHDX));
        assert!(!seeds(Format::Vhdx, 1, SMALLEST_VHDX + (4 << 20), "vhdx").is_empty());
    }

    #[test]
    fn an_image_that_does_not_fit_is_none() {
        assert!(seeds(Format::Qcow2, 2, 100, "fresh").is_empty());
    }
}
