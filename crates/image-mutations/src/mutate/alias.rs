//! Equal pointers twice: two owners for one table or cluster.

use image_formats::Kind;

use super::edits::{set, single};
use crate::edit::Edit;
use crate::map::Map;
use crate::map::structure;
use crate::rng::Rng;

/// One offset takes the value of another, of the same structure or of any.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let pointers = map.of_kind(Kind::Offset);
    let field = rng.pick(&pointers)?;
    let same = rng.chance(50);
    let others: Vec<u64> = pointers
        .iter()
        .filter(|other| other.path != field.path)
        .filter(|other| !same || structure(&other.path) == structure(&field.path))
        .filter_map(|other| other.value.as_uint())
        .filter(|offset| *offset != 0)
        .collect();
    single(set(field, *rng.pick(&others)?))
}
