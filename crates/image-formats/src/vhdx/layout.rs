//! Where the structures are: headers, regions, metadata items.

use crate::guid::{Guid, guid};
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;

/// `"vhdxfile"`.
pub(super) const MAGIC: &[u8; 8] = b"vhdxfile";
/// The unit of regions and blocks, in bytes.
pub(super) const MIB: u64 = 1 << 20;
/// Where the two headers are.
pub(super) const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
/// Bytes in a header.
pub(super) const HEADER_BYTES: usize = 4 << 10;
/// Where the two copies of the region table are.
pub(super) const REGION_TABLES: [u64; 2] = [192 << 10, 256 << 10];
/// Bytes in a region table, and in the metadata table.
pub(super) const TABLE_BYTES: usize = 64 << 10;
/// The most entries in a region table or metadata table.
pub(super) const MAX_ENTRIES: u64 = 2047;
/// Sectors of the disk that a sector bitmap block describes.
const CHUNK_SECTORS: u64 = 1 << 23;

/// Sections of the specification.
pub(super) mod sections {
    pub(in crate::vhdx) const IDENTIFIER: &str = "2.2.1 File Type Identifier";
    pub(in crate::vhdx) const HEADERS: &str = "2.2.2 Headers";
    pub(in crate::vhdx) const REGION_HEADER: &str = "2.2.3.1 Region Table Header";
    pub(in crate::vhdx) const REGION_ENTRY: &str = "2.2.3.2 Region Table Entry";
    pub(in crate::vhdx) const LOG_HEADER: &str = "2.3.1.1 Entry Header";
    pub(in crate::vhdx) const LOG_ZERO: &str = "2.3.1.2 Zero Descriptor";
    pub(in crate::vhdx) const LOG_DESCRIPTOR: &str = "2.3.1.3 Data Descriptor";
    pub(in crate::vhdx) const LOG_DATA: &str = "2.3.1.4 Data Sector";
    pub(in crate::vhdx) const LOG: &str = "2.3 Log";
    pub(in crate::vhdx) const REPLAY: &str = "2.3.3 Log Replay";
    pub(in crate::vhdx) const BLOCKS: &str = "2.4 Blocks";
    pub(in crate::vhdx) const BAT: &str = "2.5 BAT";
    pub(in crate::vhdx) const BAT_ENTRY: &str = "2.5.1 BAT Entry";
    pub(in crate::vhdx) const PAYLOAD_STATES: &str = "2.5.1.1 Payload BAT Entry States";
    pub(in crate::vhdx) const BITMAP_STATES: &str = "2.5.1.2 Sector Bitmap BAT Entry States";
    pub(in crate::vhdx) const METADATA_HEADER: &str = "2.6.1.1 Metadata Table Header";
    pub(in crate::vhdx) const METADATA_ENTRY: &str = "2.6.1.2 Metadata Table Entry";
    pub(in crate::vhdx) const KNOWN_ITEMS: &str = "2.6.2 Known Metadata Items";
    pub(in crate::vhdx) const FILE_PARAMETERS: &str = "2.6.2.1 File Parameters";
    pub(in crate::vhdx) const DISK_SIZE: &str = "2.6.2.2 Virtual Disk Size";
    pub(in crate::vhdx) const DISK_ID: &str = "2.6.2.3 Virtual Disk ID";
    pub(in crate::vhdx) const LOGICAL: &str = "2.6.2.4 Logical Sector Size";
    pub(in crate::vhdx) const PHYSICAL: &str = "2.6.2.5 Physical Sector Size";
    pub(in crate::vhdx) const LOCATOR: &str = "2.6.2.6.1 Parent Locator Header";
    pub(in crate::vhdx) const LOCATOR_ENTRY: &str = "2.6.2.6.2 Parent Locator Entry";
    pub(in crate::vhdx) const VHDX_LOCATOR: &str = "2.6.2.6.3 VHDX Parent Locator";
}

/// The region of the block allocation table.
pub(super) const BAT: Guid = guid(0x2dc2_7766, 0xf623, 0x4200, 0x9d64_115e_9bfd_4a08);
/// The region of the metadata.
pub(super) const METADATA: Guid = guid(0x8b7c_a206, 0x4790, 0x4b9a, 0xb8fe_575f_050f_886e);

/// A metadata item of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    FileParameters,
    DiskSize,
    DiskId,
    LogicalSectorSize,
    PhysicalSectorSize,
    ParentLocator,
}

