//! Rules of snapshots and bitmaps.

use std::collections::BTreeSet;

use super::Checker;
use crate::qcow2::entries::OFFSET_MASK;
use crate::qcow2::read::layout::{BitmapAt, SnapshotAt};
use crate::qcow2::read::scan::used_entries;
use crate::qcow2::records::{BITMAP_FIXED, SNAPSHOT_FIXED};
use crate::qcow2::sections::{BITMAP_TABLE, DIRECTORY, SNAPSHOTS};
use crate::qcow2::types::Geometry;
use crate::value::read_be;

/// Most bytes of names that are compared.
const COMPARED: u64 = 1024;

pub(crate) fn check(checker: &mut Checker<'_>, geometry: Geometry) {
    let layout = checker.layout;
    let mut ids = BTreeSet::new();
    for (index, snapshot) in layout.snapshots.iter().enumerate() {
        snapshot_rules(checker, geometry, index, snapshot);
        let at = snapshot.offset + SNAPSHOT_FIXED + snapshot.extra;
        let id = (
            snapshot.id,
            checker
                .source
                .read_vec(at, snapshot.id.min(COMPARED) as usize),
        );
        let path = format!("snapshot[{index}].id");
        checker.require(ids.insert(id), (&path, at, SNAPSHOTS), || {
            "another snapshot has the same ID".to_owned()
        });
    }
    let mut names = BTreeSet::new();
    for (index, bitmap) in layout.bitmaps.iter().enumerate() {
        bitmap_rules(checker, geometry, index, bitmap);
        bitmap_table(checker, geometry, index, bitmap);
        let at = bitmap.offset + BITMAP_FIXED + bitmap.extra;
        let name = (
            bitmap.name,
            checker
                .source
                .read_vec(at, bitmap.name.min(COMPARED) as usize),
        );
        let path = format!("bitmap[{index}].name");
        checker.require(names.insert(name), (&path, at, DIRECTORY), || {
            "another bitmap has the same name".to_owned()
        });
    }
}

fn snapshot_rules(
    checker: &mut Checker<'_>,
    geometry: Geometry,
    index: usize,
    snapshot: &SnapshotAt,
) {
    let header = &checker.layout.header;
    let field = |name: &str| format!("snapshot[{index}].{name}");
    let path = field("l1_table_offset");
    checker.table(snapshot.l1, geometry, (&path, snapshot.offset, SNAPSHOTS));
    let extra = snapshot.extra;
    let path = field("extra_data_size");
    checker.require(
        header.version < 3 || extra >= 16,
        (&path, snapshot.offset + 36, SNAPSHOTS),
        || format!("must be at least 16 in version 3, is {extra}"),
    );
    let size = if extra >= 16 {
        checker.source.read_u64(snapshot.offset + 48)
    } else {
        header.size
    };
    let needed = geometry.l1_entries_for(size);
    let path = field("l1_size");
    checker.require(
        snapshot.l1.declared >= needed,
        (&path, snapshot.offset + 8, SNAPSHOTS),
        || {
            format!(
                "must be at least {needed} for the disk size, is {}",
                snapshot.l1.declared
            )
        },
    );
    let end = snapshot.offset.saturating_add(snapshot.len());
    let inside = end <= checker.layout.end;
    checker.require(inside, (&field("name"), snapshot.offset, SNAPSHOTS), || {
        format!("the entry ends at {end:#x}, past the end of the file")
    });
}

fn bitmap_rules(checker: &mut Checker<'_>, geometry: Geometry, index: usize, bitmap: &BitmapAt) {
    let size = checker.layout.header.size;
    let fixed = checker
        .source
        .read_vec(bitmap.offset, BITMAP_FIXED as usize);
    let field = |name: &str| format!("bitmap[{index}].{name}");
    let path = field("table_offset");
    checker.table(bitmap.table, geometry, (&path, bitmap.offset, DIRECTORY));
    let reserved = read_be(&fixed[12..16]) & !7;
    let path = field("flags");
    checker.require(
        reserved == 0,
        (&path, bitmap.offset + 12, DIRECTORY),
        || format!("reserved bits {reserved:#x} are set"),
    );
    let kind = fixed[16];
    let path = field("type");
    checker.require(kind == 1, (&path, bitmap.offset + 16, DIRECTORY), || {
        format!("must be 1, is {kind}")
    });
    let granularity = fixed[17];
    let path = field("granularity_bits");
    checker.require(
        granularity <= 63,
        (&path, bitmap.offset + 17, DIRECTORY),
        || format!("must be at most 63, is {granularity}"),
    );
    let path = field("name_size");
    checker.require(
        bitmap.name > 0,
        (&path, bitmap.offset + 18, DIRECTORY),
        || "must not be 0".to_owned(),
    );
    let path = field("extra_data_size");
    checker.require(
        bitmap.extra == 0,
        (&path, bitmap.offset + 20, DIRECTORY),
        || format!("should be 0, is {}", bitmap.extra),
    );
    let bits = size.div_ceil(1_u64.checked_shl(granularity.into()).unwrap_or(u64::MAX));
    let needed = geometry.clusters_for(bits.div_ceil(8));
    let path = field("table_size");
    checker.require(
        bitmap.table.declared >= needed,
        (&path, bitmap.offset + 8, DIRECTORY),
        || {
            format!(
                "must be at least {needed} for the virtual disk, is {}",
                bitmap.table.declared
            )
        },
    );
}

fn bitmap_table(checker: &mut Checker<'_>, geometry: Geometry, index: usize, bitmap: &BitmapAt) {
    let end = checker.layout.end;
    for entry in used_entries(checker.source, bitmap.table) {
        let Some(offset) = bitmap.table.entry(entry) else {
            return;
        };
        let word = checker.source.read_u64(offset);
        let target = word & OFFSET_MASK;
        let allowed = if target == 0 { 1 } else { 0 };
        let reserved = word & !(OFFSET_MASK | allowed);
        let path = format!("bitmap[{index}].table[{entry}]");
        let at = (path.as_str(), offset, BITMAP_TABLE);
        checker.require(reserved == 0, at, || {
            format!("reserved bits {reserved:#x} are set")
        });
        checker.require(geometry.is_aligned(target) && target < end, at, || {
            format!(
                "the cluster at {target:#x} is not cluster aligned or is past the end of the file"
            )
        });
    }
}
