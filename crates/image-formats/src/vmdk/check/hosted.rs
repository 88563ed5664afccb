//! Checking sparse extents of hosted products.

use super::super::layout::{
    AT_END, COMPRESSED, Hosted, KNOWN_FLAGS, SECTOR, TABLE_ENTRIES, ZEROED_GRAINS, footer_at,
};
use super::super::map::{MOST_CAPACITY, MOST_GRANULARITY, Map, Target};
use super::super::rules::{
    ALGORITHM, CAPACITY, COMPRESSION, DESCRIPTOR_INSIDE, DIRECTORY_INSIDE, FLAGS, FOOTER_THERE,
    GRANULARITY, MARKER, NUM_GTES, OVERHEAD_INSIDE, REDUNDANT_ENTRY, REDUNDANT_INSIDE, SMALL_GRAIN,
    UNCLEAN, VERSION, ZEROED_VERSION,
};
use super::grains::{ENTRIES, directory, table_inside, tables};
use super::zeros;
use crate::checker::{Checker, Scope};
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;

/// Checks a sparse extent of hosted products.
pub(super) fn check(source: &Store, checker: &mut Checker) {
    let header = Hosted::read(source, 0);
    header_fields(source, header, checker);
    let footer = footer_at(source, header);
    let at = ("header.gd_offset", 56, FOOTER_THERE);
    checker.require(header.gd != AT_END || footer.is_some(), at, || {
        "is all ones, but the file has no room for a footer".to_owned()
    });
    if let Some(at) = footer {
        let count = number(source, at - SECTOR, 8, Little);
        let marker = ("footer_marker.sectors", at - SECTOR, MARKER);
        checker.require(count == 1, marker, || format!("must be 1, is {count}"));
        for (path, marker) in [("footer_marker", at - SECTOR), ("end_marker", at + SECTOR)] {
            let size = number(source, marker + 8, 4, Little);
            let path = format!("{path}.size");
            checker.require(size == 0, (&path, marker + 8, MARKER), || {
                format!("must be 0, is {size}")
            });
        }
    }
    let Some(map) = Map::read(source) else {
        return;
    };
    let only_text = header.capacity == 0 && header.descriptor().is_some();
    if !only_text {
        let gd = Hosted::in_force(source).gd;
        let in_footer = footer.is_some();
        let (path, at) = match (in_footer, footer) {
            (true, Some(at)) => ("footer.gd_offset", at + 56),
            _ => ("header.gd_offset", 56),
        };
        if header.gd != AT_END || in_footer {
            directory(source, map, (path, at, gd), DIRECTORY_INSIDE, checker);
        }
    }
    if let Some(redundant) = map.redundant {
        redundant_directory(source, map, redundant, checker);
    }
    tables(source, map, header.overhead, checker);
}

fn header_fields(source: &Store, header: Hosted, checker: &mut Checker) {
    let version = header.version;
    let known = (1..=3).contains(&version);
    checker.require(known, ("header.version", 4, VERSION), || {
        format!("must be 1 to 3, is {version}")
    });
    let unknown = header.flags & !KNOWN_FLAGS;
    checker.require(unknown == 0, ("header.flags", 8, FLAGS), || {
        format!("must have bits 0 to 2, 16 and 17 only, has {unknown:#x}")
    });
    let zeroed = header.flags & ZEROED_GRAINS != 0;
    let at = ("header.flags.zeroed_grains", 8, ZEROED_VERSION);
    checker.require(!zeroed || version != 1, at, || {
        "must be 0 in version 1".to_owned()
    });
    let algorithm = header.algorithm;
    let at = ("header.compress_algorithm", 77, ALGORITHM);
    checker.require(algorithm <= 1, at, || {
        format!("must be 0 or 1, is {algorithm}")
    });
    let flag = header.flags & COMPRESSED != 0;
    let at = ("header.flags.compressed", 8, COMPRESSION);
    checker.require(flag == (algorithm != 0), at, || {
        format!("must go with compress_algorithm, which is {algorithm}")
    });
    sizes(source, header, checker);
    let unclean = header.unclean;
    let at = ("header.unclean_shutdown", 72, UNCLEAN);
    checker.require(unclean <= 1, at, || format!("must be 0 or 1, is {unclean}"));
    zeros(source, ("header.padding", 79, 433), checker);
}

fn sizes(source: &Store, header: Hosted, checker: &mut Checker) {
    let sectors = source.len().div_ceil(SECTOR);
    let capacity = header.capacity;
    let only_text = capacity == 0 && header.descriptor().is_some();
    let fits = (1..=MOST_CAPACITY).contains(&capacity) || only_text;
    checker.require(fits, ("header.capacity", 12, CAPACITY), || {
        format!("must be 1 to 2^54 sectors, is {capacity}")
    });
    let granularity = header.granularity;
    let power = granularity.is_power_of_two() && granularity <= MOST_GRANULARITY;
    checker.require(power, ("header.granularity", 20, GRANULARITY), || {
        format!("must be a power of two, at most 2^31, is {granularity}")
    });
    let at = ("header.granularity", 20, SMALL_GRAIN);
    checker.require(granularity > 8, at, || {
        format!("must be more than 8, is {granularity}")
    });
    let gtes = header.gtes;
    let rule = NUM_GTES.only_if(gtes == 0 || gtes > TABLE_ENTRIES);
    let at = ("header.num_gtes_per_gt", 44, rule);
    checker.require(gtes == TABLE_ENTRIES, at, || {
        format!("must be 512, is {gtes}")
    });
    let (from, size) = (header.desc_offset, header.desc_size);
    let end = from.checked_add(size);
    let inside = end.is_some_and(|end| end <= sectors) && (from > 0 || size == 0);
    let at = ("header.desc_offset", 28, DESCRIPTOR_INSIDE);
    checker.require(inside, at, || {
        format!("{size} sectors from {from} on are not between the header and the end of the file")
    });
    let overhead = header.overhead;
    let at = ("header.grain_offset", 64, OVERHEAD_INSIDE);
    checker.require((1..=sectors).contains(&overhead), at, || {
        format!("must be 1 to {sectors}, the sectors of the file, is {overhead}")
    });
}

fn redundant_directory(source: &Store, map: Map, redundant: u64, checker: &mut Checker) {
    let at = ("header.rgd_offset", 48, redundant / SECTOR);
    directory(source, map, at, REDUNDANT_INSIDE, checker);
    if checker.scope == Scope::Binding {
        return;
    }
    for index in 0..map.tables_in_file(source).min(ENTRIES) {
        let [one, two] = [map.directory, redundant].map(|at| map.table(source, at, index));
        let same = (one == Target::Unallocated) == (two == Target::Unallocated);
        let path = format!("redundant_grain_directory[{index}]");
        let at = map.entry_at(redundant, index);
        checker.require(same, (&path, at, REDUNDANT_ENTRY), || {
            "must be 0 exactly where the other directory has 0".to_owned()
        });
        table_inside(source, map, (&path, at, two), checker);
    }
}