/// What is known of an item.
pub(super) struct KnownItem {
    pub(super) item: Known,
    /// Its name in paths.
    pub(super) name: &'static str,
    pub(super) guid: Guid,
    /// Bits 1 (`IsVirtualDisk`) and 2 (`IsRequired`) of its flags.
    pub(super) flags: u64,
    /// Its length in bytes, where it has one.
    pub(super) length: u64,
}

/// The items of the specification, in the order of [`Known`].
pub(super) const KNOWN: [KnownItem; 6] = [
    KnownItem {
        item: Known::FileParameters,
        name: "file_parameters",
        guid: guid(0xcaa1_6737, 0xfa36, 0x4d43, 0xb3b6_33f0_aa44_e76b),
        flags: 4,
        length: 8,
    },
    KnownItem {
        item: Known::DiskSize,
        name: "virtual_disk_size",
        guid: guid(0x2fa5_4224, 0xcd1b, 0x4876, 0xb211_5dbe_d83b_f4b8),
        flags: 6,
        length: 8,
    },
    KnownItem {
        item: Known::DiskId,
        name: "virtual_disk_id",
        guid: guid(0xbeca_12ab, 0xb2e6, 0x4523, 0x93ef_c309_e000_c746),
        flags: 6,
        length: 16,
    },
    KnownItem {
        item: Known::LogicalSectorSize,
        name: "logical_sector_size",
        guid: guid(0x8141_bf1d, 0xa96f, 0x4709, 0xba47_f233_a8fa_ab5f),
        flags: 6,
        length: 4,
    },
    KnownItem {
        item: Known::PhysicalSectorSize,
        name: "physical_sector_size",
        guid: guid(0xcda3_48c7, 0x445d, 0x4471, 0x9cc9_e988_5251_c556),
        flags: 6,
        length: 4,
    },
    KnownItem {
        item: Known::ParentLocator,
        name: "parent_locator",
        guid: guid(0xa8d3_5f2d, 0xb30b, 0x454d, 0xabf7_d3d8_4834_ab0c),
        flags: 4,
        length: 0,
    },
];

/// The GUID at byte `at`.
pub(super) fn guid_at(source: &Store, at: u64) -> Guid {
    let mut guid = [0; 16];
    source.read(at, &mut guid);
    guid
}

/// Whether the `len` bytes at byte `at` begin with this signature and have the checksum that
/// stands behind it.
pub(super) fn is_intact(source: &Store, (at, len): (u64, usize), signature: &[u8; 4]) -> bool {
    let mut bytes = source.read_vec(at, len);
    let stored = Little.number(&bytes[4..8]);
    bytes[4..8].fill(0);
    bytes.starts_with(signature) && u64::from(crc32c::crc32c(&bytes)) == stored
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// 0 or 1.
    pub(super) index: usize,
    pub(super) at: u64,
    pub(super) sequence: u64,
    pub(super) data_write: Guid,
    pub(super) log_guid: Guid,
    pub(super) log_version: u64,
    pub(super) version: u64,
    pub(super) log_length: u64,
    pub(super) log_offset: u64,
}

impl Header {
    /// Reads a header, whatever it holds.
    pub(super) fn read(source: &Store, index: usize) -> Self {
        let at = HEADERS[index & 1];
        let value = |offset, bytes| number(source, at + offset, bytes, Little);
        Self {
            index,
            at,
            sequence: value(8, 8),
            data_write: guid_at(source, at + 32),
            log_guid: guid_at(source, at + 48),
            log_version: value(64, 2),
            version: value(66, 2),
            log_length: value(68, 4),
            log_offset: value(72, 8),
        }
    }

    /// Whether signature and checksum are right.
    pub(super) fn is_valid(&self, source: &Store) -> bool {
        is_intact(source, (self.at, HEADER_BYTES), b"head")
    }

    /// The current header: the valid one, or of two the one with the larger sequence number.
    /// Two that are the same will do as well: Disk2vhd writes them.
    pub(super) fn current(source: &Store) -> Option<Self> {
        let both = [0, 1].map(|index| Self::read(source, index));
        match both.map(|header| header.is_valid(source)) {
            [true, false] => Some(both[0]),
            [false, true] => Some(both[1]),
            [false, false] => None,
            [true, true] => match both[0].sequence.cmp(&both[1].sequence) {
                std::cmp::Ordering::Greater => Some(both[0]),
                std::cmp::Ordering::Less => Some(both[1]),
                std::cmp::Ordering::Equal => {
                    let [one, two] = HEADERS.map(|at| source.read_vec(at, HEADER_BYTES));
                    (one == two).then_some(both[0])
                }
            },
        }
    }

