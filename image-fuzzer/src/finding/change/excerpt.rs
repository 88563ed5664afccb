//! The bytes around a change, in the valid image and in that of the finding.

use image_formats::AnyImage;
use image_formats::{Field, ReadAt as _, Store};
use serde::{Deserialize, Serialize};

use super::view::{View, is_part, length, touches};
use image_mutations::edit::Hex;

/// Bytes in a row, as hexadecimal dumps have them.
const ROW: u64 = 16;

/// The most bytes of a change that are shown, beside a row before and one after it.
const MAX_SHOWN: u64 = 64;

/// Bytes of both images around a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// Byte offset of the first one, a multiple of 16.
    pub offset: u64,
    /// Those of the valid image; they end early where the file ends.
    pub before: Hex,
    /// Those of the image of the finding.
    pub after: Hex,
    /// The fields among them, by offset.
    pub fields: Vec<Part>,
}

/// A field within an excerpt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its path.
    pub path: String,
    /// Byte offset in the file.
    pub offset: u64,
    /// Bytes that it is part of.
    pub len: u64,
}

impl Excerpt {
    /// The bytes around the `len` bytes at `offset`; `None` past the end of both images.
    pub(super) fn new(view: &View<'_>, offset: u64, len: u64) -> Option<Self> {
        let start = (offset / ROW * ROW).saturating_sub(ROW);
        let shown = len.clamp(1, MAX_SHOWN);
        let end = offset.checked_add(shown)?.checked_next_multiple_of(ROW)?;
        let end = end.saturating_add(ROW);
        let before = read(view.base.bytes(), start, end);
        let after = read(view.image.bytes(), start, end);
        let past = |bytes: &[u8]| start + bytes.len() as u64 <= offset;
        if past(&before) && past(&after) {
            return None;
        }
        let mut fields = parts(view.map.fields().iter(), view.base, start, end);
        if fields.is_empty() {
            fields = parts(view.image_fields().iter(), view.image, start, end);
        }
        Some(Self {
            offset: start,
            before: Hex(before),
            after: Hex(after),
            fields,
        })
    }
}

/// The bytes from `start` to `end` that the file has.
fn read(store: &Store, start: u64, end: u64) -> Vec<u8> {
    let end = end.min(store.len());
    let mut bytes = vec![0; end.saturating_sub(start) as usize];
    store.read(start, &mut bytes);
    bytes
}

/// The fields of whole bytes between `start` and `end`, without those that are part of others.
fn parts<'a>(
    fields: impl Iterator<Item = &'a Field>,
    image: &AnyImage,
    start: u64,
    end: u64,
) -> Vec<Part> {
    let inside = |field: &&Field| touches(field, start, end) && !is_part(image, field);
    let mut parts: Vec<Part> = fields
        .filter(inside)
        .map(|field| Part {
            path: field.path.clone(),
            offset: field.offset,
            len: length(field),
        })
        .collect();
    parts.sort_by_key(|part| part.offset);
    // Of several fields in one byte the first.
    parts.dedup_by_key(|part| part.offset);
    parts
}
