//! Checking sparse extents of ESX Server.

use super::super::fields;
use super::super::layout::{SE_REGIONS, SE_VERSION as VERSION_2_1, SECTOR};
use super::super::map::{MOST_CAPACITY, MOST_GRANULARITY, Map, Target};
use super::super::rules::{
    CAPACITY, COWD_DIRECTORY, COWD_FLAGS, COWD_FREE, COWD_GRANULARITY, COWD_VERSION,
    DIRECTORY_INSIDE, SE_DIRECTORY, SE_FREE_TABLE, SE_GRAIN, SE_JOURNAL, SE_NUMBER, SE_REGION,
    SE_RESERVED, SE_TABLE, SE_VERSION, UNCLEAN,
};
use super::grains::{ENTRIES, directory, tables};
use super::zeros;
use crate::checker::{Checker, Scope};
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;

/// Checks a sparse extent of ESX Server.
pub(super) fn cowd(source: &Store, checker: &mut Checker) {
    let at = |offset| number(source, offset, 4, Little);
    let mut is = |offset, wanted: u64, path: &str, rule| {
        let found = at(offset);
        checker.require(found == wanted, (path, offset, rule), || {
            format!("must be {wanted}, is {found}")
        });
    };
    is(4, 1, "header.version", COWD_VERSION);
    is(8, 3, "header.flags", COWD_FLAGS);
    let granularity = at(16);
    let fits = (1..=MOST_GRANULARITY).contains(&granularity);
    let place = ("header.granularity", 16, COWD_GRANULARITY);
    checker.require(fits, place, || {
        format!("must be 1 to 2^31, is {granularity}")
    });
    let capacity = at(12);
    checker.require(capacity > 0, ("header.capacity", 12, CAPACITY), || {
        "must be at least 1, is 0".to_owned()
    });
    let unclean = at(1648);
    let place = ("header.unclean_shutdown", 1648, UNCLEAN);
    checker.require(unclean <= 1, place, || {
        format!("must be 0 or 1, is {unclean}")
    });
    zeros(source, ("header.reserved", 1640, 8), checker);
    zeros(source, ("header.padding", 1652, 396), checker);
    if !fields::is_child(source) {
        zeros(source, ("header.unused", 44, 1016), checker);
    }
    let free = at(28);
    let place = ("header.free_sector", 28, COWD_FREE);
    let sectors = source.len().div_ceil(SECTOR);
    checker.require((4..=sectors).contains(&free), place, || {
        format!("must be 4 to {sectors}, the sectors of the file, is {free}")
    });
    let Some(map) = Map::read(source) else {
        return;
    };
    let wanted = map.grains().div_ceil(map.per_table);
    let place = ("header.num_gd_entries", 24, COWD_DIRECTORY);
    checker.require(map.tables == wanted, place, || {
        format!("must be {wanted}, is {}", map.tables)
    });
    let place = ("header.gd_offset", 20, at(20));
    directory(source, map, place, DIRECTORY_INSIDE, checker);
    tables(source, map, 4, checker);
}

/// Checks a space-efficient sparse extent.
pub(super) fn se(source: &Store, checker: &mut Checker) {
    se_header(source, checker);
    let at = |offset| number(source, offset, 8, Little);
    let volatile = at(80).saturating_mul(SECTOR);
    let journal = number(source, volatile.saturating_add(24), 8, Little);
    let place = (
        "volatile_header.replay_journal",
        volatile.saturating_add(24),
    );
    checker.require(journal == 0, (place.0, place.1, SE_JOURNAL), || {
        format!("must be 0, is {journal}")
    });
    let padding = volatile.saturating_add(32);
    zeros(source, ("volatile_header.padding", padding, 480), checker);
    let Some(map) = Map::read(source) else {
        return;
    };
    let wanted = map.grains().div_ceil(map.per_table);
    let place = ("header.grain_dir_size", 136, SE_DIRECTORY);
    checker.require(map.tables >= wanted, place, || {
        let sectors = (wanted * 8).div_ceil(SECTOR);
        format!("must be at least {sectors}, for {wanted} tables")
    });
    let place = ("header.grain_dir_offset", 128, at(128));
    directory(source, map, place, DIRECTORY_INSIDE, checker);
    se_numbers(source, map, checker);
    tables(source, map, 1, checker);
}

