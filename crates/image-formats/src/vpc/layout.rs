//! The footer, its copy, the dynamic header and the tables.

use super::locator::{self, LOCATOR_BYTES, LOCATORS, LOCATORS_AT};
use super::rules;
use crate::field::Kind;
use crate::io::ReadAt as _;
use crate::row::{Row, bit_rows, rows};
use crate::store::Store;
use crate::structure::{Derivation, Nested, Structure, Table, number};
use crate::value::{Endian::Big, Value};

/// The first bytes of the footer.
pub(super) const COOKIE: &[u8; 8] = b"conectix";
/// The first bytes of the dynamic header.
pub(super) const DYNAMIC_COOKIE: &[u8; 8] = b"cxsparse";
/// Bytes in a sector, whatever the disk, and in a footer.
pub(super) const SECTOR: u64 = 512;
/// Bytes in the dynamic header.
pub(super) const DYNAMIC_BYTES: u64 = 1024;
/// The type of fixed images.
pub(super) const FIXED: u64 = 2;
/// The type of dynamic images.
pub(super) const DYNAMIC: u64 = 3;
/// The type of differencing images.
pub(super) const DIFFERENCING: u64 = 4;
/// The entry of a block that is not in the file.
pub(super) const UNUSED: u64 = 0xffff_ffff;
/// Sectors of the largest disk that a geometry can describe.
pub(super) const LARGEST_GEOMETRY: u64 = 65535 * 16 * 255;

/// Sections of the specification.
pub(super) mod sections {
    pub(in crate::vpc) const FOOTER: &str = "Hard Disk Footer Format";
    pub(in crate::vpc) const DYNAMIC: &str = "Dynamic Disk Header Format";
    pub(in crate::vpc) const LOCATORS: &str = "Parent Locator Entry";
    pub(in crate::vpc) const BAT: &str = "Block Allocation Table and Data Blocks";
    pub(in crate::vpc) const BITMAP: &str = "Data Blocks";
    pub(in crate::vpc) const FIXED: &str = "Fixed Hard Disk Image";
    pub(in crate::vpc) const PARENT: &str = "Identifying the Parent Hard Disk Image";
    pub(in crate::vpc) const GEOMETRY: &str = "CHS Calculation";
}

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

/// The complement of the sum of all bytes.
pub(super) fn complement_sum(bytes: &[u8]) -> u32 {
    let sum = |sum: u32, byte: &u8| sum.wrapping_add((*byte).into());
    !bytes.iter().fold(0, sum)
}

/// A footer, or its copy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footer {
    pub(super) at: u64,
    pub(super) features: u64,
    pub(super) version: u64,
    pub(super) data_offset: u64,
    pub(super) creator_app: [u8; 4],
    pub(super) current_size: u64,
    pub(super) cylinders: u64,
    pub(super) heads: u64,
    pub(super) sectors: u64,
    pub(super) kind: u64,
    pub(super) uuid: [u8; 16],
    pub(super) saved_state: u64,
}

impl Footer {
    /// The footer at byte `at`, where its first bytes are there.
    pub(super) fn read(source: &Store, at: u64) -> Option<Self> {
        let bytes = source.read_vec(at, SECTOR as usize);
        if !bytes.starts_with(COOKIE) {
            return None;
        }
        let value = |range: std::ops::Range<usize>| Big.number(&bytes[range]);
        let (mut creator_app, mut uuid) = ([0; 4], [0; 16]);
        creator_app.copy_from_slice(&bytes[28..32]);
        uuid.copy_from_slice(&bytes[68..84]);
        Some(Self {
            at,
            features: value(8..12),
            version: value(12..16),
            data_offset: value(16..24),
            creator_app,
            current_size: value(48..56),
            cylinders: value(56..58),
            heads: value(58..59),
            sectors: value(59..60),
            kind: value(60..64),
            uuid,
            saved_state: value(84..85),
        })
    }

    /// Whether it has its checksum.
    pub(super) fn is_valid(&self, source: &Store) -> bool {
        let mut bytes = source.read_vec(self.at, SECTOR as usize);
        let stored = Big.number(&bytes[64..68]);
        bytes[64..68].fill(0);
        u64::from(complement_sum(&bytes)) == stored
    }

