//! The fields that a recipe changed already: what showed something new is worth another value,
//! and so are its neighbours of the same kind.

use image_formats::Field;

use super::boundary::interesting;
use super::edits::{numeric, set};
use super::learned::FieldWeights;
use crate::edit::{Edit, Mutation};
use crate::map::Map;
use crate::rng::Rng;

/// One of the numbers that `edits` set, or the same field of another entry, to another value;
/// `None` where they set none. Which one is drawn by what fields of its class showed.
pub(super) fn draw(
    map: &Map,
    edits: &[Mutation],
    weights: &FieldWeights,
    rng: &mut Rng,
) -> Option<Mutation> {
    let sets: Vec<(&Mutation, &str, u64)> = edits
        .iter()
        .filter_map(|mutation| match &mutation.edit {
            Edit::Set { path, value } => Some((mutation, path.as_str(), value.0)),
            _ => None,
        })
        .collect();
    let by_class: Vec<u64> = sets
        .iter()
        .map(|(_, path, _)| weights.of(&map.class(path)))
        .collect();
    let (mutation, path, value) = *sets.get(rng.weighted(&by_class)?)?;
    let field = if rng.chance(50) {
        map.get(path)?
    } else {
        let alike = map.filter(|field| numeric(field) && same_but_for_numbers(&field.path, path));
        *rng.pick(&alike)?
    };
    let edit = (0..4).find_map(|_| set(field, another(map, field, value, rng)?))?;
    Some(Mutation {
        family: mutation.family.clone(),
        edit,
    })
}

/// A value of the field other than `value`: near that, or one of its boundary values.
fn another(map: &Map, field: &Field, value: u64, rng: &mut Rng) -> Option<u64> {
    let bits = field.width_bits.clamp(1, 64);
    Some(match rng.below(6) {
        0 => value.wrapping_add(1),
        1 => value.wrapping_sub(1),
        2 => value ^ 1 << rng.below(bits),
        3 => value << 1,
        _ => *rng.pick(&interesting(map, field))?,
    })
}

/// Whether two paths differ in nothing but numbers, as `l2[3].entry[7].offset` and
/// `l2[0].entry[1].offset` do.
fn same_but_for_numbers(one: &str, other: &str) -> bool {
    let letters = |path: &str| path.replace(|c: char| c.is_ascii_digit(), "");
    letters(one) == letters(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_a_table_are_alike() {
        let path = "l2[3].entry[17].offset";
        assert!(same_but_for_numbers(path, "l2[0].entry[1].offset"));
        assert!(!same_but_for_numbers(path, "l2[3].entry[17].copied"));
        assert!(!same_but_for_numbers(path, "bitmap[3].entry[17].offset"));
    }
}
