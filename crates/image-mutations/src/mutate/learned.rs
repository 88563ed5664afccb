//! Fields that are drawn by how much new their kind showed.

use std::collections::BTreeMap;

use super::edits::{numeric, to_boundary};
use crate::edit::{Edit, Mutation};
use crate::map::Map;
use crate::rng::Rng;

/// How often fields of each class are drawn.
#[derive(Clone, Debug, Default)]
pub struct FieldWeights {
    by_class: BTreeMap<String, u64>,
    /// That of other classes.
    other: u64,
}

impl FieldWeights {
    /// These weights of classes ([`class_of`]), and that of all others.
    pub fn new(by_class: BTreeMap<String, u64>, other: u64) -> Self {
        Self { by_class, other }
    }

    /// The weight of a class.
    pub fn of(&self, class: &str) -> u64 {
        self.by_class.get(class).copied().unwrap_or(self.other)
    }
}

/// The family of mutations that are drawn here: that whose edits are of the same kind.
const FAMILY: &str = "boundary";

/// The class of what a mutation changes: the path of a field without its indexes, with the type
/// in place of the index of a header extension; the family where it changes no single field.
pub fn class_of(mutation: &Mutation, map: &Map) -> String {
    match &mutation.edit {
        Edit::Set { path, .. } | Edit::Text { path, .. } => map.class(path),
        Edit::Extensions { .. }
        | Edit::Bytes { .. }
        | Edit::Length { .. }
        | Edit::Recompute { .. } => {
            format!("({})", mutation.family)
        }
    }
}

/// A field of a class that is drawn by `weights`, to one of its boundary values.
pub(super) fn draw(map: &Map, weights: &FieldWeights, rng: &mut Rng) -> Option<Mutation> {
    let classes: Vec<_> = map.classes().collect();
    let by_class: Vec<u64> = classes.iter().map(|(name, _)| weights.of(name)).collect();
    (0..4).find_map(|_| {
        let (_, fields) = &classes[rng.weighted(&by_class)?];
        let mut fields = fields.clone();
        fields.retain(|field| numeric(field));
        let edit = to_boundary(map, &fields, rng)?.pop()?;
        Some(Mutation {
            family: FAMILY.to_owned(),
            edit,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base;
    use crate::case::Maker;

    #[test]
    fn fields_of_a_class_that_weighs_more_are_drawn_more_often() {
        let mut rng = Rng::from_text("learned");
        let base = base::draw(&mut rng);
        let prepared = Maker::default().prepared(&base).unwrap();
        let map = &prepared.map;
        let wanted = "l1[].offset";
        let weights = FieldWeights::new([(wanted.to_owned(), 160)].into(), 4);
        let mut count = |weights: &FieldWeights| {
            let drawn = (0..300).filter_map(|_| draw(map, weights, &mut rng));
            let drawn: Vec<_> = drawn.map(|it| class_of(&it, map)).collect();
            let hits = drawn.iter().filter(|class| *class == wanted).count();
            (hits, drawn.len())
        };
        let (hits, all) = count(&weights);
        let (even, _) = count(&FieldWeights::new(BTreeMap::new(), 4));
        assert!(
            hits > all / 10 && hits > 3 * even,
            "{hits}, {even} of {all}"
        );
        assert!(hits < all, "others starve");
    }
}
