//! The header and block map.

use crate::field::Kind;
use crate::io::ReadAt as _;
use crate::row::{Row, bit_rows, rows};
use crate::store::Store;
use crate::structure::{Derivation, Structure, Table, number};
use crate::value::Endian::Little;

use super::rules::{BLOCKS, BLOCKS_ALLOCATED, sections};

/// The signature.
pub(super) const SIGNATURE: u32 = 0xbeda_107f;
/// The version that is written today.
pub(super) const VERSION_1_1: u64 = 0x0001_0001;
/// Type: blocks are allocated as they are written.
pub(super) const DYNAMIC: u64 = 1;
/// Type: all blocks are allocated.
pub(super) const STATIC: u64 = 2;
/// Type: as the differencing one; older.
pub(super) const UNDO: u64 = 3;
/// Type: unallocated blocks are those of the parent.
pub(super) const DIFFERENCING: u64 = 4;
/// Flag: blocks are filled with zeros when they are allocated.
pub(super) const ZERO_EXPAND: u64 = 0x100;
/// The entry of a block that was never allocated.
pub(super) const UNALLOCATED: u64 = 0xffff_ffff;
/// The entry of a block that reads as zeros.
pub(super) const DISCARDED: u64 = 0xffff_fffe;
/// Where the header begins, behind text, signature and version.
pub(super) const HEADER_AT: u64 = 72;
/// Bytes in the header of version 0.
pub(super) const HEADER_0_LEN: u64 = 348;
/// Bytes in the header of version 1.
pub(super) const HEADER_1_LEN: u64 = 384;
/// Bytes in the header of version 1 with the logical geometry.
pub(super) const HEADER_1_PLUS_LEN: u64 = 400;
/// The most entries of the block map that are looked at.
const ENTRIES: u64 = 1 << 20;

const PRE_HEADER: &[Row] = rows![
    "text", 0, 64, Text, "names the program that made the image";
    "signature", 64, 4, Magic, "must be 0xbeda107f";
    "version", 68, 4, Version, "must be 0x00010001, or of major version 0";
];

const HEADER_0: &[Row] = rows![
    "image_type", 72, 4, Choice, "1 dynamic, 2 static, 3 undo, 4 differencing";
    "image_flags", 76, 4, Flags, "bit 8 only", bit_rows![
        "zero_expand", 8, 1, Flag, "";
    ];
    "description", 80, 256, Text, "ended by a zero byte";
    "cylinders", 336, 4, Count, "at most 65535";
    "heads", 340, 4, Count, "at most 255";
    "sectors", 344, 4, Count, "at most 63";
    "sector_size", 348, 4, Count, "must be 512";
    "disk_size", 352, 8, Size, "at most blocks_in_image blocks";
    "block_size", 360, 4, Size, "a power of two, at least 512";
    "blocks_in_image", 364, 4, Count, "as many as the disk has";
    "blocks_allocated", 368, 4, Count, "as many as the block map has";
    "uuid_image", 372, 16, Bytes, "not zero";
    "uuid_last_snap", 388, 16, Bytes, "not zero; of the last change";
    "uuid_link", 404, 16, Bytes, "the parent's uuid_image, zero without one";
];

