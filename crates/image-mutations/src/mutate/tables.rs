//! Tables too short, too long, or laid over other structures.

use image_formats::{Field, Kind};

use super::cost::affordable;
use super::edits::{set, to_boundary};
use crate::edit::Edit;
use crate::map::Map;
use crate::rng::Rng;

/// A table's size wrong, or its start moved into another structure by a part of
/// a cluster or by whole ones.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let sizes: Vec<&Field> = map.of_kind(Kind::Count);
    let offsets: Vec<&Field> = map.filter(|field| {
        field.kind == Kind::Offset
            && (field.path.ends_with("_offset") || field.path.starts_with("refcount_table["))
    });
    match rng.below(4) {
        0 => {
            let field = rng.pick(&sizes)?;
            let present = field.value.as_uint()?;
            let near = [
                present.wrapping_add(1),
                present.wrapping_sub(1),
                present.wrapping_mul(2),
                present / 2,
            ];
            Some(vec![set(field, *rng.pick(&near)?)?])
        }
        1 => {
            let field = rng.pick(&offsets)?;
            let place = *rng.pick(map.places())?;
            Some(vec![set(field, place.wrapping_add(map.cluster))?])
        }
        2 => {
            // Long enough to reach over what follows it, and still short of
            // the limits of readers.
            let field = rng.pick(&sizes)?;
            let entries = map.file_len / 8 + rng.below(64);
            Some(vec![set(field, affordable(field, entries))?])
        }
        _ => to_boundary(map, &sizes, rng),
    }
}
