//! The structures of an image that have fields, and their paths.

use crate::path::{Path, Segment};
use crate::qcow2::read::layout::Disk;

/// A structure with fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Header,
    BackingName,
    Extension(usize),
    Feature(usize, u64),
    RefcountTable(u64),
    Refcount(u64, u64),
    L1(Disk, u64),
    L2(Disk, u64, u64),
    Snapshot(usize),
    Bitmap(usize),
    BitmapTable(usize, u64),
    Luks,
    LuksSlot(u64),
}

impl Node {
    /// The path of its fields, up to their names.
    pub(crate) fn path(self) -> String {
        let disk = |disk| match disk {
            Disk::Active => String::new(),
            Disk::Snapshot(index) => format!("snapshot[{index}]."),
        };
        match self {
            Self::Header => "header".to_owned(),
            Self::BackingName => "backing_file_name".to_owned(),
            Self::Extension(i) => format!("ext[{i}]"),
            Self::Feature(i, j) => format!("ext[{i}].feature[{j}]"),
            Self::RefcountTable(i) => format!("refcount_table[{i}]"),
            Self::Refcount(i, j) => format!("refcount_block[{i}].entry[{j}]"),
            Self::L1(d, i) => format!("{}l1[{i}]", disk(d)),
            Self::L2(d, i, j) => format!("{}l2[{i}].entry[{j}]", disk(d)),
            Self::Snapshot(i) => format!("snapshot[{i}]"),
            Self::Bitmap(i) => format!("bitmap[{i}]"),
            Self::BitmapTable(i, j) => format!("bitmap[{i}].table[{j}]"),
            Self::Luks => "luks".to_owned(),
            Self::LuksSlot(i) => format!("luks.key_slot[{i}]"),
        }
    }

    /// Splits a path into its node and the name of the field in it.
    pub(crate) fn resolve(path: &Path) -> Option<(Self, String)> {
        let segments = path.segments();
        let (node, used) = match as_slices(segments).as_slice() {
            [("snapshot", Some(s)), rest @ ..] => {
                let index = usize::try_from(*s).ok()?;
                match disk_node(Disk::Snapshot(index), rest) {
                    Some((node, used)) => (node, used + 1),
                    None => (Node::Snapshot(index), 1),
                }
            }
            [("header", None), ..] => (Node::Header, 1),
            [("backing_file_name", None), ..] => (Node::BackingName, 1),
            [("ext", Some(i)), ("feature", Some(j)), ..] => {
                (Node::Feature(usize::try_from(*i).ok()?, *j), 2)
            }
            [("ext", Some(i)), ..] => (Node::Extension(usize::try_from(*i).ok()?), 1),
            [("refcount_table", Some(i)), ..] => (Node::RefcountTable(*i), 1),
            [("refcount_block", Some(i)), ("entry", Some(j)), ..] => (Node::Refcount(*i, *j), 2),
            [("bitmap", Some(i)), ("table", Some(j)), ..] => {
                (Node::BitmapTable(usize::try_from(*i).ok()?, *j), 2)
            }
            [("bitmap", Some(i)), ..] => (Node::Bitmap(usize::try_from(*i).ok()?), 1),
            [("luks", None), ("key_slot", Some(i)), ..] => (Node::LuksSlot(*i), 2),
            [("luks", None), ..] => (Node::Luks, 1),
            rest => disk_node(Disk::Active, rest)?,
        };
        let name: Vec<String> = segments[used..].iter().map(ToString::to_string).collect();
        Some((node, name.join(".")))
    }
}

fn as_slices(segments: &[Segment]) -> Vec<(&str, Option<u64>)> {
    segments
        .iter()
        .map(|segment| (segment.name.as_str(), segment.index))
        .collect()
}

/// A node below a disk, and how many steps of the path it takes.
fn disk_node(disk: Disk, rest: &[(&str, Option<u64>)]) -> Option<(Node, usize)> {
    match rest {
        [("l1", Some(i)), ..] => Some((Node::L1(disk, *i), 1)),
        [("l2", Some(i)), ("entry", Some(j)), ..] => Some((Node::L2(disk, *i, *j), 2)),
        _ => None,
    }
}