const HEADER_1: &[Row] = rows![
    "header_size", 72, 4, Length, "at least 384";
    "image_type", 76, 4, Choice, "1 dynamic, 2 static, 3 undo, 4 differencing";
    "image_flags", 80, 4, Flags, "bit 8 only", bit_rows![
        "zero_expand", 8, 1, Flag, "";
    ];
    "description", 84, 256, Text, "ended by a zero byte";
    "offset_bmap", 340, 4, Offset, "a multiple of 512, behind the header";
    "offset_data", 344, 4, Offset, "a multiple of 512, behind the block map";
    "cylinders", 348, 4, Count, "at most 65535";
    "heads", 352, 4, Count, "at most 255";
    "sectors", 356, 4, Count, "at most 63";
    "sector_size", 360, 4, Count, "must be 512";
    "unused1", 364, 4, Reserved, "must be 0";
    "disk_size", 368, 8, Size, "at most blocks_in_image blocks";
    "block_size", 376, 4, Size, "a power of two, at least 512; 1 MiB in images QEMU reads";
    "block_extra", 380, 4, Size, "bytes before the data of each block, 0 or a power of two";
    "blocks_in_image", 384, 4, Count, "as many as the disk has; QEMU reads up to 0x1fffff80";
    "blocks_allocated", 388, 4, Count, "as many as the block map has";
    "uuid_image", 392, 16, Bytes, "not zero";
    "uuid_last_snap", 408, 16, Bytes, "not zero; of the last change";
    "uuid_link", 424, 16, Bytes, "the parent's uuid_image, zero without one";
    "uuid_parent", 440, 16, Bytes, "the parent's uuid_last_snap, zero without one";
];

const LOGICAL_GEOMETRY: &[Row] = rows![
    "logical_cylinders", 456, 4, Count, "at most 1024";
    "logical_heads", 460, 4, Count, "at most 255";
    "logical_sectors", 464, 4, Count, "at most 63";
    "logical_sector_size", 468, 4, Count, "must be 512, or 0 where it is not known";
];

/// The numbers that the structure of an image follows from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) version: u64,
    /// Bytes in the header, without text, signature and version.
    pub(super) header_size: u64,
    pub(super) image_type: u64,
    /// Byte offset of the block map.
    pub(super) map: u64,
    /// Byte offset of the blocks.
    pub(super) data: u64,
    pub(super) sector_size: u64,
    /// Bytes on the disk.
    pub(super) disk_size: u64,
    /// Bytes of the disk in a block.
    pub(super) block_size: u64,
    /// Bytes before the data of each block.
    pub(super) block_extra: u64,
    pub(super) blocks: u64,
    pub(super) allocated: u64,
    pub(super) uuid: [u8; 16],
    pub(super) modified: [u8; 16],
    pub(super) link: [u8; 16],
    /// The UUID of the last change of the parent; version 0 does not have it.
    pub(super) parent: Option<[u8; 16]>,
}

impl Layout {
    /// Reads the header.
    pub(super) fn read(source: &Store) -> Self {
        let at = |offset, bytes| number(source, offset, bytes, Little);
        let uuid = |offset| {
            let mut uuid = [0; 16];
            source.read(offset, &mut uuid);
            uuid
        };
        let version = at(68, 4);
        if is_version_0(version) {
            let blocks = at(364, 4);
            let map = HEADER_AT + HEADER_0_LEN;
            return Self {
                version,
                header_size: HEADER_0_LEN,
                image_type: at(72, 4),
                map,
                data: map + blocks * 4,
                sector_size: at(348, 4),
                disk_size: at(352, 8),
                block_size: at(360, 4),
                block_extra: 0,
                blocks,
                allocated: at(368, 4),
                uuid: uuid(372),
                modified: uuid(388),
                link: uuid(404),
                parent: None,
            };
        }
        Self {
            version,
            header_size: at(72, 4),
            image_type: at(76, 4),
            map: at(340, 4),
            data: at(344, 4),
            sector_size: at(360, 4),
            disk_size: at(368, 8),
            block_size: at(376, 4),
            block_extra: at(380, 4),
            blocks: at(384, 4),
            allocated: at(388, 4),
            uuid: uuid(392),
            modified: uuid(408),
            link: uuid(424),
            parent: Some(uuid(440)),
        }
    }

    /// Whether the header is the earlier one, without offsets.
    pub(super) fn is_version_0(&self) -> bool {
        is_version_0(self.version)
    }

    /// Whether the size of a block is allowed, without which none can be found.
    pub(super) fn has_geometry(&self) -> bool {
        self.block_size.is_power_of_two() && self.block_size >= 512
    }

    /// Whether unallocated blocks are those of a parent.
    pub(super) fn has_parent(&self) -> bool {
        matches!(self.image_type, UNDO | DIFFERENCING)
    }

