//! Refcounts too low, too high, or zero where a cluster is used.

use image_formats::Kind;

use super::edits::set;
use crate::edit::Edit;
use crate::map::Map;
use crate::rng::Rng;

/// One refcount, sometimes a run of them, to a wrong value.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let counts = map.of_kind(Kind::Refcount);
    let first = rng.index(counts.len());
    let run = match rng.below(8) {
        0 => 4,
        1 => counts.len(),
        _ => 1,
    };
    let kind = rng.below(6);
    let edits: Vec<Edit> = counts
        .iter()
        .skip(if run == counts.len() { 0 } else { first })
        .take(run.min(64))
        .filter_map(|field| {
            let present = field.value.as_uint()?;
            let mask = field.place.mask();
            let value = match kind {
                0 | 1 => 0,
                2 => present.wrapping_add(1),
                3 => present.wrapping_sub(1),
                4 => mask,
                _ => (mask >> 1) + 1,
            };
            set(field, value)
        })
        .collect();
    (!edits.is_empty()).then_some(edits)
}