    /// Sectors that the geometry has.
    pub(super) fn geometry(&self) -> u64 {
        self.cylinders * self.heads * self.sectors
    }

    /// Whether the size follows from the geometry: Virtual PC and QEMU take it from there, unless
    /// the geometry is the largest that there is. All others have it in the current size.
    pub(super) fn has_geometry_size(&self) -> bool {
        size_is_geometry(&self.creator_app, self.geometry())
    }

    /// Bytes on the disk.
    pub(super) fn disk_size(&self) -> u64 {
        match self.has_geometry_size() {
            true => self.geometry() * SECTOR,
            false => self.current_size / SECTOR * SECTOR,
        }
    }
}

/// Whether the size of a disk follows from a geometry of so many sectors.
pub(super) fn size_is_geometry(creator_app: &[u8; 4], sectors: u64) -> bool {
    matches!(creator_app, b"vpc " | b"qemu") && sectors != LARGEST_GEOMETRY
}

/// The dynamic header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dynamic {
    pub(super) at: u64,
    pub(super) table: u64,
    pub(super) version: u64,
    pub(super) entries: u64,
    pub(super) block_size: u64,
    pub(super) parent_uuid: [u8; 16],
}

impl Dynamic {
    fn read(source: &Store, at: u64) -> Self {
        let value = |offset, bytes| number(source, at + offset, bytes, Big);
        let mut parent_uuid = [0; 16];
        source.read(at + 40, &mut parent_uuid);
        Self {
            at,
            table: value(16, 8),
            version: value(24, 4),
            entries: value(28, 4),
            block_size: value(32, 4),
            parent_uuid,
        }
    }

    /// Whether the block size is allowed, without which nothing can be found.
    pub(super) fn has_geometry(&self) -> bool {
        self.block_size.is_power_of_two() && self.block_size >= SECTOR
    }

    /// Bytes of the sector bitmap before each block.
    pub(super) fn bitmap_bytes(&self) -> u64 {
        (self.block_size / SECTOR)
            .div_ceil(8)
            .next_multiple_of(SECTOR)
    }

    /// The entry of a block: the sector of its bitmap, or [`UNUSED`].
    pub(super) fn entry(&self, source: &Store, block: u64) -> u64 {
        number(source, self.entry_at(block), 4, Big)
    }

    /// Where the entry of a block is.
    pub(super) fn entry_at(&self, block: u64) -> u64 {
        self.table.saturating_add(block.saturating_mul(4))
    }
}

/// What the structure of an image follows from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// The footer at the end of the file.
    pub(super) last: Option<Footer>,
    /// Its copy at the start, which fixed images do not have.
    pub(super) copy: Option<Footer>,
    /// The one of these that counts: the last one where it is valid, else the copy.
    pub(super) footer: Option<Footer>,
    /// The dynamic header, where the image has one.
    pub(super) dynamic: Option<Dynamic>,
}

impl Layout {
    /// Reads footer and headers.
    pub(super) fn read(source: &Store) -> Self {
        let end = source.len().saturating_sub(SECTOR);
        let last = Footer::read(source, end);
        let copy = Footer::read(source, 0).filter(|_| end > 0);
        let valid = |footer: &Footer| footer.is_valid(source);
        let footer = last.filter(valid).or(copy.filter(valid)).or(last).or(copy);
        // What the copy says will do where the footer does not know of one.
        let at = |footer: Option<Footer>| {
            let at = footer?.data_offset;
            (at < source.len()).then_some(at)
        };
        let dynamic = at(footer).or(at(copy));
        Self {
            last,
            copy,
            footer,
            dynamic: dynamic.map(|at| Dynamic::read(source, at)),
        }
    }

    /// The type of the image; 0 without a footer.
    pub(super) fn kind(&self) -> u64 {
        self.footer.map_or(0, |footer| footer.kind)
    }

    /// Bytes on the disk.
    pub(super) fn disk_size(&self) -> u64 {
        self.footer.map_or(0, |footer| footer.disk_size())
    }
}

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

#[cfg(test)]
mod tests {
    #[test]
    fn sums_are_complemented() {
        assert_eq!(super::complement_sum(&[1, 2, 255]), !258);
    }
}
