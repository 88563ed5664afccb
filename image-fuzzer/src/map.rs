//! The fields of a base image, as the families choose among them.

use std::collections::BTreeMap;

use image_formats::{Field, Kind};

/// The fields of one image, in the order of its structures.
#[derive(Clone, Debug, Default)]
pub struct Map {
    fields: Vec<Field>,
    by_path: BTreeMap<String, usize>,
    /// Length of the image file in bytes.
    pub file_len: u64,
    /// Bytes in a cluster.
    pub cluster: u64,
}

impl Map {
    /// A map of `fields`, of an image of `file_len` bytes with clusters of `cluster`.
    pub fn new(fields: Vec<Field>, file_len: u64, cluster: u64) -> Self {
        let by_path = fields
            .iter()
            .enumerate()
            .map(|(index, field)| (field.path.clone(), index))
            .collect();
        Self {
            fields,
            by_path,
            file_len,
            cluster,
        }
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

    /// The fields that `wanted` accepts.
    pub fn filter<'a>(&'a self, wanted: impl Fn(&Field) -> bool + 'a) -> Vec<&'a Field> {
        self.fields.iter().filter(|field| wanted(field)).collect()
    }

    /// The fields of that kind.
    pub fn of_kind(&self, kind: Kind) -> Vec<&Field> {
        self.filter(move |field| field.kind == kind)
    }

    /// The fields whose path begins so.
    pub fn under<'a>(&'a self, prefix: &'a str) -> Vec<&'a Field> {
        self.filter(move |field| field.path.starts_with(prefix))
    }

    /// The structures the fields belong to (`header`, `l2`, `snapshot`, …), each
    /// with its fields, so that a large table is not drawn more often than a
    /// small header.
    pub fn structures(&self) -> Vec<(String, Vec<&Field>)> {
        let mut structures: BTreeMap<String, Vec<&Field>> = BTreeMap::new();
        for field in &self.fields {
            structures
                .entry(structure(&field.path).to_owned())
                .or_default()
                .push(field);
        }
        structures.into_iter().collect()
    }

    /// Offsets of everything that something points to: the tables, the clusters
    /// and the start of the file.
    pub fn places(&self) -> Vec<u64> {
        let mut places: Vec<u64> = self
            .of_kind(Kind::Offset)
            .iter()
            .filter_map(|field| field.value.as_uint())
            .filter(|offset| *offset < self.file_len)
            .collect();
        places.push(0);
        places.sort_unstable();
        places.dedup();
        places
    }
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
        return if name == "table" { "bitmap_table" } else { name };
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

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
