//! Rules of snapshots and bitmaps.

use std::collections::BTreeSet;

use super::{Checker, table};
use crate::defect::Rule;
use crate::qcow2::entries::OFFSET_MASK;
use crate::qcow2::header::Autoclear;
use crate::qcow2::read::layout::{BitmapAt, SnapshotAt};
use crate::qcow2::read::scan::used_entries;
use crate::qcow2::records::{BITMAP_FIXED, EXT_BITMAPS, SNAPSHOT_FIXED};
use crate::qcow2::types::Geometry;
use crate::value::read_be;

/// Flag of a bitmap whose data are inconsistent.
const IN_USE: u64 = 1;
/// Most records that are checked.
const RECORDS: u64 = 65536;
/// Most bytes of names that are compared.
const COMPARED: u64 = 1024;

pub(crate) fn check(checker: &mut Checker<'_>, geometry: Geometry) {
    let layout = checker.layout;
    let mut ids = BTreeSet::new();
    let most = checker.notes.scope.budget(RECORDS) as usize;
    for (index, snapshot) in layout.snapshots.iter().enumerate().take(most) {
        snapshot_rules(checker, geometry, index, snapshot);
        let at = snapshot.offset + SNAPSHOT_FIXED + snapshot.extra;
        let id = (
            snapshot.id,
            checker
                .source
                .read_vec(at, snapshot.id.min(COMPARED) as usize),
        );
        let path = format!("snapshot[{index}].id");
        let only = ids.insert(id);
        checker.require(only, (&path, at, table::SNAPSHOT_ID), || {
            "another snapshot has the same ID".to_owned()
        });
    }
    let mut names = BTreeSet::new();
    for (index, bitmap) in layout.bitmaps.iter().enumerate().take(most) {
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
        let only = names.insert(name);
        let rule = table::BITMAP_NAME_ONCE.only_if(claims_bitmaps(checker));
        checker.require(only, (&path, at, rule), || {
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
    let rules = [table::SNAPSHOT_L1, table::SNAPSHOT_L1_INSIDE];
    checker.table(snapshot.l1, geometry, (&path, snapshot.offset), rules);
    let extra = snapshot.extra;
    let path = field("extra_data_size");
    checker.require(
        header.version < 3 || extra >= 16,
        (&path, snapshot.offset + 36, table::SNAPSHOT_EXTRA),
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
        (&path, snapshot.offset + 8, table::SNAPSHOT_L1_SIZE),
        || {
            format!(
                "must be at least {needed} for the disk size, is {}",
                snapshot.l1.declared
            )
        },
    );
    let end = snapshot.offset.saturating_add(snapshot.len());
    let inside = end <= checker.layout.end;
    let at = (&*field("name"), snapshot.offset, table::SNAPSHOT_INSIDE);
    checker.require(inside, at, || {
        format!("the entry ends at {end:#x}, past the end of the file")
    });
}

/// Whether the bitmaps are to be used at all, and it is known which they are: with two of
/// their extensions, it is open whose directory counts.
pub(super) fn claims_bitmaps(checker: &Checker<'_>) -> bool {
    let layout = checker.layout;
    let mut all = layout.extensions.iter();
    let once =
        all.by_ref().any(|ext| ext.kind == EXT_BITMAPS) && !all.any(|ext| ext.kind == EXT_BITMAPS);
    layout.header.autoclear.contains(Autoclear::BITMAPS) && once
}

fn bitmap_rules(checker: &mut Checker<'_>, geometry: Geometry, index: usize, bitmap: &BitmapAt) {
    let size = checker.layout.header.size;
    let fixed = checker
        .source
        .read_vec(bitmap.offset, BITMAP_FIXED as usize);
    let field = |name: &str| format!("bitmap[{index}].{name}");
    // Without the feature bit all bitmaps are to be ignored.
    let used = claims_bitmaps(checker);
    let binding = |rule: Rule| rule.only_if(used);
    let path = field("table_offset");
    let rules = [binding(table::BITMAP_TABLE), table::BITMAP_TABLE_INSIDE];
    checker.table(bitmap.table, geometry, (&path, bitmap.offset), rules);
    let flags = read_be(&fixed[12..16]);
    let reserved = flags & !7;
    let path = field("flags");
    checker.require(
        reserved == 0,
        (&path, bitmap.offset + 12, binding(table::BITMAP_FLAGS)),
        || format!("reserved bits {reserved:#x} are set"),
    );
    let kind = fixed[16];
    let path = field("type");
    let at = (&*path, bitmap.offset + 16, binding(table::BITMAP_TYPE));
    checker.require(kind == 1, at, || format!("must be 1, is {kind}"));
    let granularity = fixed[17];
    let path = field("granularity_bits");
    checker.require(
        granularity <= 63,
        (
            &path,
            bitmap.offset + 17,
            binding(table::BITMAP_GRANULARITY),
        ),
        || format!("must be at most 63, is {granularity}"),
    );
    let path = field("name_size");
    checker.require(
        bitmap.name > 0,
        (&path, bitmap.offset + 18, binding(table::BITMAP_NAME)),
        || "must not be 0".to_owned(),
    );
    let path = field("extra_data_size");
    checker.require(
        bitmap.extra == 0,
        (&path, bitmap.offset + 20, table::BITMAP_EXTRA),
        || format!("should be 0, is {}", bitmap.extra),
    );
    let bits = size.div_ceil(1_u64.checked_shl(granularity.into()).unwrap_or(u64::MAX));
    let needed = geometry.clusters_for(bits.div_ceil(8));
    let path = field("table_size");
    // The data of one that is in use are to be ignored.
    let rule = binding(table::BITMAP_TABLE_SIZE).only_if(flags & IN_USE == 0);
    checker.require(
        bitmap.table.declared >= needed,
        (&path, bitmap.offset + 8, rule),
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
    let flags = checker.source.read_u64(bitmap.offset + 8);
    let used = claims_bitmaps(checker) && flags & IN_USE == 0;
    for entry in used_entries(checker.source, bitmap.table) {
        let Some(offset) = bitmap.table.entry(entry) else {
            return;
        };
        let word = checker.source.read_u64(offset);
        let target = word & OFFSET_MASK;
        let allowed = if target == 0 { 1 } else { 0 };
        let reserved = word & !(OFFSET_MASK | allowed);
        let path = format!("bitmap[{index}].table[{entry}]");
        let at = |rule: Rule| (path.as_str(), offset, rule.only_if(used));
        checker.require(reserved == 0, at(table::BITMAP_ENTRY_RESERVED), || {
            format!("reserved bits {reserved:#x} are set")
        });
        let aligned = geometry.is_aligned(target);
        checker.require(aligned, at(table::BITMAP_CLUSTER), || {
            format!("the cluster at {target:#x} is not cluster aligned")
        });
        checker.require(target < end, at(table::BITMAP_CLUSTER_INSIDE), || {
            format!("the cluster at {target:#x} is past the end of the file")
        });
    }
}
