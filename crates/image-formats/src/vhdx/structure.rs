//! The fields of an image.

use super::layout::{
    BAT, BatEntry, HEADER_BYTES, HEADERS, Header, Item, KNOWN, Known, Layout, MAGIC, METADATA,
    PARTIAL, PRESENT, REGION_TABLES, Region, TABLE_BYTES, sections,
};
use super::locator::Locator;
use super::log::{Descriptor, Entry, Replay, Ring, SECTOR};
use super::rules::table as rules;
use crate::field::Kind;
use crate::row::{BitRow, Row, bit_rows, rows};
use crate::store::Store;
use crate::structure::{Derivation, Nested, Structure, Table};
use crate::value::{Endian::Little, Value};

const IDENTIFIER: &[Row] = rows![
    "signature", 0, 8, Bytes, "must be vhdxfile";
    "creator", 8, 512, Text, "UTF-16, for people";
];

const HEADER: &[Row] = rows![
    "signature", 0, 4, Bytes, "must be head";
    "checksum", 4, 4, Checksum, "CRC-32C of 4 KiB with this field 0";
    "sequence_number", 8, 8, Number, "the header with the larger one is current";
    "file_write_guid", 16, 16, Bytes, "changes when the file is written";
    "data_write_guid", 32, 16, Bytes, "changes when data is written";
    "log_guid", 48, 16, Bytes, "all zeros without a log to replay";
    "log_version", 64, 2, Version, "must be 0";
    "version", 66, 2, Version, "must be 1";
    "log_length", 68, 4, Length, "a multiple of 1 MiB";
    "log_offset", 72, 8, Offset, "a multiple of 1 MiB";
];

const REGION_TABLE: &[Row] = rows![
    "signature", 0, 4, Bytes, "must be regi";
    "checksum", 4, 4, Checksum, "CRC-32C of 64 KiB with this field 0";
    "entry_count", 8, 4, Count, "at most 2047";
    "reserved", 12, 4, Reserved, "must be 0";
];

const REGION: &[Row] = rows![
    "guid", 0, 16, Bytes, "once in the table";
    "file_offset", 16, 8, Offset, "a multiple of 1 MiB";
    "length", 24, 4, Length, "a multiple of 1 MiB";
    "required", 28, 4, Flags, "1 where a reader must know the region";
];

const METADATA_TABLE: &[Row] = rows![
    "signature", 0, 8, Bytes, "must be metadata";
    "reserved", 8, 2, Reserved, "must be 0";
    "entry_count", 10, 2, Count, "at most 2047";
    "reserved2", 12, 20, Bytes, "must be 0";
];

const ITEM: &[Row] = rows![
    "item_id", 0, 16, Bytes, "once in the table";
    "offset", 16, 4, Offset, "from the start of the region, at least 64 KiB";
    "length", 20, 4, Length, "at most 1 MiB, within the region";
    "flags", 24, 4, Flags, "bits 0 to 2 only", bit_rows![
        "is_user", 0, 1, Flag, "";
        "is_virtual_disk", 1, 1, Flag, "";
        "is_required", 2, 1, Flag, "1 where a reader must know the item";
    ];
    "reserved2", 28, 4, Reserved, "must be 0";
];

const FILE_PARAMETERS: &[Row] = rows![
    "block_size", 0, 4, Size, "a power of two, 1 MiB to 256 MiB";
    "flags", 4, 4, Flags, "bits 0 and 1 only", bit_rows![
        "leave_block_allocated", 0, 1, Flag, "1 in fixed files";
        "has_parent", 1, 1, Flag, "1 in differencing files";
    ];
];

const DISK_SIZE: &[Row] = rows![
    "size", 0, 8, Size, "a multiple of the logical sector size, at most 64 TiB";
];

const DISK_ID: &[Row] = rows![
    "id", 0, 16, Bytes, "page 83 data";
];

const LOGICAL: &[Row] = rows![
    "logical_sector_size", 0, 4, Size, "512 or 4096";
];

const PHYSICAL: &[Row] = rows![
    "physical_sector_size", 0, 4, Size, "512 or 4096";
];

const LOCATOR: &[Row] = rows![
    "locator_type", 0, 16, Bytes, "of a parent that is a VHDX file";
    "reserved", 16, 2, Reserved, "must be 0";
    "key_value_count", 18, 2, Count, "";
];

