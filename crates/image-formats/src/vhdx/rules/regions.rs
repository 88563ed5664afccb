//! Rules of the region tables.

use std::collections::BTreeSet;

use super::table::{
    REGION_ALIGNED, REGION_COUNT, REGION_FLAG, REGION_INSIDE, REGION_LENGTH, REGION_MISSING,
    REGION_REQUIRED, REGION_RESERVED, REGION_SIGNATURE, REGION_TABLE, REGION_UNIQUE,
};
use crate::checker::Checker;
use crate::guid;
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;
use crate::vhdx::layout::{
    BAT, Layout, MAX_ENTRIES, METADATA, MIB, REGION_TABLES, Region, TABLE_BYTES, is_intact,
};

/// The name of a region in paths.
pub(super) fn name(table: usize, index: usize, region: &Region) -> String {
    match region.guid {
        BAT => format!("region_table[{table}].bat"),
        METADATA => format!("region_table[{table}].metadata"),
        _ => format!("region_table[{table}].entry[{index}]"),
    }
}

pub(super) fn check(source: &Store, layout: &Layout, checker: &mut Checker) {
    for (index, at) in REGION_TABLES.into_iter().enumerate() {
        let signature = source.read_vec(at, 4);
        let path = format!("region_table[{index}].signature");
        checker.require(signature == b"regi", (&path, at, REGION_SIGNATURE), || {
            format!("must be regi, is {}", signature.escape_ascii())
        });
    }
    let intact = |at: u64| is_intact(source, (at, TABLE_BYTES), b"regi");
    let any = REGION_TABLES.into_iter().any(intact);
    let at = ("region_table[0]", REGION_TABLES[0], REGION_TABLE);
    checker.require(any, at, || {
        "no copy of the region table has signature and checksum".to_owned()
    });
    let table = REGION_TABLES[layout.table];
    let path = |name: &str| format!("region_table[{}].{name}", layout.table);
    let count = number(source, table + 8, 4, Little);
    checker.require(
        count <= MAX_ENTRIES,
        (&path("entry_count"), table + 8, REGION_COUNT),
        || format!("must be at most {MAX_ENTRIES}, is {count}"),
    );
    let reserved = number(source, table + 12, 4, Little);
    checker.require(
        reserved == 0,
        (&path("reserved"), table + 12, REGION_RESERVED),
        || format!("must be 0, is {reserved:#x}"),
    );
    for (missing, name) in [(layout.bat, "BAT"), (layout.metadata, "metadata")] {
        let at = (path("entry_count"), table + 8, REGION_MISSING);
        checker.require(missing.is_some(), (&at.0, at.1, at.2), || {
            format!("the table has no {name} region")
        });
    }
    let mut known = BTreeSet::new();
    let most = checker.scope.budget(MAX_ENTRIES);
    for (index, region) in Region::all(source, table, most).iter().enumerate() {
        let name = name(layout.table, index, region);
        let once = known.insert(region.guid);
        let at = (format!("{name}.guid"), region.at, REGION_UNIQUE);
        checker.require(once, (&at.0, at.1, at.2), || {
            format!("{} is there twice", guid::text(&region.guid))
        });
        check_region(source, (&name, region), checker);
    }
}

fn check_region(source: &Store, (name, region): (&str, &Region), checker: &mut Checker) {
    let path = |field: &str| format!("{name}.{field}");
    let (offset, length) = (region.offset, region.length);
    let aligned = offset.is_multiple_of(MIB) && offset > 0;
    checker.require(
        aligned,
        (&path("file_offset"), region.at + 16, REGION_ALIGNED),
        || format!("must be a multiple of 1 MiB and not 0, is {offset:#x}"),
    );
    let whole = length.is_multiple_of(MIB) && length > 0;
    checker.require(
        whole,
        (&path("length"), region.at + 24, REGION_LENGTH),
        || format!("must be a multiple of 1 MiB and not 0, is {length:#x}"),
    );
    let end = offset.checked_add(length);
    let inside = end.is_some_and(|end| end <= source.len());
    checker.require(
        inside,
        (&path("file_offset"), region.at + 16, REGION_INSIDE),
        || format!("the region of {length:#x} bytes at {offset:#x} is not within the file"),
    );
    let required = region.required;
    checker.require(
        required <= 1,
        (&path("required"), region.at + 28, REGION_FLAG),
        || format!("must be 0 or 1, is {required:#x}"),
    );
    let known = matches!(region.guid, BAT | METADATA);
    checker.require(
        known || required & 1 == 0,
        (&path("required"), region.at + 28, REGION_REQUIRED),
        || format!("the region {} is not known", guid::text(&region.guid)),
    );
}