    /// The name of the parent. The image has its UUID only; the name is the one that VirtualBox
    /// gives to images that are not the first of a chain.
    pub(super) fn parent_name(&self) -> Option<Vec<u8>> {
        let named = self.has_parent() && self.link != [0; 16];
        named.then(|| format!("{}.vdi", uuid_text(self.link)).into_bytes())
    }

    /// Blocks that the disk has.
    pub(super) fn blocks_of_disk(&self) -> Option<u64> {
        let blocks = self.has_geometry();
        blocks.then(|| self.disk_size.div_ceil(self.block_size))
    }

    /// Entries of the block map that are within the file, and are not too many to look at.
    pub(super) fn entries(&self, len: u64) -> u64 {
        let room = len.saturating_sub(self.map) / 4;
        self.blocks.min(room).min(ENTRIES)
    }

    /// Byte offset of the data of the block that is stored as number `entry`.
    pub(super) fn block_at(&self, entry: u64) -> u64 {
        let stored = self.block_size + self.block_extra;
        let first = self.data + self.block_extra;
        entry.saturating_mul(stored).saturating_add(first)
    }

    /// The first entries of the block map, see [`Self::entries`].
    pub(super) fn read_map(&self, source: &Store) -> Vec<u64> {
        let entries = self.entries(source.len());
        let bytes = source.read_vec(self.map, entries as usize * 4);
        bytes.chunks_exact(4).map(|e| Little.number(e)).collect()
    }
}

fn is_version_0(version: u64) -> bool {
    version < 1 << 16
}

/// The text of a UUID, whose first three numbers are little-endian, in braces.
fn uuid_text(uuid: [u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, rest @ ..] = uuid;
    let numbers = [d, c, b, a, f, e, h, g];
    let mut text = String::from("{");
    for (i, byte) in numbers.iter().chain(&rest).enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text + "}"
}

/// The structures of an image.
pub(super) fn structure(source: &Store) -> Structure {
    let layout = Layout::read(source);
    let mut structure = Structure::new(Little)
        .section(sections::PRE_HEADER)
        .record("header", 0, PRE_HEADER)
        .section(sections::HEADER);
    structure = if layout.is_version_0() {
        structure.record("header", 0, HEADER_0)
    } else {
        structure.record("header", 0, HEADER_1)
    };
    if !layout.is_version_0() && layout.header_size >= HEADER_1_PLUS_LEN {
        structure = structure.record("header", 0, LOGICAL_GEOMETRY);
    }
    let rule = "the number of a stored block, 0xffffffff unallocated, 0xfffffffe zeros";
    let map = Table::of_numbers(
        "block_map",
        (layout.map, layout.blocks, 4),
        Kind::Number,
        rule,
    );
    structure
        .section(sections::BLOCK_MAP)
        .table(map.unused(UNALLOCATED))
        .derived(
            "header.blocks_in_image",
            Derivation::Value,
            BLOCKS,
            |bytes| {
                let layout = Layout::read(bytes);
                let blocks = layout.blocks_of_disk().filter(|n| *n <= u32::MAX.into());
                blocks.unwrap_or(layout.blocks).into()
            },
        )
        .derived(
            "header.blocks_allocated",
            Derivation::Value,
            BLOCKS_ALLOCATED,
            |bytes| {
                let layout = Layout::read(bytes);
                if layout.blocks > layout.entries(bytes.len()) {
                    // Not all of the map is known.
                    return layout.allocated.into();
                }
                let map = layout.read_map(bytes);
                let allocated = map.iter().filter(|entry| **entry < DISCARDED);
                (allocated.count() as u64).into()
            },
        )
}

#[cfg(test)]
mod tests {
    #[test]
    fn uuids_are_shown_as_virtualbox_does() {
        let uuid: [u8; 16] = std::array::from_fn(|i| i as u8);
        let text = "{03020100-0504-0706-0809-0a0b0c0d0e0f}";
        assert_eq!(super::uuid_text(uuid), text);
    }
}
