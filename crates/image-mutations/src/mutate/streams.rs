//! Compressed data between the offsets of a table, as cloop has it.

use image_formats::{Field, Kind};

use crate::edit::{Edit, Hex, Number};
use crate::map::Map;
use crate::rng::Rng;

/// A few bytes of one stream: of its header, of its end, where its checksum is, or in between;
/// or zeros in the place of all of it.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let offsets: Vec<&Field> = map.of_kind(Kind::Offset);
    let at = rng.below(offsets.len().saturating_sub(1) as u64) as usize;
    let start = offsets.get(at)?.value.as_uint()?;
    let end = offsets.get(at + 1)?.value.as_uint()?.min(map.file_len);
    let len = end.checked_sub(start).filter(|len| *len > 0)?;
    let (from, count) = match rng.below(6) {
        0 => (0, rng.between(1, 2)),
        1 => (len.saturating_sub(4), 4),
        2 => (0, len.min(4096)),
        _ => (rng.below(len), rng.between(1, 4)),
    };
    let count = count.min(len - from);
    let random = rng.chance(70) && count <= 4;
    let bytes = (0..count).map(|_| if random { rng.bits() as u8 } else { 0 });
    Some(vec![Edit::Bytes {
        at: Number(start.wrapping_add(from)),
        bytes: Hex(bytes.collect()),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Formats;
    use crate::case::Maker;

    #[test]
    fn bytes_of_streams_are_changed_and_offsets_are_not() {
        let formats = Formats::named("cloop").unwrap();
        let mut rng = Rng::from_text("streams");
        for _ in 0..12 {
            let base = formats.draw(&mut rng);
            let prepared = Maker::default().prepared(&base).unwrap();
            let map = &prepared.map;
            let first = map.number("offset[0]").unwrap();
            for edit in draw(map, &mut rng).into_iter().flatten() {
                let Edit::Bytes { at, bytes } = edit else {
                    panic!("{edit:?}");
                };
                let end = at.0 + bytes.0.len() as u64;
                assert!(at.0 >= first && end <= map.file_len && end > at.0);
            }
        }
    }
}