fn se_header(source: &Store, checker: &mut Checker) {
    let at = |offset| number(source, offset, 8, Little);
    for (path, offset, wanted, rule) in [
        ("version", 8, VERSION_2_1, SE_VERSION),
        ("granularity", 24, 8, SE_GRAIN),
        ("grain_table_size", 32, 64, SE_TABLE),
        ("flags", 40, 0, SE_RESERVED),
        ("reserved1", 48, 0, SE_RESERVED),
        ("reserved2", 56, 0, SE_RESERVED),
        ("reserved3", 64, 0, SE_RESERVED),
        ("reserved4", 72, 0, SE_RESERVED),
    ] {
        let found = at(offset);
        let path = format!("header.{path}");
        checker.require(found == wanted, (&path, offset, rule), || {
            format!("must be {wanted:#x}, is {found:#x}")
        });
    }
    let capacity = at(16);
    let fits = (1..=MOST_CAPACITY).contains(&capacity);
    checker.require(fits, ("header.capacity", 16, CAPACITY), || {
        format!("must be 1 to 2^54 sectors, is {capacity}")
    });
    for (offset, name) in SE_REGIONS {
        let (from, size) = (at(offset), at(offset + 8));
        let end = from.checked_add(size);
        let end = end.and_then(|end| end.checked_mul(SECTOR));
        let inside = from > 0 && end.is_some_and(|end| end <= source.len());
        let path = format!("header.{name}_offset");
        checker.require(inside, (&path, offset, SE_REGION), || {
            format!(
                "{size} sectors from {from} on are not between the header and the end of the file"
            )
        });
    }
    zeros(source, ("header.padding", 208, 304), checker);
}

/// The numbers of grain tables must be within their region, and below the next free one.
fn se_numbers(source: &Store, map: Map, checker: &mut Checker) {
    let at = |offset| number(source, offset, 8, Little);
    let (tables, grains) = (at(152), at(200));
    let free_at = at(80).saturating_mul(SECTOR).saturating_add(8);
    let free = number(source, free_at, 8, Little);
    let mut next = 0;
    let mut budget = ENTRIES;
    for index in 0..map.tables_in_file(source).min(ENTRIES) {
        let Target::At(table) = map.table(source, map.directory, index) else {
            continue;
        };
        let entry = map.entry_at(map.directory, index);
        let which = number(source, entry, 4, Little);
        next = next.max(which + 1);
        let end = (which + 1).saturating_mul(map.table_bytes());
        let path = format!("grain_directory[{index}].table");
        let inside = end <= tables.saturating_mul(SECTOR);
        checker.require(inside, (&path, entry, SE_NUMBER), || {
            format!("table {which} is not one of the {tables} sectors of grain tables")
        });
        if checker.scope == Scope::Binding {
            continue;
        }
        let looked_at = map.per_table.min(budget);
        budget -= looked_at;
        for index_in_table in 0..looked_at {
            let Target::At(grain) = map.grain(source, table, index_in_table) else {
                continue;
            };
            let end = at(192).saturating_add(grains).saturating_mul(SECTOR);
            let inside = grain.saturating_add(map.grain_bytes()) <= end;
            let entry = map.entry_at(table, index_in_table);
            let path = format!("grain_table[{index}].entry[{index_in_table}].low");
            checker.require(inside, (&path, entry, SE_NUMBER), || {
                format!("the grain at {grain:#x} is not one of the {grains} sectors of grains")
            });
        }
    }
    let place = ("volatile_header.free_gt_number", free_at, SE_FREE_TABLE);
    checker.require(free >= next, place, || {
        format!("must be at least {next}, is {free}")
    });
}
