//! Lengths that disagree with each other and with what they measure.

use image_formats::Kind;

use super::edits::{set, single, to_boundary};
use crate::edit::Edit;
use crate::map::Map;
use crate::rng::Rng;

/// One length off by a little, or to a boundary.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let lengths = map.filter(|field| matches!(field.kind, Kind::Length | Kind::Size | Kind::Log2));
    if rng.chance(50) {
        return to_boundary(map, &lengths, rng);
    }
    let field = rng.pick(&lengths)?;
    let present = field.value.as_uint()?;
    let steps = [1, 7, 8, 16, 24, 512, map.cluster];
    let step = *rng.pick(&steps)?;
    let value = if rng.chance(50) {
        present.wrapping_add(step)
    } else {
        present.wrapping_sub(step)
    };
    single(set(field, value))
}
