//! The header and the offsets.

use super::rules::sections;
use crate::field::Kind;
use crate::io::ReadAt as _;
use crate::row::{Row, rows};
use crate::store::Store;
use crate::structure::{Structure, Table, number};
use crate::value::Endian::Big;

/// What the script in the header begins with, up to the version.
pub(super) const SCRIPT: &[u8] = b"#!/bin/sh\n#V";
/// The version, and the end of its line.
pub(super) const VERSION: &[u8] = b"2.0 Format\n";
/// Bytes that the script has room in.
pub(super) const SCRIPT_LEN: u64 = 128;
/// Where the offsets begin.
pub(super) const OFFSETS_AT: u64 = 136;
/// Bytes in a sector.
pub(super) const SECTOR: u64 = 512;
/// The largest block that readers allow.
pub(super) const LARGEST_BLOCK: u64 = 64 << 20;
/// The most offsets that are looked at.
const MOST_OFFSETS: u64 = 1 << 20;

const HEADER: &[Row] = rows![
    "script", 0, 128, Text, "starts with #!/bin/sh and #V2.0 Format, a line each";
    "block_size", 128, 4, Size, "a multiple of 512, not 0, up to 64 MiB";
    "n_blocks", 132, 4, Count, "one less than the offsets";
];

/// The numbers that the structure of an image follows from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Bytes of the disk in a block.
    pub(super) block_size: u64,
    /// Blocks of the disk.
    pub(super) blocks: u64,
}

impl Layout {
    /// Reads the header.
    pub(super) fn read(source: &Store) -> Self {
        Self {
            block_size: number(source, 128, 4, Big),
            blocks: number(source, 132, 4, Big),
        }
    }

    /// Whether the size of a block is one that is read.
    pub(super) fn has_geometry(&self) -> bool {
        let size = self.block_size;
        size.is_multiple_of(SECTOR) && (SECTOR..=LARGEST_BLOCK).contains(&size)
    }

    /// The first byte behind the offsets.
    pub(super) fn behind_offsets(&self) -> u64 {
        OFFSETS_AT + (self.blocks + 1) * 8
    }

    /// Where compressed block `index` begins and where it ends.
    pub(super) fn block(&self, source: &Store, index: u64) -> (u64, u64) {
        let at = |index| number(source, OFFSETS_AT + index * 8, 8, Big);
        (at(index), at(index + 1))
    }

    /// The first offsets: those within the file, and not too many.
    pub(super) fn read_offsets(&self, source: &Store) -> Vec<u64> {
        let room = source.len().saturating_sub(OFFSETS_AT) / 8;
        let count = (self.blocks + 1).min(room).min(MOST_OFFSETS);
        let bytes = source.read_vec(OFFSETS_AT, count as usize * 8);
        bytes.chunks_exact(8).map(|o| Big.number(o)).collect()
    }
}

/// The structures of an image.
pub(super) fn structure(source: &Store) -> Structure {
    let layout = Layout::read(source);
    let rule = "where a block begins and the one before it ends; never falling";
    let offsets = (OFFSETS_AT, layout.blocks + 1, 8);
    Structure::new(Big)
        .section(sections::HEADER)
        .record("header", 0, HEADER)
        .section(sections::OFFSETS)
        .table(Table::of_numbers("offset", offsets, Kind::Offset, rule))
}
