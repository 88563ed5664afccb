//! The rules of sparse extents.

use super::super::disk::decompress;
use super::super::fields;
use super::super::layout::{
    AT_END, COMPRESSED, DIRECTORY_MARKER, GRAIN_MARKER_LEN, Hosted, KNOWN_FLAGS, SE_REGIONS,
    SE_VERSION as VERSION_2_1, SECTOR, Shape, TABLE_ENTRIES, TABLE_MARKER, ZEROED_GRAINS,
    footer_at, is_marker,
};
use super::super::map::{MOST_CAPACITY, MOST_GRANULARITY, Map, Target};
use super::*;
use crate::checker::Scope;
use crate::defect::Rule;
use crate::io::ReadAt as _;
use crate::structure::number;
use crate::value::Endian::Little;

/// The most entries of tables that are looked at.
const ENTRIES: u64 = 1 << 20;
/// The most grains that are decompressed.
const DECOMPRESSED: u64 = 512;
/// The largest grain that is decompressed, in bytes.
const LARGEST_DECOMPRESSED: u64 = 1 << 20;

/// Checks a sparse extent of hosted products.
pub(super) fn hosted(source: &Store, checker: &mut Checker) {
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

/// A grain directory at sector `sector` must be within the file.
fn directory(
    source: &Store,
    map: Map,
    (path, at, sector): (&str, u64, u64),
    rule: Rule,
    checker: &mut Checker,
) {
    let end = map.tables.checked_mul(map.entry_bytes());
    let end = end.and_then(|len| sector.checked_mul(SECTOR)?.checked_add(len));
    let inside = sector > 0 && end.is_some_and(|end| end <= source.len());
    checker.require(inside, (path, at, rule), || {
        format!(
            "{} entries from sector {sector} on are not between the header and the end of the file",
            map.tables
        )
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

/// A grain table must be within the file; where it is, if it is.
fn table_inside(
    source: &Store,
    map: Map,
    (path, at, target): (&str, u64, Target),
    checker: &mut Checker,
) -> Option<u64> {
    let table = match target {
        Target::At(table) => table,
        Target::Invalid => {
            checker.require(false, (path, at, SE_ENTRY), || {
                "must be 0, or 0x10000000 and a number of 32 bits".to_owned()
            });
            return None;
        }
        Target::Unallocated | Target::Zeros => return None,
    };
    let end = table.checked_add(map.table_bytes());
    let inside = table >= SECTOR && end.is_some_and(|end| end <= source.len());
    checker.require(inside, (path, at, TABLE_INSIDE), || {
        format!("the table at {table:#x} is not between the header and the end of the file")
    });
    inside.then_some(table)
}

/// Checks all tables, and the grains that they lead to.
fn tables(source: &Store, map: Map, overhead: u64, checker: &mut Checker) {
    let mut grains = Grains {
        source,
        map,
        overhead: overhead.saturating_mul(SECTOR),
        used: Used::default(),
        decompressed: checker.scope.budget(DECOMPRESSED),
        checker,
    };
    grains.metadata();
    let mut budget = grains.checker.scope.budget(ENTRIES);
    for index in 0..map.tables_in_file(source).min(ENTRIES) {
        let target = map.table(source, map.directory, index);
        let path = format!("grain_directory[{index}]");
        let at = map.entry_at(map.directory, index);
        let at = (path.as_str(), at, target);
        let Some(table) = table_inside(source, map, at, grains.checker) else {
            continue;
        };
        grains.table(index, table, budget);
        budget = budget.saturating_sub(map.per_table);
        if budget == 0 {
            break;
        }
    }
    grains.finish();
}

/// The grains of an extent while they are checked.
struct Grains<'a> {
    source: &'a Store,
    map: Map,
    /// Byte offset of the end of the metadata.
    overhead: u64,
    used: Used,
    /// How many more are decompressed.
    decompressed: u64,
    checker: &'a mut Checker,
}

impl Grains<'_> {
    /// Notes header, descriptor and directories.
    fn metadata(&mut self) {
        let (source, map) = (self.source, self.map);
        self.used.add(0, SECTOR, Owner::Header);
        if map.shape == Shape::Hosted
            && let Some((at, len)) = Hosted::read(source, 0).descriptor()
        {
            self.used.add(at, len, Owner::Descriptor);
        }
        let len = map.tables.saturating_mul(map.entry_bytes());
        self.used.add(map.directory, len, Owner::Directory);
        if let Some(redundant) = map.redundant {
            self.used.add(redundant, len, Owner::Redundant);
        }
        let before = map.directory.saturating_sub(SECTOR);
        if map.markers && is_marker(source, before, DIRECTORY_MARKER) {
            self.marker("grain_directory_marker", before, len.div_ceil(SECTOR));
        }
    }

    /// The marker at byte `at` must count `sectors`.
    fn marker(&mut self, path: &str, at: u64, sectors: u64) {
        let count = number(self.source, at, 8, Little);
        let path = format!("{path}.sectors");
        let at = (path.as_str(), at, MARKER);
        self.checker.require(count == sectors, at, || {
            format!("must be {sectors}, is {count}")
        });
    }

    fn table(&mut self, index: u64, table: u64, budget: u64) {
        let (source, map) = (self.source, self.map);
        self.used.add(table, map.table_bytes(), Owner::Table(index));
        let before = table - SECTOR;
        if map.markers && is_marker(source, before, TABLE_MARKER) {
            let sectors = map.table_bytes().div_ceil(SECTOR);
            self.marker(&format!("grain_table[{index}].marker"), before, sectors);
        }
        for entry in 0..map.per_table.min(budget) {
            match map.grain(source, table, entry) {
                Target::Unallocated | Target::Zeros => {}
                target => self.grain(index, entry, map.entry_at(table, entry), target),
            }
        }
    }

    fn grain(&mut self, table: u64, entry: u64, at: u64, target: Target) {
        let (source, map) = (self.source, self.map);
        let path = format!("grain_table[{table}].entry[{entry}]");
        let Target::At(grain) = target else {
            self.checker.require(false, (&path, at, SE_ENTRY), || {
                "must be 0, or have the type 1, 2 or 3".to_owned()
            });
            return;
        };
        let rest = (map.capacity * SECTOR)
            .saturating_sub((table * map.per_table + entry).saturating_mul(map.grain_bytes()));
        let len = match (map.compressed, map.markers) {
            (false, _) => map.grain_bytes().min(rest.max(1)),
            (true, false) => 1,
            (true, true) => GRAIN_MARKER_LEN + number(source, grain.saturating_add(8), 4, Little),
        };
        let end = grain.checked_add(len);
        let inside = grain >= SECTOR && end.is_some_and(|end| end <= source.len());
        self.checker.require(inside, (&path, at, GRAIN_INSIDE), || {
            format!("the grain at {grain:#x} is not between the header and the end of the file")
        });
        let behind = grain >= self.overhead;
        self.checker
            .require(behind, (&path, at, GRAIN_IN_METADATA), || {
                format!("the grain at {grain:#x} begins before grain_offset")
            });
        if inside {
            self.used.add(grain, len, Owner::Grain(table, entry));
        }
        self.compressed(table * map.per_table + entry, grain);
    }

    /// The data of grain `index` at byte `at` must be a valid stream, if they are compressed.
    fn compressed(&mut self, index: u64, at: u64) {
        let (source, map) = (self.source, self.map);
        let small = map.grain_bytes() <= LARGEST_DECOMPRESSED;
        if !map.compressed || !small || self.decompressed == 0 || at >= source.len() {
            return;
        }
        self.decompressed -= 1;
        let error = decompress(source, map, at).err();
        let path = format!("grain[{index}].marker.size");
        let at = (path.as_str(), at.saturating_add(8), COMPRESSED_GRAIN);
        self.checker.require(error.is_none(), at, || {
            error.map_or_else(String::new, |error| error.to_string())
        });
    }

    fn finish(self) {
        if self.checker.scope == Scope::Binding {
            return;
        }
        for (one, two) in self.used.shared() {
            let (path, start) = (two.path(), two.start);
            let at = (path.as_str(), start, ONCE);
            self.checker.require(false, at, || {
                format!("the sectors at {start:#x} belong to {} too", one.path())
            });
        }
    }
}

/// What bytes of the file are used by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Header,
    Descriptor,
    Directory,
    Redundant,
    Table(u64),
    Grain(u64, u64),
}

/// Bytes that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    start: u64,
    end: u64,
    owner: Owner,
}

