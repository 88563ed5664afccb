//! Where the grains of a sparse extent are.

use super::layout::{
    Hosted, LARGE_TABLE_ENTRIES, MARKERS, REDUNDANT, SECTOR, Shape, ZEROED_GRAINS,
};
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Little;

/// The most sectors in a grain: sectors in the file have numbers of 32 bits.
pub(super) const MOST_GRANULARITY: u64 = 1 << 31;
/// The most sectors of a disk: offsets in bytes are 63 bits.
pub(super) const MOST_CAPACITY: u64 = 1 << 54;

/// What an entry of a grain directory or a grain table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Nothing: the parent has it.
    Unallocated,
    /// It reads as zeros.
    Zeros,
    /// It is at this byte of the file.
    At(u64),
    /// The entry has no meaning.
    Invalid,
}

/// What grains are found by, whatever the kind of the extent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map {
    /// Which kind of extent it is.
    pub(super) shape: Shape,
    /// Sectors on the disk.
    pub(super) capacity: u64,
    /// Sectors in a grain, at least 1.
    pub(super) granularity: u64,
    /// Entries in a grain table, at least 1.
    pub(super) per_table: u64,
    /// Byte offset of the grain directory.
    pub(super) directory: u64,
    /// Byte offset of the redundant one, where there is one.
    pub(super) redundant: Option<u64>,
    /// Entries in the grain directory.
    pub(super) tables: u64,
    /// Whether grains are compressed.
    pub(super) compressed: bool,
    /// Whether compressed grains have markers.
    pub(super) markers: bool,
    /// Whether the number 1 stands for zeros.
    zeroed: bool,
    /// First sector of the grain tables and of the grains, which entries of space-efficient
    /// extents count from.
    regions: (u64, u64),
}

impl Map {
    /// Reads the header of a sparse extent; `None` where nothing can be found by it, or the
    /// file is none.
    pub(super) fn read(source: &Store) -> Option<Self> {
        let map = match Shape::of(source) {
            Shape::Descriptor => return None,
            Shape::Hosted => Self::hosted(Hosted::in_force(source)),
            Shape::Cowd => Self::cowd(source),
            Shape::Se => Self::se(source),
        };
        let granularity = (1..=MOST_GRANULARITY).contains(&map.granularity);
        let valid = granularity && map.per_table > 0 && map.capacity <= MOST_CAPACITY;
        valid.then_some(map)
    }

    fn hosted(header: Hosted) -> Self {
        let sectors = header.granularity.saturating_mul(header.gtes).max(1);
        let has_redundant = header.flags & REDUNDANT != 0 && header.rgd != 0;
        Self {
            shape: Shape::Hosted,
            capacity: header.capacity,
            granularity: header.granularity,
            per_table: header.gtes,
            directory: header.gd.saturating_mul(SECTOR),
            redundant: has_redundant.then(|| header.rgd.saturating_mul(SECTOR)),
            tables: header.capacity.div_ceil(sectors),
            compressed: header.is_compressed(),
            markers: header.flags & MARKERS != 0,
            zeroed: header.flags & ZEROED_GRAINS != 0,
            regions: (0, 0),
        }
    }

    fn cowd(source: &Store) -> Self {
        let at = |offset| number(source, offset, 4, Little);
        Self {
            shape: Shape::Cowd,
            capacity: at(12),
            granularity: at(16),
            per_table: LARGE_TABLE_ENTRIES,
            directory: at(20) * SECTOR,
            redundant: None,
            tables: at(24),
            compressed: false,
            markers: false,
            zeroed: false,
            regions: (0, 0),
        }
    }

    fn se(source: &Store) -> Self {
        let at = |offset| number(source, offset, 8, Little);
        Self {
            shape: Shape::Se,
            capacity: at(16),
            granularity: at(24),
            per_table: at(32).min(1 << 32) * (SECTOR / 8),
            directory: at(128).saturating_mul(SECTOR),
            redundant: None,
            tables: at(136).min(1 << 32) * (SECTOR / 8),
            compressed: false,
            markers: false,
            zeroed: false,
            regions: (at(144), at(192)),
        }
    }

    /// Bytes in an entry.
    pub(super) fn entry_bytes(&self) -> u64 {
        if self.shape == Shape::Se { 8 } else { 4 }
    }

    /// Bytes in a grain.
    pub(super) fn grain_bytes(&self) -> u64 {
        self.granularity * SECTOR
    }

    /// Bytes in a grain table.
    pub(super) fn table_bytes(&self) -> u64 {
        self.per_table.saturating_mul(self.entry_bytes())
    }

    /// Grains on the disk.
    pub(super) fn grains(&self) -> u64 {
        self.capacity.div_ceil(self.granularity)
    }

    /// The entries of the grain directory that are within the file.
    pub(super) fn tables_in_file(&self, source: &Store) -> u64 {
        let room = source.len().saturating_sub(self.directory) / self.entry_bytes();
        self.tables.min(room)
    }

    /// Byte offset of entry `index` of the table at byte `at`.
    pub(super) fn entry_at(&self, at: u64, index: u64) -> u64 {
        at.saturating_add(index.saturating_mul(self.entry_bytes()))
    }

    /// What entry `index` of the grain directory at byte `directory` says of its table.
    pub(super) fn table(&self, source: &Store, directory: u64, index: u64) -> Target {
        if index >= self.tables {
            return Target::Unallocated;
        }
        let entry = self.entry(source, directory, index);
        match (self.shape, entry) {
            (_, 0) => Target::Unallocated,
            (Shape::Se, _) if entry >> 32 != 0x1000_0000 => Target::Invalid,
            (Shape::Se, _) => {
                let at = self.regions.0.saturating_mul(SECTOR);
                let table = (entry & 0xffff_ffff).saturating_mul(self.table_bytes());
                Target::At(at.saturating_add(table))
            }
            _ => Target::At(entry * SECTOR),
        }
    }

    /// What entry `index` of the grain table at byte `table` says of its grain.
    pub(super) fn grain(&self, source: &Store, table: u64, index: u64) -> Target {
        let entry = self.entry(source, table, index);
        if self.shape != Shape::Se {
            return match entry {
                0 => Target::Unallocated,
                1 if self.zeroed => Target::Zeros,
                sector => Target::At(sector * SECTOR),
            };
        }
        match entry >> 60 {
            0 if entry == 0 => Target::Unallocated,
            1 | 2 => Target::Zeros,
            3 => {
                let number = (entry >> 48 & 0xfff) | (entry & 0xffff_ffff_ffff) << 12;
                let at = number.saturating_mul(self.granularity);
                let at = self.regions.1.saturating_add(at);
                Target::At(at.saturating_mul(SECTOR))
            }
            _ => Target::Invalid,
        }
    }

    /// What the tables say of grain `index` of the disk.
    pub(super) fn find(&self, source: &Store, index: u64) -> Target {
        match self.table(source, self.directory, index / self.per_table) {
            Target::At(table) => self.grain(source, table, index % self.per_table),
            target => target,
        }
    }

    fn entry(&self, source: &Store, table: u64, index: u64) -> u64 {
        let at = self.entry_at(table, index);
        number(source, at, self.entry_bytes() as usize, Little)
    }
}
