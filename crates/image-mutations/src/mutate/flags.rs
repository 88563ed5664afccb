//! Flags of table entries that contradict what the entry points to.

use image_formats::{Field, Kind};

use super::edits::{set, single};
use crate::edit::Edit;
use crate::map::Map;
use crate::rng::Rng;

/// One flag flipped, of an L1 or L2 entry more often than of another structure.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let (entries, others): (Vec<&Field>, Vec<&Field>) = map
        .of_kind(Kind::Flag)
        .into_iter()
        .partition(|field| field.path.contains("l1[") || field.path.contains("l2["));
    let field = if rng.chance(75) {
        rng.pick(&entries).or_else(|| rng.pick(&others))
    } else {
        rng.pick(&others).or_else(|| rng.pick(&entries))
    }?;
    single(set(field, field.value.as_uint()? ^ field.place.mask()))
}
