//! Bytes that were recognised as an image, and edits of them.

use std::collections::VecDeque;
use std::sync::Arc;

use image_formats::{AnyImage, Format, ReadAt as _, Store};
use image_mutations::base::Prepared;
use image_mutations::case::apply;
use image_mutations::edit::{Edit, Mutation};
use image_mutations::map::Map;
use image_mutations::named_file::NamedFile;

/// The most bytes of an input that is decoded; what is longer is changed by bytes alone.
pub(crate) const MAX_DECODED_BYTES: usize = 16 << 20;

/// An image that was found in the bytes of an input.
#[derive(Clone, Debug)]
pub(crate) struct Decoded {
    /// The input.
    pub(crate) bytes: Arc<Vec<u8>>,
    prepared: Arc<Prepared>,
}

impl Decoded {
    /// The image in `bytes`, of the format that its signature names, else of `otherwise`.
    pub(crate) fn of(bytes: &[u8], otherwise: Option<Format>) -> Option<Self> {
        let format = probe(bytes).or(otherwise)?;
        let bytes = Arc::new(bytes.to_vec());
        let file = NamedFile::new("image", &Store::over(bytes.clone()));
        let prepared = Prepared::of(file, format, None, Vec::new()).ok()?;
        Some(Self {
            bytes,
            prepared: Arc::new(prepared),
        })
    }

    /// Its fields.
    pub(crate) fn map(&self) -> &Map {
        &self.prepared.map
    }

    /// The image, to be changed; what is not changed is shared.
    pub(crate) fn image(&self) -> AnyImage {
        self.prepared.image.clone()
    }

    /// The image with those of `edits` that can be made within `max_len` bytes, and these edits.
    pub(crate) fn with(&self, edits: Vec<Mutation>, max_len: usize) -> (Vec<u8>, Vec<Mutation>) {
        let mut image = self.image();
        let mut made = Vec::with_capacity(edits.len());
        for mutation in edits {
            if !is_within(&mutation.edit, max_len) {
                continue;
            }
            let before = image.clone();
            let applied = apply(&mut image, &mutation.edit);
            if applied.is_ok() && image.bytes().len() <= max_len as u64 {
                made.push(mutation);
            } else {
                image = before;
            }
        }
        (bytes_of(&image, max_len), made)
    }
}

/// Whether what an edit writes out is within the first `max_len` bytes.
fn is_within(edit: &Edit, max_len: usize) -> bool {
    let max_len = max_len as u64;
    match edit {
        Edit::Bytes { at, bytes } => {
            at.0.checked_add(bytes.0.len() as u64)
                .is_some_and(|end| end <= max_len)
        }
        Edit::Length { bytes } => bytes.0 <= max_len,
        Edit::Set { .. } | Edit::Text { .. } | Edit::Extensions { .. } | Edit::Recompute { .. } => {
            true
        }
    }
}

/// The format whose signature the bytes have, unless there are too many of them.
pub(crate) fn probe(bytes: &[u8]) -> Option<Format> {
    if bytes.len() > MAX_DECODED_BYTES {
        return None;
    }
    Format::probe(bytes).ok().flatten()
}

/// The first `max_len` bytes of an image.
pub(crate) fn bytes_of(image: &AnyImage, max_len: usize) -> Vec<u8> {
    let len = image.bytes().len().min(max_len as u64) as usize;
    let mut bytes = vec![0; len];
    image.bytes().read(0, &mut bytes);
    bytes
}

/// The images decoded last: engines give the same input many times in a row.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    recent: VecDeque<Decoded>,
}

impl Cache {
    /// How many images are kept.
    const MAX_IMAGES: usize = 4;
    /// Longer inputs are not kept, so that memory stays small.
    const MAX_BYTES: usize = 4 << 20;

    /// As [`Decoded::of`], decoded now or earlier.
    pub(crate) fn decoded(&mut self, bytes: &[u8], otherwise: Option<Format>) -> Option<Decoded> {
        let format = probe(bytes).or(otherwise)?;
        let known = self
            .recent
            .iter()
            .position(|known| known.map().format == format && known.bytes.as_slice() == bytes);
        if let Some(at) = known {
            let found = self.recent.remove(at)?;
            self.recent.push_back(found.clone());
            return Some(found);
        }
        let decoded = Decoded::of(bytes, Some(format))?;
        if bytes.len() <= Self::MAX_BYTES {
            if self.recent.len() == Self::MAX_IMAGES {
                self.recent.pop_front();
            }
            self.recent.push_back(decoded.clone());
        }
        Some(decoded)
    }
}

#[cfg(test)]
mod tests {
    use image_mutations::edit::{Hex, Number};

    use super::*;
    use crate::fresh::seeds;

    #[test]
    fn edits_past_the_size_that_is_given_are_left_out() {
        let seed = seeds(Format::Qcow2, 1, 1 << 20, "decoded").remove(0);
        let decoded = Decoded::of(&seed, None).unwrap();
        let edit = |edit| Mutation {
            family: "havoc".to_owned(),
            edit,
        };
        let bytes = |at| {
            edit(Edit::Bytes {
                at: Number(at),
                bytes: Hex(vec![1; 4]),
            })
        };
        let len = seed.len();
        let length = |bytes| {
            edit(Edit::Length {
                bytes: Number(bytes),
            })
        };
        let edits = vec![
            bytes(len as u64 - 3),
            length(1 << 40),
            bytes(u64::MAX),
            bytes(0),
        ];
        let (changed, made) = decoded.with(edits, len);
        assert_eq!((changed.len(), made.len()), (len, 1));
        assert_eq!(changed[..4], [1; 4]);
        assert_eq!(changed[4..], seed[4..]);
    }

    #[test]
    fn the_same_input_is_decoded_once() {
        let mut cache = Cache::default();
        let images = seeds(Format::Qed, 6, 1 << 20, "cache");
        let first = cache.decoded(&images[0], None).unwrap();
        let again = cache.decoded(&images[0], None).unwrap();
        assert!(Arc::ptr_eq(&first.prepared, &again.prepared));
        for image in &images {
            cache.decoded(image, None).unwrap();
        }
        assert_eq!(cache.recent.len(), Cache::MAX_IMAGES);
        assert!(cache.decoded(b"no image", None).is_none());
    }
}