    /// The current header, or else the first one.
    pub(super) fn best(source: &Store) -> Self {
        Self::current(source).unwrap_or_else(|| Self::read(source, 0))
    }

    /// Whether there may be a log to replay.
    pub(super) fn has_log(&self) -> bool {
        self.log_guid != [0; 16]
    }
}

/// An entry of the region table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    /// Where the entry is.
    pub(super) at: u64,
    pub(super) guid: Guid,
    /// Byte offset of the region.
    pub(super) offset: u64,
    /// Its length in bytes.
    pub(super) length: u64,
    pub(super) required: u64,
}

impl Region {
    /// The entry at byte `at`.
    fn read(source: &Store, at: u64) -> Self {
        Self {
            at,
            guid: guid_at(source, at),
            offset: number(source, at + 16, 8, Little),
            length: number(source, at + 24, 4, Little),
            required: number(source, at + 28, 4, Little),
        }
    }

    /// The entries of the table at byte `table`, at most `most` of them.
    pub(super) fn all(source: &Store, table: u64, most: u64) -> Vec<Self> {
        let count = number(source, table + 8, 4, Little).min(most);
        let entry = |index| Self::read(source, table + 16 + index * 32);
        (0..count).map(entry).collect()
    }
}

/// An entry of the metadata table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    /// Where the entry is.
    pub(super) at: u64,
    pub(super) guid: Guid,
    /// Byte offset in the region.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) length: u64,
    pub(super) flags: u64,
    pub(super) reserved: u64,
}

impl Item {
    fn read(source: &Store, at: u64) -> Self {
        let value = |offset| number(source, at + offset, 4, Little);
        Self {
            at,
            guid: guid_at(source, at),
            offset: value(16),
            length: value(20),
            flags: value(24),
            reserved: value(28),
        }
    }

    /// The entries of the table at byte `table`, at most `most` of them.
    pub(super) fn all(source: &Store, table: u64, most: u64) -> Vec<Self> {
        if table.checked_add(1 << 33).is_none() {
            return Vec::new();
        }
        let count = number(source, table + 10, 2, Little).min(most);
        let entry = |index: u64| Self::read(source, table + 32 + index * 32);
        (0..count).map(entry).collect()
    }

    /// What is known of it.
    pub(super) fn known(&self) -> Option<&'static KnownItem> {
        // Items of users are theirs, whatever they are called.
        let mut all = KNOWN.iter();
        all.find(|known| known.guid == self.guid && self.flags & 1 == 0)
    }
}

/// The numbers that the structure of an image follows from.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Which of [`REGION_TABLES`] was read.
    pub(super) table: usize,
    pub(super) bat: Option<Region>,
    pub(super) metadata: Option<Region>,
    /// The places of [`KNOWN`] items in the file.
    items: [Option<u64>; KNOWN.len()],
    /// The length of the parent locator.
    pub(super) locator_length: u64,
    /// Bytes in a payload block.
    pub(super) block_size: u64,
    /// The flags of the file parameters.
    pub(super) flags: u64,
    /// Bytes on the disk.
    pub(super) virtual_size: u64,
    pub(super) logical_sector_size: u64,
    pub(super) physical_sector_size: u64,
}

impl Layout {
    /// Reads all that leads to the BAT, after the log was replayed.
    pub(super) fn read(source: &Store) -> Self {
        let intact = |index: &usize| {
            let at = REGION_TABLES[*index];
            is_intact(source, (at, TABLE_BYTES), b"regi")
        };
        let table = [0, 1].into_iter().find(intact).unwrap_or(0);
        let regions = Region::all(source, REGION_TABLES[table], MAX_ENTRIES);
        let region = |guid: &Guid| regions.iter().find(|region| region.guid == *guid).copied();
        let (bat, metadata) = (region(&BAT), region(&METADATA));
        let items = metadata.map_or_else(Vec::new, |region| {
            Item::all(source, region.offset, MAX_ENTRIES)
        });
        let entry = |known: &KnownItem| {
            let mut items = items.iter();
            items.find(|item| item.guid == known.guid && item.flags & 1 == 0)
        };
        let places = KNOWN.each_ref().map(|known| {
            let place = metadata?.offset.checked_add(entry(known)?.offset)?;
            // Whatever is read of an item, its offset is a number.
            place.checked_add(1 << 33)?;
            Some(place)
        });
        let value = |item: Known, offset: u64, bytes| {
            places[item as usize].map_or(0, |at| number(source, at + offset, bytes, Little))
        };
        let locator = entry(&KNOWN[Known::ParentLocator as usize]);
        Self {
            table,
            bat,
            metadata,
            items: places,
            locator_length: locator.map_or(0, |item| item.length.min(MIB)),
            block_size: value(Known::FileParameters, 0, 4),
            flags: value(Known::FileParameters, 4, 4),
            virtual_size: value(Known::DiskSize, 0, 8),
            logical_sector_size: value(Known::LogicalSectorSize, 0, 4),
            physical_sector_size: value(Known::PhysicalSectorSize, 0, 4),
        }
    }

