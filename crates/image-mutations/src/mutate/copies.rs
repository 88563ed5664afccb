//! One of two copies of a structure changed: a second header, a redundant table. Readers that
//! look at one of them and readers that look at the other see different images.

use image_formats::Field;

use super::edits::{numeric, set};
use super::interesting;
use crate::edit::{Edit, Recomputed};
use crate::map::Map;
use crate::rng::Rng;

/// Structures that are there twice, with their own places and checksums.
const PAIRS: [[&str; 2]; 2] = [
    ["header[0].", "header[1]."],
    ["region_table[0].", "region_table[1]."],
];

/// A field of one copy to a boundary value; its checksum is corrected in most images, the other
/// copy never.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let fields = map.filter(|field| numeric(field) && is_copied(map, field));
    let field = *rng.pick(&fields)?;
    let field = match rng.chance(40) {
        true => twin(map, field).unwrap_or(field),
        false => field,
    };
    let values = interesting(map, field);
    let edit = (0..4).find_map(|_| set(field, *rng.pick(&values)?))?;
    let mut edits = vec![edit];
    if rng.chance(70) {
        edits.push(Edit::Recompute {
            what: vec![Recomputed::Checksums],
        });
    }
    Some(edits)
}

/// Whether a field is in a structure that is there twice, in either copy or in the second one.
fn is_copied(map: &Map, field: &Field) -> bool {
    let is_in_copy = map.copies.iter().any(|copy| copy.contains(&field.offset));
    let is_twin = |pair: &[&str; 2]| {
        let rest = pair.iter().find_map(|name| field.path.strip_prefix(name));
        rest.is_some_and(|rest| {
            let is_there = |name: &&str| map.get(&format!("{name}{rest}")).is_some();
            pair.iter().all(is_there)
        })
    };
    is_in_copy || PAIRS.iter().any(is_twin)
}

/// A field of the other copy: of the same name, width and value.
fn twin<'a>(map: &'a Map, field: &Field) -> Option<&'a Field> {
    fn last(field: &Field) -> Option<&str> {
        field.path.rsplit('.').next()
    }
    let is_twin = |other: &&Field| {
        last(other) == last(field)
            && other.path != field.path
            && other.width_bits == field.width_bits
            && other.value == field.value
    };
    map.fields().iter().find(is_twin)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::base::Formats;
    use crate::case::Maker;
    use crate::mutate::{Intensity, recompute};

    /// The fields that are changed in images of these formats after everything was corrected.
    fn changed(word: &str) -> BTreeSet<String> {
        let formats = Formats::named(word).unwrap();
        let index = crate::mutate::FAMILIES
            .iter()
            .position(|it| it.name == "copy");
        let mut weights = vec![0; crate::mutate::FAMILIES.len()];
        weights[index.unwrap()] = 1;
        let mut rng = Rng::from_text(word);
        let mut maker = Maker::default();
        let mut changed = BTreeSet::new();
        for _ in 0..60 {
            let base = formats.draw(&mut rng);
            let map = maker.prepared(&base).unwrap().map.clone();
            let one = Intensity::Mutations(1, 1);
            let mut edits = crate::mutate::draw(&map, None, one, &weights, &mut rng);
            recompute(&mut edits, &mut rng);
            maker.files(&base, &edits).unwrap();
            let first = edits.iter().position(|it| it.family == "copy");
            let last = edits.iter().rposition(|it| it.family == "recompute");
            assert!(first.is_none() || last < first, "{edits:?}");
            changed.extend(edits.into_iter().filter_map(|it| match it.edit {
                Edit::Set { path, .. } => Some(map.class(&path)),
                _ => None,
            }));
        }
        changed
    }

    #[test]
    fn either_copy_is_changed_and_stays_so() {
        let has = |changed: &BTreeSet<String>, start: &str| {
            changed.iter().any(|class| class.starts_with(start))
        };
        let vpc = changed("vpc");
        assert!(has(&vpc, "header.") && has(&vpc, "footer."), "{vpc:?}");
        let vhdx = changed("vhdx");
        assert!(
            has(&vhdx, "header[].") && has(&vhdx, "region_table[]."),
            "{vhdx:?}"
        );
        let vmdk = changed("vmdk");
        let tables = ["grain_table[]", "redundant_grain_table[]", "footer."];
        assert!(tables.iter().all(|start| has(&vmdk, start)), "{vmdk:?}");
        assert!(changed("qed").is_empty());
    }
}
