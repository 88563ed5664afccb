//! Pointers to places where they must not point.

use image_formats::{Field, Kind};

use super::edits::{set, single};
use crate::edit::Edit;
use crate::map::Map;
use crate::rng::Rng;

/// One offset field to somewhere else: nowhere, another structure, itself, past
/// the end, off its alignment, far beyond what a file can be.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let pointers: Vec<&Field> = map.of_kind(Kind::Offset);
    let (mut inner, mut header): (Vec<&Field>, Vec<&Field>) = pointers
        .into_iter()
        .partition(|field| !field.path.starts_with("header."));
    if inner.is_empty() {
        std::mem::swap(&mut inner, &mut header);
    }
    // The header's own pointers are the best checked, so they come up less often.
    let field = if !header.is_empty() && rng.chance(20) {
        rng.pick(&header)
    } else {
        rng.pick(&inner)
    }?;
    (0..4).find_map(|_| single(set(field, target(map, field, rng)?)))
}

/// Somewhere to point to.
fn target(map: &Map, field: &Field, rng: &mut Rng) -> Option<u64> {
    let present = field.value.as_uint()?;
    let places = map.places();
    let end = map.file_len;
    Some(match rng.below(14) {
        0 => 0,
        1..=4 => *rng.pick(places)?,
        5 => field.offset - field.offset % map.cluster,
        6 => end.checked_next_multiple_of(map.cluster)?,
        7 => {
            let beyond = map.cluster.wrapping_mul(rng.between(1, 64));
            end.checked_next_multiple_of(map.cluster)?
                .wrapping_add(beyond)
        }
        8 => present ^ 512,
        9 => present.wrapping_add(map.cluster / 2),
        10 => present ^ (1 << rng.between(9, 55)),
        11 => (1_u64 << 56).wrapping_sub(map.cluster),
        12 => map.cluster.wrapping_neg(),
        _ => rng.below(end / map.cluster + 2).wrapping_mul(map.cluster),
    })
}
