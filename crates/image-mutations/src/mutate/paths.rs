//! Structures and fields of formats other than qcow2, named as their paths name them: a structure
//! by what its paths begin with, a field by its last name.

use std::collections::BTreeMap;

use image_formats::{Field, Format, Kind};

use super::edits::numeric;
use crate::base::{Formats, prepare, showcase};
use crate::map::Map;

/// The structures of `formats` other than qcow2, and the fields that each has, by name.
pub(super) fn names(formats: &Formats) -> BTreeMap<String, Vec<String>> {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let single = formats.names().into_iter().filter_map(Format::from_name);
    for format in single.filter(|it| *it != Format::Qcow2) {
        for base in showcase(format) {
            // A description that contradicts itself has no fields.
            let Ok(prepared) = prepare(&base) else {
                continue;
            };
            for field in prepared.map.fields() {
                let known = names.entry(structure(field).to_owned()).or_default();
                let name = name(field);
                if !known.iter().any(|known| known == name) {
                    known.push(name.to_owned());
                }
            }
        }
    }
    names
}

/// The fields of a structure that can be changed, or those of one name.
pub(super) fn fields<'a>(map: &'a Map, wanted: &str, named: Option<&str>) -> Vec<&'a Field> {
    let of_structure = map.fields().iter().filter(|it| structure(it) == wanted);
    let wanted = |field: &&Field| match named {
        Some(named) => name(field) == named,
        None => can_change(field),
    };
    of_structure.filter(wanted).collect()
}

/// Whether a field is one that edits of a selection can change.
pub(super) fn can_change(field: &Field) -> bool {
    numeric(field) || field.kind == Kind::Text
}

/// The name that the path of a field begins with.
fn structure(field: &Field) -> &str {
    let end = field.path.find(['[', '.']);
    &field.path[..end.unwrap_or(field.path.len())]
}

/// The last name of the path of a field, without an index.
fn name(field: &Field) -> &str {
    let last = field.path.rsplit('.').next().unwrap_or_default();
    last.split('[').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_structures_with_fields() {
        for word in ["qed", "vdi", "bochs", "raw"] {
            assert!(!names(&Formats::named(word).unwrap()).is_empty(), "{word}");
        }
        assert!(names(&Formats::default()).is_empty());
        let vhdx = names(&Formats::named("vhdx").unwrap());
        assert!(vhdx["header"].iter().any(|name| name == "log_offset"));
        assert!(vhdx["region_table"].iter().any(|name| name == "length"));
        let parallels = names(&Formats::named("parallels").unwrap());
        assert_eq!(parallels["bat"], ["bat"]);
    }
}
