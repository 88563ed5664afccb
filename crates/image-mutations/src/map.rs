//! The fields of a base image, as the families choose among them.

use std::collections::BTreeMap;
use std::ops::Range;

use image_formats::{Field, Format, Kind};

use crate::rng::Rng;

/// The fields of one image, in the order of its structures.
#[derive(Clone, Debug)]
pub struct Map {
    fields: Vec<Field>,
    by_path: BTreeMap<String, usize>,
    by_kind: BTreeMap<Kind, Vec<usize>>,
    by_structure: Vec<Vec<usize>>,
    by_class: BTreeMap<String, Vec<usize>>,
    /// The types of header extensions, by path.
    extensions: BTreeMap<String, u64>,
    places: Vec<u64>,
    /// The format of the image.
    pub format: Format,
    /// Length of the image file in bytes.
    pub file_len: u64,
    /// Bytes in a cluster.
    pub cluster: u64,
    /// Where structures are that are copies of others, as bytes of the file.
    pub copies: Vec<Range<u64>>,
}

impl Map {
    /// A map of `fields`, of an image of `format` of `file_len` bytes with clusters of `cluster`.
    pub fn new(format: Format, fields: Vec<Field>, file_len: u64, cluster: u64) -> Self {
        let mut by_path = BTreeMap::new();
        let mut by_kind: BTreeMap<Kind, Vec<usize>> = BTreeMap::new();
        let mut by_structure: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut by_class: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut extensions = BTreeMap::new();
        let mut places = vec![0];
        for (index, field) in fields.iter().enumerate() {
            by_path.insert(field.path.clone(), index);
            if let (Some(at), Some(magic)) =
                (field.path.strip_suffix(".type"), field.value.as_uint())
                && at.starts_with(EXTENSION)
            {
                extensions.insert(at.to_owned(), magic);
            }
            let class = class(&field.path, &extensions);
            by_class.entry(class).or_default().push(index);
            by_kind.entry(field.kind).or_default().push(index);
            let structure = structure(&field.path).to_owned();
            by_structure.entry(structure).or_default().push(index);
            let offset = field.value.as_uint().filter(|_| field.kind == Kind::Offset);
            places.extend(offset.filter(|offset| *offset < file_len));
        }
        places.sort_unstable();
        places.dedup();
        Self {
            fields,
            by_path,
            by_kind,
            by_structure: by_structure.into_values().collect(),
            by_class,
            extensions,
            places,
            format,
            file_len,
            cluster,
            copies: Vec::new(),
        }
    }

    /// With these copies of structures.
    #[must_use]
    pub fn with_copies(self, copies: Vec<Range<u64>>) -> Self {
        Self { copies, ..self }
    }

    /// All fields.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The field of that path.
    pub fn get(&self, path: &str) -> Option<&Field> {
        self.by_path.get(path).map(|index| &self.fields[*index])
    }

    /// The number in the field of that path.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.get(path)?.value.as_uint()
    }

    /// The fields that `predicate` accepts.
    pub fn filter<'a>(&'a self, predicate: impl Fn(&Field) -> bool + 'a) -> Vec<&'a Field> {
        self.fields
            .iter()
            .filter(|field| predicate(field))
            .collect()
    }

    /// The fields of that kind.
    pub fn of_kind(&self, kind: Kind) -> Vec<&Field> {
        let indexes = self.by_kind.get(&kind).map_or(&[][..], Vec::as_slice);
        indexes.iter().map(|index| &self.fields[*index]).collect()
    }

    /// The fields whose path begins with `prefix`.
    pub fn under<'a>(&'a self, prefix: &'a str) -> Vec<&'a Field> {
        self.filter(move |field| field.path.starts_with(prefix))
    }

    /// The classes of fields, with the fields of each.
    pub fn classes(&self) -> impl Iterator<Item = (&str, Vec<&Field>)> {
        self.by_class.iter().map(|(name, indexes)| {
            let fields = indexes.iter().map(|index| &self.fields[*index]);
            (name.as_str(), fields.collect())
        })
    }

    /// The class of the field of that path: `l2[].entry[].offset` of `l2[3].entry[17].offset`,
    /// `ext 0x6803f857.length` of that field of a header extension of this type.
    pub fn class(&self, path: &str) -> String {
        class(path, &self.extensions)
    }

    /// The fields of one structure (`header`, `l2`, `snapshot`, …), each as likely
    /// as the others, so that a large table is not drawn more often than a small
    /// header.
    pub fn draw_structure(&self, rng: &mut Rng) -> Vec<&Field> {
        let indexes = rng.pick(&self.by_structure).map_or(&[][..], Vec::as_slice);
        indexes.iter().map(|index| &self.fields[*index]).collect()
    }

    /// Offsets of everything that a field points to: the tables, the clusters
    /// and the start of the file. In ascending order.
    pub fn places(&self) -> &[u64] {
        &self.places
    }
}

/// What the paths of header extensions begin with.
const EXTENSION: &str = "ext[";

/// The class of a path, where these are the types of header extensions.
fn class(path: &str, extensions: &BTreeMap<String, u64>) -> String {
    let extension = path.split_once('.').and_then(|(first, rest)| {
        let magic = extensions.get(first)?;
        Some((format!("ext {magic:#010x}."), rest))
    });
    let (mut class, rest) = extension.unwrap_or((String::new(), path));
    let mut in_index = false;
    for letter in rest.chars() {
        in_index = in_index && letter != ']' || letter == '[';
        if !in_index || letter == '[' {
            class.push(letter);
        }
    }
    class
}

/// The structure that a path begins with, without its index; tables of snapshots
/// and bitmaps are structures of their own.
pub fn structure(path: &str) -> &str {
    let first = path.split(['[', '.']).next().unwrap_or(path);
    let nested = ["l1", "l2", "table"];
    if first != path
        && let Some((_, rest)) = path.split_once("].")
        && let Some(name) = rest.split(['[', '.']).next()
        && nested.contains(&name)
    {
        return if name == "table" {
            "bitmap_table"
        } else {
            name
        };
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_has_no_indexes_but_the_type_of_an_extension() {
        let extensions = [("ext[1]".to_owned(), 0x6803_f857)].into();
        let class = |path| class(path, &extensions);
        assert_eq!(class("l2[3].entry[17].offset"), "l2[].entry[].offset");
        assert_eq!(class("ext[1].length"), "ext 0x6803f857.length");
        assert_eq!(
            class("ext[1].feature[7].bit"),
            "ext 0x6803f857.feature[].bit"
        );
        assert_eq!(class("ext[2].length"), "ext[].length");
        assert_eq!(class("header.l1_size"), "header.l1_size");
    }

    #[test]
    fn a_path_belongs_to_a_structure() {
        for (path, expected) in [
            ("header.l1_size", "header"),
            ("backing_file_name", "backing_file_name"),
            ("l2[3].entry[17].offset", "l2"),
            ("snapshot[0].l1[2].offset", "l1"),
            ("snapshot[0].l1_size", "snapshot"),
            ("bitmap[1].table[0].offset", "bitmap_table"),
            ("bitmap[1].flags.auto", "bitmap"),
        ] {
            assert_eq!(structure(path), expected, "{path}");
        }
    }
}
