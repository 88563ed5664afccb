//! Checking grain directories, grain tables and grains.

use super::super::disk::decompress;
use super::super::layout::{
    DIRECTORY_MARKER, GRAIN_MARKER_LEN, Hosted, SECTOR, Shape, TABLE_MARKER, is_marker,
};
use super::super::map::{Map, Target};
use super::super::rules::{
    COMPRESSED_GRAIN, GRAIN_IN_METADATA, GRAIN_INSIDE, MARKER, ONCE, SE_ENTRY, TABLE_INSIDE,
};
use crate::checker::{Checker, Scope};
use crate::defect::Rule;
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;

/// The most entries of tables that are looked at.
pub(super) const ENTRIES: u64 = 1 << 20;
/// The most grains that are decompressed.
const DECOMPRESSED: u64 = 512;
/// The largest grain that is decompressed, in bytes.
const LARGEST_DECOMPRESSED: u64 = 1 << 20;

/// A grain directory at sector `sector` must be within the file.
pub(super) fn directory(
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

/// A grain table must be within the file; where it is, if it is.
pub(super) fn table_inside(
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
pub(super) fn tables(source: &Store, map: Map, overhead: u64, checker: &mut Checker) {
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