const LOCATOR_ENTRY: &[Row] = rows![
    "key_offset", 0, 4, Offset, "within the item, not 0";
    "value_offset", 4, 4, Offset, "within the item, not 0";
    "key_length", 8, 2, Length, "in bytes, not 0";
    "value_length", 10, 2, Length, "in bytes, not 0";
];

const LOG_ENTRY: &[Row] = rows![
    "signature", 0, 4, Bytes, "must be loge";
    "checksum", 4, 4, Checksum, "CRC-32C of the entry with this field 0";
    "entry_length", 8, 4, Length, "a multiple of 4 KiB";
    "tail", 12, 4, Offset, "in the log, of the first entry to replay";
    "sequence_number", 16, 8, Number, "one more than that of the entry before";
    "descriptor_count", 24, 4, Count, "";
    "reserved", 28, 4, Reserved, "must be 0";
    "log_guid", 32, 16, Bytes, "that of the header";
    "flushed_file_offset", 48, 8, Size, "at most the length of the file";
    "last_file_offset", 56, 8, Size, "the file is extended to it";
];

const ZERO_DESCRIPTOR: &[Row] = rows![
    "signature", 0, 4, Bytes, "zero or desc";
    "reserved", 4, 4, Reserved, "must be 0";
    "zero_length", 8, 8, Length, "a multiple of 4 KiB";
    "file_offset", 16, 8, Offset, "a multiple of 4 KiB";
    "sequence_number", 24, 8, Number, "that of the entry";
];

const DATA_DESCRIPTOR: &[Row] = rows![
    "signature", 0, 4, Bytes, "zero or desc";
    "trailing_bytes", 4, 4, Bytes, "the last bytes of the sector";
    "leading_bytes", 8, 8, Bytes, "the first bytes of the sector";
    "file_offset", 16, 8, Offset, "a multiple of 4 KiB";
    "sequence_number", 24, 8, Number, "that of the entry";
];

const DATA_SECTOR: &[Row] = rows![
    "signature", 0, 4, Bytes, "must be data";
    "sequence_high", 4, 4, Number, "of the sequence number of the entry";
    "data", 8, 4084, Bytes, "the sector without its ends";
    "sequence_low", 4092, 4, Number, "of the sequence number of the entry";
];

const PAYLOAD: &[BitRow] = bit_rows![
    "state", 0, 3, Choice, "0 not present, 1 undefined, 2 zero, 3 unmapped, 6 present, 7 partially present";
    "reserved", 3, 17, Reserved, "must be 0";
    "offset", 20, 44, Offset, "of the block, behind the headers and within the file";
];

const BITMAP: &[BitRow] = bit_rows![
    "state", 0, 3, Choice, "0 not present, 6 present";
    "reserved", 3, 17, Reserved, "must be 0";
    "offset", 20, 44, Offset, "of the sector bitmap block, within the file";
];

/// The most entries of a table of regions or items that are listed.
const MAX_LISTED: u64 = 64;
/// The most log entries that are listed.
const MAX_LOG_ENTRIES: usize = 32;
/// The most descriptors of them.
const MAX_DESCRIPTORS: u64 = 256;

/// The structures of an image.
pub(super) fn structure(source: &Store) -> Structure {
    let replay = Replay::of(source);
    let bytes = replay.bytes(source);
    let layout = Layout::read(&bytes);
    let found = headers(source);
    let found = region_tables(source, &bytes, &replay, found);
    let found = log(source, found);
    let found = metadata(&bytes, &layout, found);
    bat(layout, found)
}

fn headers(source: &Store) -> Structure {
    let mut found = Structure::new(Little)
        .section(sections::IDENTIFIER)
        .record("identifier", 0, IDENTIFIER)
        .derived(
            "identifier.signature",
            Derivation::Value,
            rules::IS_VHDX,
            |_| Value::from(&MAGIC[..]),
        )
        .section(sections::HEADERS);
    for (index, at) in HEADERS.into_iter().enumerate() {
        let name = format!("header[{index}]");
        found = found.record(&name, at, HEADER);
        // A header without its signature is none.
        if source.read_vec(at, 4) == b"head" {
            let path = format!("{name}.checksum");
            let covered = (at, HEADER_BYTES);
            found = found.checksum(&path, rules::HEADER_CHECKSUM, covered, crc32c::crc32c);
        }
    }
    found
}

