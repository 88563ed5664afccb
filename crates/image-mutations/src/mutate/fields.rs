//! Any field to a boundary value of its type or its rule.

use super::edits::{numeric, to_boundary};
use crate::edit::Edit;
use crate::map::Map;
use crate::rng::Rng;

/// Any numeric field; each structure is as likely as the others.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    (0..4).find_map(|_| {
        let mut fields = map.draw_structure(rng);
        fields.retain(|field| numeric(field));
        to_boundary(map, &fields, rng)
    })
}
