//! The structures of a file of an image.

use super::descriptor::Descriptor;
use super::layout::{
    COWD_CHILD, COWD_HEADER, COWD_ROOT, DIRECTORY_MARKER, ENTRY, FOOTER_MARKER, GRAIN_MARKER,
    GRAIN_MARKER_LEN, HEADER, Hosted, MARKER, SE_DIRECTORY_ENTRY, SE_HEADER, SE_TABLE_ENTRY,
    SE_VOLATILE, SECTOR, Shape, TABLE_MARKER, footer_at, is_marker, sections,
};
use super::map::{Map, Target};
use super::rules;
use crate::field::word;
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::structure::{Derivation, Nested, Structure, Table, number};
use crate::value::Endian::Little;
use crate::value::Value;

/// The most redundant grain tables, and markers of grains, that are corrected.
const MOST_DERIVED: u64 = 4096;
/// The most entries of tables that are looked at for them.
const MOST_LOOKED_AT: u64 = 1 << 16;

/// Finds the structures of a file.
pub(super) fn structure(source: &Store) -> Structure {
    let structure = Structure::new(Little);
    match Shape::of(source) {
        Shape::Descriptor => text(structure, &Descriptor::read(source, 0, source.len())),
        Shape::Hosted => hosted(structure, source),
        Shape::Cowd => cowd(structure, source),
        Shape::Se => se(structure, source),
    }
}

/// The descriptor that is embedded in an extent, or is the file.
pub(super) fn descriptor(source: &Store) -> Option<Descriptor> {
    match Shape::of(source) {
        Shape::Descriptor => Some(Descriptor::read(source, 0, source.len())),
        Shape::Hosted => {
            let (at, room) = Hosted::read(source, 0).descriptor()?;
            let descriptor = Descriptor::read(source, at, room);
            // One of several extents has room for a text, and nothing there.
            (!descriptor.is_blank()).then_some(descriptor)
        }
        Shape::Cowd | Shape::Se => None,
    }
}

fn text(structure: Structure, descriptor: &Descriptor) -> Structure {
    let structure = structure.section(sections::DESCRIPTOR);
    let fields = descriptor.fields().into_iter();
    fields.fold(structure, |structure, (path, rule, place)| {
        structure.text(&format!("descriptor.{path}"), place, rule)
    })
}

fn hosted(structure: Structure, source: &Store) -> Structure {
    let header = Hosted::read(source, 0);
    let footer = footer_at(source, header);
    let mut structure = structure
        .section(sections::HEADER)
        .record("header", 0, HEADER);
    if let Some(at) = footer {
        structure = structure
            .section(sections::STREAM)
            .record("footer_marker", at - SECTOR, MARKER)
            .record("footer", at, HEADER)
            .record("end_marker", at + SECTOR, MARKER);
    }
    if let Some(map) = Map::read(source) {
        structure = tables(structure, source, map);
    }
    let Some(descriptor) = descriptor(source) else {
        return derived(structure, source, footer);
    };
    let structure = text(structure, &descriptor);
    let structure = derived(structure, source, footer);
    match descriptor.extents.len() {
        1 => structure.derived(
            "descriptor.extent[0].size",
            Derivation::Value,
            rules::EXTENT_CAPACITY,
            |bytes| {
                let capacity = Hosted::read(bytes, 0).capacity;
                Value::Bytes(capacity.to_string().into_bytes())
            },
        ),
        _ => structure,
    }
}

/// Grain directories, grain tables, and the markers before them and before grains.
fn tables(structure: Structure, source: &Store, map: Map) -> Structure {
    let rule = "0 unallocated, or in sectors within the file";
    let table = |name: &str, at, entries| {
        let entry = map.entry_bytes() as u8;
        Table::of_numbers(name, (at, entries, entry), ENTRY, rule)
    };
    let nested = |name, directory| {
        let inner = table("", 0, map.per_table);
        Nested::new(name, map.tables, inner, move |source, index| {
            at(map.table(source, directory, index))
        })
    };
    let mut structure = structure
        .section(sections::TABLES)
        .table(table("grain_directory", map.directory, map.tables))
        .nested(nested("grain_table", map.directory));
    if let Some(directory) = map.redundant {
        structure = structure
            .table(table("redundant_grain_directory", directory, map.tables))
            .nested(nested("redundant_grain_table", directory));
    }
    if !map.markers {
        return structure;
    }
    structure = structure.section(sections::STREAM);
    if let Some(before) = map.directory.checked_sub(SECTOR)
        && is_marker(source, before, DIRECTORY_MARKER)
    {
        structure = structure.record("grain_directory_marker", before, MARKER);
    }
    let marker = Table::of_record("marker", (0, SECTOR), MARKER);
    let before_table = Nested::new("grain_table", map.tables, marker, move |source, index| {
        let before = at(map.table(source, map.directory, index))?.checked_sub(SECTOR)?;
        is_marker(source, before, TABLE_MARKER).then_some(before)
    });
    let marker = Table::of_record("marker", (0, GRAIN_MARKER_LEN), GRAIN_MARKER);
    let known = map.tables_in_file(source).saturating_mul(map.per_table);
    let count = map.grains().min(known);
    let before_grain = Nested::new("grain", count, marker, move |source, index| {
        at(map.find(source, index))
    });
    structure.nested(before_table).nested(before_grain)
}