fn region_tables(
    source: &Store,
    bytes: &Store,
    replay: &Replay,
    mut found: Structure,
) -> Structure {
    for (index, at) in REGION_TABLES.into_iter().enumerate() {
        let table = format!("region_table[{index}]");
        found = found
            .section(sections::REGION_HEADER)
            .record(&table, at, REGION_TABLE)
            .section(sections::REGION_ENTRY);
        for (index, region) in Region::all(bytes, at, MAX_LISTED).iter().enumerate() {
            let name = match region.guid {
                BAT => format!("{table}.bat"),
                METADATA => format!("{table}.metadata"),
                _ => format!("{table}.entry[{index}]"),
            };
            found = found.record(&name, region.at, REGION);
        }
        // What the log is about to write may be anything.
        let logged = replay.writes(at, TABLE_BYTES as u64);
        if !logged && source.read_vec(at, 4) == b"regi" {
            let path = format!("{table}.checksum");
            let covered = (at, TABLE_BYTES);
            found = found.checksum(&path, rules::REGION_CHECKSUM, covered, crc32c::crc32c);
        }
    }
    let [one, two] = REGION_TABLES;
    if replay.writes(one, (2 * TABLE_BYTES) as u64) {
        return found;
    }
    let places = (one, two, TABLE_BYTES as u64);
    found.copy("region_table[1]", rules::REGION_COPY, places)
}

fn log(source: &Store, mut found: Structure) -> Structure {
    let header = Header::best(source);
    let Some(ring) = Ring::of(source, &header) else {
        return found;
    };
    let mut left = MAX_DESCRIPTORS;
    for (index, entry) in ring.listed(MAX_LOG_ENTRIES).iter().enumerate() {
        let name = format!("log[{index}]");
        let at = ring.at(entry.position);
        found = found
            .section(sections::LOG_HEADER)
            .record(&name, at, LOG_ENTRY);
        let descriptors = ring.descriptors(entry, left);
        left -= descriptors.len() as u64;
        for (index, descriptor) in descriptors.iter().enumerate() {
            found = log_descriptor(&ring, (&name, index), descriptor, found);
        }
        let pending = header.has_log() && entry.guid == header.log_guid;
        if pending {
            found = log_derived(&name, at, &descriptors, entry, found);
        }
    }
    found
}

fn log_descriptor(
    ring: &Ring<'_>,
    (entry, index): (&str, usize),
    descriptor: &Descriptor,
    found: Structure,
) -> Structure {
    let name = format!("{entry}.descriptor[{index}]");
    let at = ring.at(descriptor.position);
    if !descriptor.is_data {
        let found = found.section(sections::LOG_ZERO);
        return found.record(&name, at, ZERO_DESCRIPTOR);
    }
    found
        .section(sections::LOG_DESCRIPTOR)
        .record(&name, at, DATA_DESCRIPTOR)
        .section(sections::LOG_DATA)
        .record(
            &format!("{entry}.data[{index}]"),
            ring.at(descriptor.data),
            DATA_SECTOR,
        )
}

/// What follows from the header of a log entry that counts.
fn log_derived(
    name: &str,
    at: u64,
    descriptors: &[Descriptor],
    entry: &Entry,
    mut found: Structure,
) -> Structure {
    let sequence = move |bytes: &Store| crate::structure::number(bytes, at + 16, 8, Little);
    for (index, descriptor) in descriptors.iter().enumerate() {
        let path = |part: &str, field: &str| format!("{name}.{part}[{index}].{field}");
        let rule = rules::LOG_SEQUENCE_NUMBERS;
        found = found.derived(
            &path("descriptor", "sequence_number"),
            Derivation::Value,
            rule,
            move |bytes| Value::Uint(sequence(bytes)),
        );
        if descriptor.is_data {
            found = found
                .derived(
                    &path("data", "sequence_high"),
                    Derivation::Value,
                    rule,
                    move |bytes| Value::Uint(sequence(bytes) >> 32),
                )
                .derived(
                    &path("data", "sequence_low"),
                    Derivation::Value,
                    rule,
                    move |bytes| Value::Uint(sequence(bytes) & u64::from(u32::MAX)),
                );
        }
    }
    let entry = *entry;
    found.derived(
        &format!("{name}.checksum"),
        Derivation::Checksum,
        rules::LOG_CHECKSUM,
        move |bytes| {
            // The bytes of the entry that was found, wherever the log is said to be now.
            let header = Header::best(bytes);
            let sum = Ring::of(bytes, &header).map_or(0, |ring| ring.checksum(&entry));
            Value::Uint(sum.into())
        },
    )
}

