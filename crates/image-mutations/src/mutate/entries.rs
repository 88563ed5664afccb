//! Entries of tables that repeat, overlap or are out of order.

use super::edits::{numeric, set};
use crate::edit::Edit;
use crate::map::Map;
use crate::rng::Rng;

/// An entry takes the value of another of its table, or one next to it, or the two are
/// exchanged.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let mut tables: Vec<_> = map.classes().map(|(_, fields)| fields).collect();
    tables.retain(|fields| fields.len() > 1 && numeric(fields[0]));
    let fields = rng.pick(&tables)?;
    (0..8).find_map(|_| {
        let (one, other) = (*rng.pick(fields)?, *rng.pick(fields)?);
        let (first, second) = (one.value.as_uint()?, other.value.as_uint()?);
        if first == second {
            return None;
        }
        let edits = match rng.below(5) {
            0 => [set(one, second.wrapping_add(1)), None],
            1 => [set(one, second.wrapping_sub(1)), None],
            2 => [set(one, second), set(other, first)],
            _ => [set(one, second), None],
        };
        let edits: Vec<Edit> = edits.into_iter().flatten().collect();
        (!edits.is_empty()).then_some(edits)
    })
}