/// The byte that an entry leads to.
fn at(target: Target) -> Option<u64> {
    match target {
        Target::At(at) => Some(at),
        _ => None,
    }
}

/// The fields of a hosted extent that follow from others.
fn derived(structure: Structure, source: &Store, footer: Option<u64>) -> Structure {
    let mut structure = structure
        .signature("header.magic", &super::layout::HOSTED_MAGIC[..])
        .signature("header.check_bytes", &super::layout::CHECK_BYTES[..]);
    if let Some(at) = footer {
        let of_type = |kind: u64| move |_: &Store| Value::Uint(kind);
        structure = structure
            .copy("footer", rules::FOOTER, (0, at, 56))
            .copy("footer", rules::FOOTER, (64, at + 64, SECTOR - 64))
            .derived(
                "footer_marker.type",
                Derivation::Value,
                rules::FOOTER_MARKER_TYPE,
                of_type(FOOTER_MARKER),
            )
            .derived(
                "end_marker.type",
                Derivation::Value,
                rules::END_MARKER_TYPE,
                of_type(super::layout::END_OF_STREAM),
            );
    }
    let Some(map) = Map::read(source) else {
        return structure;
    };
    if let Some(redundant) = map.redundant {
        structure = redundant_tables(structure, source, map, redundant);
    }
    if map.markers && map.compressed {
        structure = marker_sectors(structure, source, map);
    }
    structure
}

/// Each redundant grain table is a copy of the one in use.
fn redundant_tables(
    mut structure: Structure,
    source: &Store,
    map: Map,
    redundant: u64,
) -> Structure {
    for index in 0..map.tables_in_file(source).min(MOST_DERIVED) {
        let table = at(map.table(source, map.directory, index));
        let copy = at(map.table(source, redundant, index));
        if let (Some(from), Some(to)) = (table, copy)
            && from != to
            && to.saturating_add(map.table_bytes()) <= source.len()
        {
            let name = format!("redundant_grain_table[{index}]");
            structure = structure.copy(&name, rules::REDUNDANT, (from, to, map.table_bytes()));
        }
    }
    structure
}

/// Each marker of a grain repeats where the grain is on the disk.
fn marker_sectors(mut structure: Structure, source: &Store, map: Map) -> Structure {
    let mut budget = MOST_LOOKED_AT;
    let mut left = MOST_DERIVED;
    for index in 0..map.tables_in_file(source).min(MOST_LOOKED_AT) {
        let Some(table) = at(map.table(source, map.directory, index)) else {
            continue;
        };
        for entry in 0..map.per_table.min(budget) {
            let Some(marker) = at(map.grain(source, table, entry)) else {
                continue;
            };
            let grain = index * map.per_table + entry;
            if left == 0 || marker.saturating_add(GRAIN_MARKER_LEN) > source.len() {
                continue;
            }
            left -= 1;
            let path = format!("grain[{grain}].marker.lba");
            let sector = grain.saturating_mul(map.granularity);
            let place = word(marker, 8, Little, 0, 64, false);
            let (why, rule) = (Derivation::Value, rules::MARKER_LBA);
            structure =
                structure.derived_at((&path, place), why, rule, move |_| Value::Uint(sector));
        }
        budget = budget.saturating_sub(map.per_table);
        if budget == 0 || left == 0 {
            break;
        }
    }
    structure
}

fn cowd(structure: Structure, source: &Store) -> Structure {
    let structure = structure
        .section(sections::COWD)
        .record("header", 0, COWD_HEADER)
        .record(
            "header",
            0,
            if is_child(source) {
                COWD_CHILD
            } else {
                COWD_ROOT
            },
        );
    let structure = match Map::read(source) {
        Some(map) => tables(structure, source, map),
        None => structure,
    };
    structure.signature("header.magic", &super::layout::COWD_MAGIC[..])
}

/// Whether an ESX Server extent has the name of a parent where one without has a geometry.
pub(super) fn is_child(source: &Store) -> bool {
    let small = |at, most| number(source, at, 4, Little) <= most;
    let geometry = small(32, 0xffff) && small(36, 255) && small(40, 255);
    !geometry
}

fn se(structure: Structure, source: &Store) -> Structure {
    let volatile = number(source, 80, 8, Little).saturating_mul(SECTOR);
    let mut structure = structure
        .section(sections::SE)
        .record("header", 0, SE_HEADER)
        .record("volatile_header", volatile, SE_VOLATILE);
    if let Some(map) = Map::read(source) {
        let rule = "0 unallocated, or a type and a number";
        let table = |name: &str, at, entries, bits| {
            Table::of_numbers(name, (at, entries, 8), ENTRY, rule).with_bits(bits)
        };
        let inner = table("", 0, map.per_table, SE_TABLE_ENTRY);
        let tables = Nested::new("grain_table", map.tables, inner, move |source, index| {
            at(map.table(source, map.directory, index))
        });
        let directory = table(
            "grain_directory",
            map.directory,
            map.tables,
            SE_DIRECTORY_ENTRY,
        );
        structure = structure.table(directory).nested(tables);
    }
    structure
        .signature("header.magic", super::layout::SE_MAGIC)
        .signature("volatile_header.magic", super::layout::SE_VOLATILE_MAGIC)
}
