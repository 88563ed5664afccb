//! The numbers that the structure of an image follows from.

use crate::io::ReadAt as _;
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Big;

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
            at.checked_add(DYNAMIC_BYTES)?;
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

#[cfg(test)]
mod tests {
    #[test]
    fn sums_are_complemented() {
        assert_eq!(super::complement_sum(&[1, 2, 255]), !258);
    }
}
