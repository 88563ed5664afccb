//! Sizes of blocks, sectors and disks.

use image_formats::Kind;

use super::edits::set;
use crate::edit::Edit;
use crate::map::Map;
use crate::rng::Rng;

/// A size to another power of two, mostly one that blocks and sectors have, to something near
/// one, to nothing or to the most that fits.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let sizes = map.of_kind(Kind::Size);
    let field = *rng.pick(&sizes)?;
    let bits = field.width_bits.clamp(1, 64);
    let power = |rng: &mut Rng| 1 << rng.below(bits);
    let value = match rng.below(10) {
        0 => 0,
        1 => u64::MAX,
        2 => power(rng) - 1,
        3 => power(rng) | 512,
        4..=6 => power(rng),
        _ => 1 << rng.between(9, 21),
    };
    Some(vec![set(field, value)?])
}