impl Range {
    fn path(&self) -> String {
        match self.owner {
            Owner::Header => "header".to_owned(),
            Owner::Descriptor => "descriptor.text".to_owned(),
            Owner::Directory => "grain_directory[0]".to_owned(),
            Owner::Redundant => "redundant_grain_directory[0]".to_owned(),
            Owner::Table(index) => format!("grain_directory[{index}]"),
            Owner::Grain(table, entry) => format!("grain_table[{table}].entry[{entry}]"),
        }
    }
}

/// The bytes that are used.
#[derive(Default)]
struct Used(Vec<Range>);

impl Used {
    fn add(&mut self, start: u64, len: u64, owner: Owner) {
        let end = start.saturating_add(len);
        if len > 0 {
            self.0.push(Range { start, end, owner });
        }
    }

    /// Pairs that share bytes: each with the one before it that reaches furthest.
    fn shared(mut self) -> Vec<(Range, Range)> {
        self.0.sort_unstable();
        let mut shared = Vec::new();
        let mut before: Option<Range> = None;
        for range in self.0 {
            match before {
                Some(last) if range.start < last.end => {
                    shared.push((last, range));
                    before = Some(if range.end > last.end { range } else { last });
                }
                _ => before = Some(range),
            }
        }
        shared
    }
}

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
