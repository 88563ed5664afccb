//! Random bytes, at a low rate, for what the other families do not reach.

use image_formats::Kind;

use crate::edit::{Edit, Hex, Number};
use crate::map::Map;
use crate::rng::Rng;

/// One to four random bytes inside a random field that is not guest data.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let fields = map.draw_structure(rng);
    let field = rng.pick(&fields)?;
    let width = field.width_bits.div_ceil(8).clamp(1, 64);
    if field.kind == Kind::Bytes && field.path.ends_with(".data") && rng.chance(80) {
        return None;
    }
    let at = field.offset + rng.below(width);
    let bytes = (0..rng.between(1, 4))
        .map(|_| match rng.below(4) {
            0 => 0xff,
            1 => 0,
            2 => 0x80,
            _ => rng.bits() as u8,
        })
        .collect();
    Some(vec![Edit::Bytes {
        at: Number(at),
        bytes: Hex(bytes),
    }])
}
