//! The header and the BAT.

use super::rules::sections;
use crate::field::Kind;
use crate::io::ReadAt as _;
use crate::row::{Row, bit_rows, rows};
use crate::store::Store;
use crate::structure::{Structure, Table, number};
use crate::value::Endian::Little;

/// The magic text of images whose BAT counts in sectors.
pub(super) const MAGIC: &[u8; 16] = b"WithoutFreeSpace";
/// The magic text of images whose BAT counts in clusters.
pub(super) const MAGIC_EXT: &[u8; 16] = b"WithouFreSpacExt";
/// The mark of an image that is open.
pub(super) const IN_USE: u64 = 0x746f_6e59;
/// The mark of an image that was closed.
pub(super) const CLOSED: u64 = 0x312e_3276;
/// Flag: the image is empty.
pub(super) const EMPTY: u64 = 1;
/// Bytes in a sector, the unit of most numbers.
pub(super) const SECTOR: u64 = 512;
/// Where the BAT begins.
pub(super) const BAT_AT: u64 = 64;
/// The most entries of the BAT that are looked at.
const ENTRIES: u64 = 1 << 20;

const HEADER: &[Row] = rows![
    "magic", 0, 16, Bytes, "WithoutFreeSpace or WithouFreSpacExt";
    "version", 16, 4, Version, "must be 2";
    "heads", 20, 4, Count, "for the guest";
    "cylinders", 24, 4, Count, "for the guest";
    "tracks", 28, 4, Count, "sectors in a cluster, not 0";
    "bat_entries", 32, 4, Count, "clusters of the disk";
    "nb_sectors", 36, 8, Size, "sectors of the disk; 32 bits with the older magic";
    "inuse", 44, 4, Magic, "0x746f6e59 while open, 0x312e3276 closed, 0 by older programs";
    "data_off", 48, 4, Offset, "in sectors, behind the BAT; 0 with the older magic only";
    "flags", 52, 4, Flags, "bit 0 only", bit_rows![
        "empty", 0, 1, Flag, "";
    ];
    "ext_off", 56, 8, Offset, "in sectors, 0 without format extension";
];

/// The numbers that the structure of an image follows from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Whether the BAT counts in clusters.
    pub(super) ext: bool,
    /// Sectors in a cluster.
    pub(super) tracks: u64,
    pub(super) bat_entries: u64,
    /// Sectors of the disk, all bits of the field.
    pub(super) sectors_field: u64,
    /// Where the data area begins, in sectors, as the field says.
    pub(super) data_field: u64,
    pub(super) flags: u64,
    /// Where the format extension begins, in sectors; 0 where there is none.
    pub(super) extension: u64,
}

impl Layout {
    /// Reads the header.
    pub(super) fn read(source: &Store) -> Self {
        let at = |offset, bytes| number(source, offset, bytes, Little);
        Self {
            ext: source.read_vec(0, 16) == MAGIC_EXT,
            tracks: at(28, 4),
            bat_entries: at(32, 4),
            sectors_field: at(36, 8),
            data_field: at(48, 4),
            flags: at(52, 4),
            extension: at(56, 8),
        }
    }

    /// Bytes in a cluster.
    pub(super) fn cluster_size(&self) -> u64 {
        self.tracks * SECTOR
    }

    /// Sectors of the disk.
    pub(super) fn sectors(&self) -> u64 {
        if self.ext {
            self.sectors_field
        } else {
            self.sectors_field & 0xffff_ffff
        }
    }

    /// Clusters of the disk; `None` where they have no size.
    pub(super) fn clusters_of_disk(&self) -> Option<u64> {
        (self.tracks > 0).then(|| self.sectors().div_ceil(self.tracks))
    }

    /// The first sector that the data area can begin with.
    pub(super) fn first_data(&self) -> u64 {
        let end = (BAT_AT + self.bat_entries * 4).div_ceil(SECTOR);
        if self.ext && self.tracks > 0 {
            end.next_multiple_of(self.tracks)
        } else {
            end
        }
    }

    /// Byte offset of the data area.
    pub(super) fn data(&self) -> u64 {
        match self.data_field {
            0 => self.first_data() * SECTOR,
            sectors => sectors * SECTOR,
        }
    }

    /// Byte offset of the cluster that an entry of the BAT stands for.
    pub(super) fn cluster_at(&self, entry: u64) -> u64 {
        let unit = if self.ext {
            self.cluster_size()
        } else {
            SECTOR
        };
        entry.saturating_mul(unit)
    }

    /// Byte offset of the format extension, where there is one within the file.
    pub(super) fn extension_at(&self, len: u64) -> Option<u64> {
        let at = self.extension.checked_mul(SECTOR)?;
        let end = at.checked_add(self.cluster_size())?;
        (at > 0 && end <= len && self.tracks > 0).then_some(at)
    }

    /// The first entries of the BAT: those within the file, and not too many.
    pub(super) fn read_bat(&self, source: &Store) -> Vec<u64> {
        let room = source.len().saturating_sub(BAT_AT) / 4;
        let entries = self.bat_entries.min(room).min(ENTRIES);
        let bytes = source.read_vec(BAT_AT, entries as usize * 4);
        bytes.chunks_exact(4).map(|e| Little.number(e)).collect()
    }
}

/// The structures that every image has.
pub(super) fn structure(layout: Layout) -> Structure {
    let rule = "0 unallocated, or where the cluster is, in sectors or in clusters";
    let bat = Table::of_numbers("bat", (BAT_AT, layout.bat_entries, 4), Kind::Offset, rule);
    Structure::new(Little)
        .section(sections::HEADER)
        .record("header", 0, HEADER)
        .section(sections::BAT)
        .table(bat)
}
