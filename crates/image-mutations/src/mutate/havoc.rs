//! Random bytes, at a low rate, for what the other families do not reach.

use image_formats::Kind;

use crate::edit::{Edit, Hex, Number};
use crate::map::Map;
use crate::named_file::MOST_BYTES;
use crate::rng::Rng;

/// One to four random bytes inside a random field that is not guest data; anywhere in a file
/// that nothing decodes.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    if map.fields().is_empty() {
        let at = rng.below(map.file_len.min(MOST_BYTES - MOST));
        return Some(bytes(at, rng));
    }
    let fields = map.draw_structure(rng);
    let field = rng.pick(&fields)?;
    let width = field.width_bits.div_ceil(8).clamp(1, 64);
    if field.kind == Kind::Bytes && field.path.ends_with(".data") && rng.chance(80) {
        return None;
    }
    let at = field.offset.wrapping_add(rng.below(width));
    Some(bytes(at, rng))
}

/// The most bytes.
const MOST: u64 = 4;

fn bytes(at: u64, rng: &mut Rng) -> Vec<Edit> {
    let bytes = (0..rng.between(1, MOST))
        .map(|_| match rng.below(4) {
            0 => 0xff,
            1 => 0,
            2 => 0x80,
            _ => rng.bits() as u8,
        })
        .collect();
    vec![Edit::Bytes {
        at: Number(at),
        bytes: Hex(bytes),
    }]
}
