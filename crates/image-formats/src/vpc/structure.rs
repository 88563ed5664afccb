//! The fields of an image: the footer, its copy, the dynamic header and the tables.

use super::layout::{
    COOKIE, DYNAMIC_BYTES, DYNAMIC_COOKIE, Dynamic, FIXED, Layout, SECTOR, UNUSED, complement_sum,
    sections,
};
use super::locator::{self, LOCATOR_BYTES, LOCATORS, LOCATORS_AT};
use super::rules::table as rules;
use crate::field::Kind;
use crate::io::ReadAt as _;
use crate::row::{Row, bit_rows, rows};
use crate::store::Store;
use crate::structure::{Derivation, Nested, Structure, Table};
use crate::value::{Endian::Big, Value};

const FOOTER: &[Row] = rows![
    "creator", 0, 8, Bytes, "must be conectix";
    "features", 8, 4, Flags, "bit 1 is always set, bit 0 may be", bit_rows![
        "temporary", 0, 1, Flag, "";
        "reserved", 1, 1, Flag, "must be 1";
    ];
    "version", 12, 4, Version, "must be 0x00010000";
    "data_offset", 16, 8, Offset, "of the dynamic header; all ones for fixed disks";
    "timestamp", 24, 4, Number, "seconds since the year 2000";
    "creator_app", 28, 4, Text, "decides where the size of the disk is taken from";
    "major", 32, 2, Number, "";
    "minor", 34, 2, Number, "";
    "creator_os", 36, 4, Text, "Wi2k or Mac";
    "orig_size", 40, 8, Size, "";
    "current_size", 48, 8, Size, "a multiple of 512, at most 2040 GiB";
    "cyls", 56, 2, Count, "";
    "heads", 58, 1, Count, "1 to 16";
    "secs_per_cyl", 59, 1, Count, "not 0";
    "type", 60, 4, Choice, "2 fixed, 3 dynamic, 4 differencing";
    "checksum", 64, 4, Checksum, "complement of the sum of all bytes but these";
    "uuid", 68, 16, Bytes, "";
    "in_saved_state", 84, 1, Flag, "0 or 1";
    "reserved", 85, 427, Bytes, "must be 0";
];

const DYNAMIC_HEADER: &[Row] = rows![
    "magic", 0, 8, Bytes, "must be cxsparse";
    "data_offset", 8, 8, Offset, "all ones";
    "table_offset", 16, 8, Offset, "of the block allocation table, within the file";
    "version", 24, 4, Version, "must be 0x00010000";
    "max_table_entries", 28, 4, Count, "enough for the size";
    "block_size", 32, 4, Size, "a power of two, a multiple of 512";
    "checksum", 36, 4, Checksum, "complement of the sum of all bytes but these";
    "parent_uuid", 40, 16, Bytes, "that of the parent";
    "parent_timestamp", 56, 4, Number, "";
    "reserved", 60, 4, Reserved, "must be 0";
    "parent_name", 64, 512, Text, "UTF-16";
    "reserved2", 768, 256, Bytes, "must be 0";
];

const LOCATOR: &[Row] = rows![
    "platform_code", 0, 4, Text, "W2ru, W2ku, Wi2r, Wi2k, Mac, MacX, or zeros";
    "platform_data_space", 4, 4, Length, "in sectors, or in bytes";
    "platform_data_length", 8, 4, Length, "at most the space";
    "reserved", 12, 4, Reserved, "must be 0";
    "platform_data_offset", 16, 8, Offset, "within the file";
];

/// The structures of an image.
pub(super) fn structure(source: &Store) -> Structure {
    let layout = Layout::read(source);
    let end = source.len().saturating_sub(SECTOR);
    let mut found = Structure::new(Big).section(sections::FOOTER);
    if layout.copy.is_some() {
        found = found.record("header", 0, FOOTER).checksum(
            "header.checksum",
            rules::FOOTER_CHECKSUM,
            (0, SECTOR as usize),
            complement_sum,
        );
    }
    found = found.record("footer", end, FOOTER);
    let rule = rules::FOOTER_COOKIE.only_if(layout.copy.is_none());
    found = found.derived("footer.creator", Derivation::Value, rule, |_| {
        Value::from(&COOKIE[..])
    });
    if layout.last.is_some() {
        found = found.checksum(
            "footer.checksum",
            rules::FOOTER_CHECKSUM,
            (end, SECTOR as usize),
            complement_sum,
        );
        if layout.copy.is_some() {
            found = found.copy("header", rules::FOOTER_COPY, (end, 0, SECTOR));
        }
    }
    match layout.dynamic {
        Some(dynamic) => sparse(source, layout, dynamic, found),
        None => found,
    }
}

/// The structures of an image that has blocks.
fn sparse(source: &Store, layout: Layout, dynamic: Dynamic, found: Structure) -> Structure {
    let mut found = found
        .section(sections::DYNAMIC)
        .record("dynamic", dynamic.at, DYNAMIC_HEADER)
        .signature("dynamic.magic", &DYNAMIC_COOKIE[..])
        .checksum(
            "dynamic.checksum",
            rules::DYNAMIC_CHECKSUM,
            (dynamic.at, DYNAMIC_BYTES as usize),
            complement_sum,
        )
        .section(sections::LOCATORS);
    for index in 0..LOCATORS {
        let at = dynamic.at + LOCATORS_AT + index * LOCATOR_BYTES;
        let name = format!("dynamic.parent_locator[{index}]");
        found = found.record(&name, at, LOCATOR);
    }
    for locator in locator::read(source, &dynamic) {
        let name = format!("parent_locator[{}]", locator.index);
        let place = (locator.offset, locator.length);
        found = found.run(&name, place, Kind::Text, "where the parent is");
    }
    let rule = "0xffffffff unused, or the sector of the block, within the file";
    let bat = Table::of_numbers(
        "bat",
        (dynamic.table, dynamic.entries, 4),
        Kind::Offset,
        rule,
    );
    found = found.section(sections::BAT).table(bat.unused(UNUSED));
    if !dynamic.has_geometry() || layout.kind() == FIXED {
        return found;
    }
    let words = (dynamic.block_size / SECTOR).div_ceil(64);
    let rule = "a bit for each sector, the highest one first";
    let words = Table::of_numbers("", (0, words, 8), Kind::Bitmap, rule);
    let room = source.len().saturating_sub(dynamic.table) / 4;
    let blocks = dynamic.entries.min(room);
    let bitmaps = Nested::new("bitmap", blocks, words, move |source, block| {
        let entry = dynamic.entry(source, block);
        (entry != UNUSED).then_some(entry * SECTOR)
    });
    found.section(sections::BITMAP).nested(bitmaps)
}
