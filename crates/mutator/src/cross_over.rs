//! Two images made into one: fields and structures of the second put into the first.

use std::collections::BTreeMap;

use image_formats::{Field, Value};
use image_mutations::edit::{Edit, Hex, Mutation, Number};
use image_mutations::rng::Rng;

use crate::decoded::Decoded;

/// The name of these edits, where those of families have the family's.
const FAMILY: &str = "cross-over";

/// Longest run of bytes that is taken from the second image.
const MAX_BYTES: usize = 64 << 10;

/// Edits that put something of `other` into `one`, an image of the same format; none where
/// all that was looked at is the same in both.
pub(crate) fn draw(one: &Decoded, other: &Decoded, rng: &mut Rng) -> Vec<Mutation> {
    for _ in 0..4 {
        let edits = match rng.below(4) {
            0 => cluster(one, other, rng).into_iter().collect(),
            _ => fields(one, other, rng),
        };
        if !edits.is_empty() {
            return edits;
        }
    }
    Vec::new()
}

/// Fields of one structure that both images have: all that differ, or a few.
fn fields(one: &Decoded, other: &Decoded, rng: &mut Rng) -> Vec<Mutation> {
    let differing = one.map().fields().iter().filter_map(|field| {
        let theirs = other.map().get(&field.path)?;
        (theirs.value != field.value).then_some((field, theirs))
    });
    let mut by_structure: BTreeMap<&str, Vec<(&Field, &Field)>> = BTreeMap::new();
    for (ours, theirs) in differing {
        let structure = instance(&ours.path);
        by_structure
            .entry(structure)
            .or_default()
            .push((ours, theirs));
    }
    let mut structures: Vec<_> = by_structure.into_values().collect();
    let chosen = rng.index(structures.len());
    let Some(pairs) = structures.get_mut(chosen) else {
        return Vec::new();
    };
    if rng.chance(70) {
        rng.shuffle(pairs);
        pairs.truncate(rng.between(1, 4) as usize);
    }
    let edits = pairs.iter().filter_map(|(ours, theirs)| copy(ours, theirs));
    edits.map(labelled).collect()
}

/// The structure that a field is in, with its index: `l2[3]` of `l2[3].entry[17].offset`.
pub(crate) fn instance(path: &str) -> &str {
    path.split('.').next().unwrap_or(path)
}

/// The value of their field, put into ours.
fn copy(ours: &Field, theirs: &Field) -> Option<Edit> {
    match &theirs.value {
        Value::Uint(value) if ours.place.is_number() => {
            let value = value & ours.place.mask();
            (Some(value) != ours.value.as_uint()).then(|| Edit::Set {
                path: ours.path.clone(),
                value: Number(value),
            })
        }
        Value::Bytes(bytes) if !ours.place.is_number() => {
            let room = usize::try_from(ours.place.len_bytes()).unwrap_or(usize::MAX);
            let count = bytes.len().min(room).min(MAX_BYTES);
            (count > 0).then(|| Edit::Bytes {
                at: Number(ours.offset),
                bytes: Hex(bytes[..count].to_vec()),
            })
        }
        _ => None,
    }
}

/// A cluster of the second image, written over one of the first: at the start of something
/// that a field points to in both.
fn cluster(one: &Decoded, other: &Decoded, rng: &mut Rng) -> Option<Mutation> {
    let from = usize::try_from(*rng.pick(other.map().places())?).ok()?;
    let at = *rng.pick(one.map().places())?;
    let rest = other.bytes.get(from..)?;
    let len = usize::try_from(one.map().cluster).unwrap_or(MAX_BYTES);
    let bytes = &rest[..rest.len().min(len).min(MAX_BYTES)];
    (!bytes.is_empty()).then(|| {
        labelled(Edit::Bytes {
            at: Number(at),
            bytes: Hex(bytes.to_vec()),
        })
    })
}

fn labelled(edit: Edit) -> Mutation {
    Mutation {
        family: FAMILY.to_owned(),
        edit,
    }
}

#[cfg(test)]
mod tests {
    use image_formats::Format;

    use super::*;
    use crate::fresh::seeds;

    #[test]
    fn fields_of_the_second_image_are_in_the_result() {
        let images = seeds(Format::Qcow2, 2, 1 << 20, "cross");
        let [one, other] = [0, 1].map(|at| Decoded::of(&images[at], None).unwrap());
        let mut rng = Rng::from_text("cross");
        let mut set = 0;
        for _ in 0..50 {
            let edits = draw(&one, &other, &mut rng);
            let (bytes, made) = one.with(edits, 1 << 20);
            let Some(Edit::Set { path, value }) = made.first().map(|first| &first.edit) else {
                continue;
            };
            assert_eq!(other.map().number(path), Some(value.0), "{path}");
            assert_ne!(one.map().number(path), Some(value.0), "{path}");
            assert_ne!(bytes, images[0]);
            set += 1;
        }
        assert!(set > 10, "{set}");
    }

    #[test]
    fn an_image_has_nothing_for_itself() {
        let image = seeds(Format::Vdi, 1, 1 << 20, "same").remove(0);
        let one = Decoded::of(&image, None).unwrap();
        let edits = fields(&one, &one, &mut Rng::from_text("same"));
        assert!(edits.is_empty(), "{edits:?}");
    }
}
