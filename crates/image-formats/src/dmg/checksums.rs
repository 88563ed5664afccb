//! The checksums of tables, of the data fork, and of those of the tables.

use super::codec::ChunkType;
use super::disk::{self, Placed};
use super::layout::{self, BlockTable, CRC32, Directory, SECTOR, Trailer};
use super::rules;
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::structure::{Derivation, Structure, number};
use crate::value::Endian::Big;

/// The most bytes of data that checksums are computed of.
const MOST_BYTES: u64 = 64 << 20;
/// The most tables whose checksums are computed.
const MOST_TABLES: usize = 64;

/// Adds the checksums that are CRC-32, where they are not of too much data.
pub(super) fn add(
    found: Structure,
    source: &Store,
    trailer: Trailer,
    directory: &Directory,
) -> Structure {
    let mut found = found;
    let mut left = MOST_BYTES;
    for table in directory.tables.iter().take(MOST_TABLES) {
        let size = table.number(16, 8).saturating_mul(SECTOR);
        let has_one = table.is_table() && (table.number(64, 4), table.number(68, 4)) == (CRC32, 32);
        if !has_one || size > left {
            continue;
        }
        left -= size;
        let path = table.path.clone();
        found = found.derived(
            &format!("{path}.table.checksum"),
            Derivation::Checksum,
            rules::TABLE_CHECKSUM,
            move |bytes| {
                let directory = layout::directory(bytes);
                let table = directory.tables.iter().find(|table| table.path == path);
                let sum = |table: &BlockTable| {
                    let is = table.number(72, 4);
                    of_table(bytes, table).map_or(is, u64::from)
                };
                table.map_or(0, sum).into()
            },
        );
    }
    let has_one = |at: u64| {
        let word = |at| number(source, trailer.at.saturating_add(at), 4, Big);
        (word(at), word(at + 4)) == (CRC32, 32)
    };
    if has_one(80) && trailer.data.1 <= MOST_BYTES {
        found = found.derived(
            "trailer.data_checksum",
            Derivation::Checksum,
            rules::DATA_CHECKSUM,
            |bytes| {
                let trailer = Trailer::read(bytes);
                let (offset, len) = trailer.data;
                let len = len.min(bytes.len().saturating_sub(offset)).min(MOST_BYTES);
                let data = bytes.read_vec(offset, len as usize);
                u64::from(crc32fast::hash(&data)).into()
            },
        );
    }
    if has_one(352) {
        found = found.derived(
            "trailer.master_checksum",
            Derivation::Checksum,
            rules::MASTER_CHECKSUM,
            |bytes| u64::from(master(&layout::directory(bytes))).into(),
        );
    }
    found
}

/// The checksum of the checksums of the tables.
fn master(directory: &Directory) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    for table in directory.used() {
        // At most the 128 bytes that there is room for.
        let len = (table.number(68, 4) / 8).min(128) as usize;
        sum.update(table.bytes.get(72..72 + len).unwrap_or(&[]));
    }
    sum.finalize()
}

/// The checksum of the sectors of a table; `None` where they cannot be read.
fn of_table(bytes: &Store, table: &BlockTable) -> Option<u32> {
    let bases = disk::bases(Trailer::read(bytes), table);
    let mut left = table.number(16, 8).min(MOST_BYTES / SECTOR);
    let mut sum = crc32fast::Hasher::new();
    for chunk in table.chunks() {
        let Some(chunk) = Placed::new(chunk, bases) else {
            continue;
        };
        left = left.checked_sub(chunk.sectors)?;
        if chunk.kind == ChunkType::Ignore {
            // Free space is not counted.
            continue;
        }
        sum.update(&chunk.expand(bytes).ok()?);
    }
    Some(sum.finalize())
}
