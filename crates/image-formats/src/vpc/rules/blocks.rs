//! Rules of the block allocation table and of what it leads to.

use super::table::{BLOCK_INSIDE, OVERLAP};
use crate::checker::Checker;
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::vpc::layout::{DYNAMIC_BYTES, Dynamic, Layout, SECTOR, UNUSED};
use crate::vpc::locator;

/// The most entries of the table that are looked at.
const ENTRIES: u64 = 1 << 20;

/// What a part of the file belongs to.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Copy,
    Dynamic,
    Table,
    Locator(u64),
    Block(u64),
    Footer,
}

impl Owner {
    /// The field that says where it is.
    fn path(self) -> String {
        match self {
            Self::Copy => "header".to_owned(),
            Self::Dynamic => "footer.data_offset".to_owned(),
            Self::Table => "dynamic.table_offset".to_owned(),
            Self::Locator(index) => {
                format!("dynamic.parent_locator[{index}].platform_data_offset")
            }
            Self::Block(block) => format!("bat[{block}]"),
            Self::Footer => "footer".to_owned(),
        }
    }
}

/// A part of the file: where it begins and ends, whose it is, and where the field is that says so.
type Part = (u64, u64, Owner, u64);

pub(super) fn check(source: &Store, layout: &Layout, dynamic: &Dynamic, checker: &mut Checker) {
    let mut parts: Vec<Part> = Vec::new();
    let mut add = |from: u64, len: u64, owner, at| {
        parts.push((from, from.saturating_add(len), owner, at));
    };
    if let Some(copy) = layout.copy {
        add(copy.at, SECTOR, Owner::Copy, copy.at);
    }
    if let Some(last) = layout.last {
        add(last.at, SECTOR, Owner::Footer, last.at);
    }
    let footer = layout.footer.map_or(0, |footer| footer.at);
    add(dynamic.at, DYNAMIC_BYTES, Owner::Dynamic, footer + 16);
    add(
        dynamic.table,
        dynamic.entries * 4,
        Owner::Table,
        dynamic.at + 16,
    );
    for locator in locator::read(source, dynamic) {
        let owner = Owner::Locator(locator.index);
        add(locator.offset, locator.whole_length, owner, locator.at + 16);
    }
    if dynamic.has_geometry() {
        blocks(source, layout, dynamic, &mut parts, checker);
    }
    overlaps(parts, checker);
}

fn blocks(
    source: &Store,
    layout: &Layout,
    dynamic: &Dynamic,
    parts: &mut Vec<Part>,
    checker: &mut Checker,
) {
    let there = source.len().saturating_sub(dynamic.table) / 4;
    let most = checker.scope.budget(ENTRIES).min(there);
    let needed = layout.disk_size().div_ceil(dynamic.block_size);
    let length = dynamic.bitmap_bytes() + dynamic.block_size;
    for block in 0..needed.min(dynamic.entries).min(most) {
        let entry = dynamic.entry(source, block);
        if entry == UNUSED {
            continue;
        }
        let (from, at) = (entry * SECTOR, dynamic.entry_at(block));
        let inside = from + length <= source.len();
        let path = Owner::Block(block).path();
        checker.require(inside, (&path, at, BLOCK_INSIDE), || {
            format!("the block at {from:#x} is not within the file")
        });
        parts.push((from, from + length, Owner::Block(block), at));
    }
}

/// Each part of the file belongs to one thing.
fn overlaps(mut parts: Vec<Part>, checker: &mut Checker) {
    parts.retain(|(from, end, ..)| from < end);
    parts.sort_by_key(|(from, ..)| *from);
    let mut last: Option<Part> = None;
    for part in parts {
        let (from, end, owner, at) = part;
        if let Some((_, before, other, _)) = last
            && from < before
        {
            let path = owner.path();
            checker.require(false, (&path, at, OVERLAP), || {
                format!("{from:#x} is within what {} has", other.path())
            });
        }
        if last.is_none_or(|(_, before, ..)| end > before) {
            last = Some(part);
        }
    }
}
