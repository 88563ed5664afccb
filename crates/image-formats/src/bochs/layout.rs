//! The header, the catalog and the bitmaps of extents.

use super::rules::sections;
use crate::field::Kind;
use crate::io::ReadAt as _;
use crate::row::{Row, rows};
use crate::store::Store;
use crate::structure::{Nested, Structure, Table, number};
use crate::value::Endian::Little;

/// The magic text, padded with zeros.
pub(super) const MAGIC: &[u8] = b"Bochs Virtual HD Image";
/// The type, padded with zeros.
pub(super) const TYPE: &[u8] = b"Redolog";
/// The subtype of images that stand for themselves, padded with zeros.
pub(super) const GROWING: &[u8] = b"Growing";
/// The subtypes of overlays.
pub(super) const REDOLOGS: [&[u8]; 2] = [b"Undoable", b"Volatile"];
/// Version 1.
pub(super) const VERSION_1: u64 = 0x0001_0000;
/// Version 2, which has a time.
pub(super) const VERSION_2: u64 = 0x0002_0000;
/// Bytes in the header.
pub(super) const HEADER_LEN: u64 = 512;
/// Bytes in a sector.
pub(super) const SECTOR: u64 = 512;
/// The largest extent.
pub(super) const LARGEST_EXTENT: u64 = 8 << 20;
/// The entry of an extent that is not allocated.
pub(super) const UNALLOCATED: u64 = 0xffff_ffff;
/// The most entries of the catalog that are looked at.
const ENTRIES: u64 = 1 << 20;

const HEADER: &[Row] = rows![
    "magic", 0, 32, Text, "must be Bochs Virtual HD Image";
    "type", 32, 16, Text, "must be Redolog";
    "subtype", 48, 16, Text, "Growing, or Undoable and Volatile over another image";
    "version", 64, 4, Version, "0x00010000 or 0x00020000";
    "header", 68, 4, Length, "bytes before the catalog, at least 512";
    "catalog", 72, 4, Count, "entries in the catalog, enough for the disk";
    "bitmap", 76, 4, Length, "bytes in a bitmap, a bit for each sector of an extent";
    "extent", 80, 4, Size, "bytes in an extent, a power of two, 512 to 8 MiB";
];

const HEADER_1: &[Row] = rows![
    "disk", 84, 8, Size, "a multiple of 512";
];

const HEADER_2: &[Row] = rows![
    "timestamp", 84, 4, Number, "of the image below, date and time of FAT";
    "disk", 88, 8, Size, "a multiple of 512";
];

/// The numbers that the structure of an image follows from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) version: u64,
    /// Byte offset of the catalog.
    pub(super) catalog_at: u64,
    pub(super) catalog: u64,
    /// Bytes in the bitmap of an extent.
    pub(super) bitmap: u64,
    /// Bytes of the disk in an extent.
    pub(super) extent: u64,
    /// Bytes on the disk.
    pub(super) disk: u64,
    /// Byte offset of the field with that size.
    pub(super) disk_field: u64,
}

impl Layout {
    /// Reads the header.
    pub(super) fn read(source: &Store) -> Self {
        let at = |offset, bytes| number(source, offset, bytes, Little);
        let version = at(64, 4);
        let disk_field = if version == VERSION_1 { 84 } else { 88 };
        Self {
            version,
            catalog_at: at(68, 4),
            catalog: at(72, 4),
            bitmap: at(76, 4),
            extent: at(80, 4),
            disk: at(disk_field, 8),
            disk_field,
        }
    }

    /// Whether the sizes of extents and bitmaps are allowed, without which nothing can be found.
    pub(super) fn has_geometry(&self) -> bool {
        let extent = self.extent.is_power_of_two();
        extent && (SECTOR..=LARGEST_EXTENT).contains(&self.extent) && self.bitmap > 0
    }

    /// Sectors in an extent.
    pub(super) fn sectors(&self) -> u64 {
        self.extent / SECTOR
    }

    /// Byte offset of the first extent, behind the catalog.
    pub(super) fn extents(&self) -> u64 {
        self.catalog_at + self.catalog * 4
    }

    /// Bytes in a bitmap, in whole sectors.
    pub(super) fn bitmap_room(&self) -> u64 {
        self.bitmap.next_multiple_of(SECTOR)
    }

    /// Bytes in an extent of the file: its bitmap and its data.
    pub(super) fn stored(&self) -> u64 {
        self.bitmap_room() + self.extent
    }

    /// Byte offset of the bitmap of an extent, which its data follows.
    pub(super) fn bitmap_at(&self, entry: u64) -> u64 {
        let behind = entry.saturating_mul(self.stored());
        self.extents().saturating_add(behind)
    }

    /// The first entries of the catalog: those within the file, and not too many.
    pub(super) fn read_catalog(&self, source: &Store) -> Vec<u64> {
        let room = source.len().saturating_sub(self.catalog_at) / 4;
        let entries = self.catalog.min(room).min(ENTRIES);
        let bytes = source.read_vec(self.catalog_at, entries as usize * 4);
        bytes.chunks_exact(4).map(|e| Little.number(e)).collect()
    }
}

/// The structures of an image.
pub(super) fn structure(source: &Store) -> Structure {
    let layout = Layout::read(source);
    let more = if layout.version == VERSION_1 {
        HEADER_1
    } else {
        HEADER_2
    };
    let rule = "the number of an extent of the file, 0xffffffff unallocated";
    let catalog = (layout.catalog_at, layout.catalog, 4);
    let catalog = Table::of_numbers("catalog", catalog, Kind::Number, rule).unused(UNALLOCATED);
    let structure = Structure::new(Little)
        .section(sections::HEADER)
        .record("header", 0, HEADER)
        .record("header", 0, more)
        .section(sections::CATALOG)
        .table(catalog);
    if !layout.has_geometry() {
        return structure;
    }
    let rule = "a bit for each sector, the lowest first: whether it is allocated";
    let bitmap = layout.sectors().div_ceil(8).min(layout.bitmap);
    let bitmap = Table::of_numbers("", (0, bitmap, 1), Kind::Bitmap, rule);
    let bitmaps = Nested::new("bitmap", layout.catalog, bitmap, move |source, index| {
        let at = layout.catalog_at + index * 4;
        let entry = number(source, at, 4, Little);
        let known = entry != UNALLOCATED && at + 4 <= source.len();
        known.then(|| layout.bitmap_at(entry))
    });
    structure.section(sections::EXTENT).nested(bitmaps)
}