    /// Where an item is, if there is one.
    pub(super) fn item(&self, item: Known) -> Option<u64> {
        self.items[item as usize]
    }

    /// Whether the file has a parent.
    pub(super) fn has_parent(&self) -> bool {
        self.flags & 2 != 0
    }

    /// Whether block and sector size are allowed, without which nothing can be found.
    pub(super) fn has_geometry(&self) -> bool {
        let size = self.block_size;
        size.is_power_of_two()
            && (MIB..=256 * MIB).contains(&size)
            && matches!(self.logical_sector_size, 512 | 4096)
    }

    /// Payload blocks in a chunk; at least 1 where there is a geometry.
    pub(super) fn chunk_ratio(&self) -> u64 {
        let chunk = CHUNK_SECTORS * self.logical_sector_size.max(512);
        chunk.checked_div(self.block_size).unwrap_or(1).max(1)
    }

    /// Payload blocks on the disk.
    pub(super) fn payload_blocks(&self) -> u64 {
        self.virtual_size.div_ceil(self.block_size.max(MIB))
    }

    /// Entries of the BAT that are for sector bitmap blocks.
    pub(super) fn bitmap_blocks(&self) -> u64 {
        let (blocks, ratio) = (self.payload_blocks(), self.chunk_ratio());
        match self.has_parent() {
            true => blocks.div_ceil(ratio),
            // Behind the last payload block none is needed.
            false => blocks.saturating_sub(1) / ratio,
        }
    }

    /// Bytes of all entries of the BAT.
    pub(super) fn bat_bytes(&self) -> u64 {
        let entries = match self.has_parent() {
            true => self.bitmap_blocks().saturating_mul(self.chunk_ratio() + 1),
            false => self.payload_blocks().saturating_add(self.bitmap_blocks()),
        };
        entries.saturating_mul(8)
    }

    /// Where the entry of a payload block is in the BAT at byte `bat`.
    pub(super) fn payload_entry(&self, bat: u64, block: u64) -> u64 {
        bat.saturating_add((block + block / self.chunk_ratio()).saturating_mul(8))
    }

    /// Where the entry of the sector bitmap of a chunk is.
    pub(super) fn bitmap_entry(&self, bat: u64, chunk: u64) -> u64 {
        let ratio = self.chunk_ratio();
        let index = chunk.saturating_mul(ratio + 1).saturating_add(ratio);
        bat.saturating_add(index.saturating_mul(8))
    }

    /// The bits of a payload block in the sector bitmap of its chunk: byte offset and bytes.
    pub(super) fn bitmap_bytes(&self, block: u64) -> (u64, u64) {
        let bytes = self.block_size / self.logical_sector_size.max(512) / 8;
        (block % self.chunk_ratio() * bytes, bytes)
    }
}

/// An entry of the BAT.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatEntry {
    pub(super) state: u64,
    /// Byte offset in the file.
    pub(super) offset: u64,
    pub(super) reserved: u64,
}

/// The payload block is not in the file: zeros, or what the parent has.
pub(super) const NOT_PRESENT: u64 = 0;
/// Whatever the block held is gone.
pub(super) const UNDEFINED: u64 = 1;
/// The block reads as zeros.
pub(super) const ZERO: u64 = 2;
/// The block was discarded.
pub(super) const UNMAPPED: u64 = 3;
/// The same, in version 0.95 of the specification.
pub(super) const UNMAPPED_DRAFT: u64 = 5;
/// The block is in the file; of a sector bitmap as well.
pub(super) const PRESENT: u64 = 6;
/// The sectors of the block that the bitmap names are in the file.
pub(super) const PARTIAL: u64 = 7;

impl BatEntry {
    /// The entry at byte `at`.
    pub(super) fn read(source: &Store, at: u64) -> Self {
        let entry = number(source, at, 8, Little);
        Self {
            state: entry & 7,
            offset: entry & !(MIB - 1),
            reserved: entry >> 3 & 0x1_ffff,
        }
    }

    /// Whether the file holds something for it.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self.state, PRESENT | PARTIAL)
    }
}