fn metadata(bytes: &Store, layout: &Layout, mut found: Structure) -> Structure {
    let Some(region) = layout.metadata else {
        return found;
    };
    found = found
        .section(sections::METADATA_HEADER)
        .record("metadata", region.offset, METADATA_TABLE)
        .section(sections::METADATA_ENTRY);
    for (index, item) in Item::all(bytes, region.offset, MAX_LISTED)
        .iter()
        .enumerate()
    {
        let name = item.known().map(|known| format!("metadata.{}", known.name));
        let name = name.unwrap_or_else(|| format!("metadata.entry[{index}]"));
        found = found.record(&name, item.at, ITEM);
        if item.known().is_none() {
            let at = region.offset.saturating_add(item.offset);
            let place = (at, item.length.min(4096));
            let name = format!("metadata_item[{index}]");
            found = found.run(&name, place, Kind::Bytes, "");
        }
    }
    for known in &KNOWN {
        let Some(at) = layout.item(known.item) else {
            continue;
        };
        let (section, name, rows) = match known.item {
            Known::FileParameters => (sections::FILE_PARAMETERS, known.name, FILE_PARAMETERS),
            Known::DiskSize => (sections::DISK_SIZE, "virtual_disk", DISK_SIZE),
            Known::DiskId => (sections::DISK_ID, "virtual_disk", DISK_ID),
            Known::LogicalSectorSize => (sections::LOGICAL, "virtual_disk", LOGICAL),
            Known::PhysicalSectorSize => (sections::PHYSICAL, "virtual_disk", PHYSICAL),
            Known::ParentLocator => (sections::LOCATOR, known.name, LOCATOR),
        };
        found = found.section(section).record(name, at, rows);
    }
    locator(bytes, layout, found)
}

fn locator(bytes: &Store, layout: &Layout, mut found: Structure) -> Structure {
    let Some(locator) = Locator::read(bytes, layout) else {
        return found;
    };
    found = found.section(sections::LOCATOR_ENTRY);
    for (index, pair) in locator.pairs.iter().enumerate() {
        let name = format!("parent_locator.entry[{index}]");
        found = found.record(&name, pair.at, LOCATOR_ENTRY);
        for (part, (offset, len)) in ["key", "value"].into_iter().zip(pair.places) {
            let place = (locator.at + offset, len);
            let rule = "UTF-16 without zeros";
            found = found.run(&format!("{name}.{part}"), place, Kind::Text, rule);
        }
    }
    found
}

fn bat(layout: Layout, found: Structure) -> Structure {
    let Some(region) = layout.bat.filter(|_| layout.has_geometry()) else {
        return found;
    };
    let (bat, ratio) = (region.offset, layout.chunk_ratio());
    let room = region.length / 8;
    let table = |name, at, entries: u64, rule| {
        Table::of_numbers(name, (at, entries.min(room), 8), Kind::Entry, rule)
    };
    let payload = table("bat.payload", bat, layout.payload_blocks(), "")
        .grouped(ratio)
        .with_bits(PAYLOAD);
    let first = layout.bitmap_entry(bat, 0);
    let bitmaps = table("bat.sector_bitmap", first, layout.bitmap_blocks(), "")
        .every((ratio + 1) * 8)
        .with_bits(BITMAP);
    let found = found
        .section(sections::BAT_ENTRY)
        .table(payload)
        .table(bitmaps);
    if !layout.has_parent() {
        return found;
    }
    let (_, bytes) = layout.bitmap_bytes(0);
    let words = Table::of_numbers("", (0, bytes / 8, 8), Kind::Bitmap, "a bit for each sector");
    // No more blocks than the BAT has entries.
    let blocks = layout.payload_blocks().min(room);
    let bits = Nested::new("block_bitmap", blocks, words, move |source, block| {
        let entry = BatEntry::read(source, layout.payload_entry(bat, block));
        let bitmap = layout.bitmap_entry(bat, block / ratio);
        let bitmap = BatEntry::read(source, bitmap);
        let there = entry.state == PARTIAL && bitmap.state == PRESENT;
        let at = bitmap.offset.checked_add(layout.bitmap_bytes(block).0);
        at.filter(|_| there)
    });
    found.section(sections::BLOCKS).nested(bits)
}

/// Bytes in a sector of the log, for the rows of its data.
const _: () = assert!(SECTOR == 4096);
