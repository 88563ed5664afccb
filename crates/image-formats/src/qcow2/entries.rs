//! The entries of the tables.

use crate::field::{Place, ones, word};
use crate::qcow2::types::{Geometry, HostOffset};
use crate::row::{BitRow, bit_rows};
use crate::value::Endian;

/// Bits 9 to 55, which hold the offset in most entries.
pub(crate) const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 63: the reference count is exactly one.
pub(crate) const COPIED: u64 = 1 << 63;
/// Bit 62 of an L2 entry: the cluster is compressed.
pub(crate) const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of an L2 entry: the cluster reads as zeros.
pub(crate) const ZERO: u64 = 1;
/// Bits 9 to 63 of an entry of the refcount table.
pub(crate) const REFCOUNT_OFFSET_MASK: u64 = !0x1ff;

/// The meaning of a word of an L2 table, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum L2Entry {
    /// A standard cluster descriptor.
    Standard {
        /// Offset of the data; 0 when there is none.
        host: HostOffset,
        /// Whether it reads as zeros (never set with extended entries).
        zero: bool,
        /// Whether the flag COPIED is set: the reference count is exactly one.
        copied: bool,
    },
    /// A compressed cluster descriptor.
    Compressed(CompressedDescriptor),
}

/// Where a compressed cluster is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressedDescriptor {
    /// Byte offset of the first compressed byte, of any alignment.
    pub host: HostOffset,
    /// Sectors of 512 bytes used beyond the one that contains the offset.
    pub additional_sectors: u64,
}

impl CompressedDescriptor {
    /// Bytes from the offset to the end of the last sector.
    #[must_use]
    pub(crate) fn len(self) -> u64 {
        (self.additional_sectors + 1) * 512 - self.host.0 % 512
    }
}

impl L2Entry {
    /// Reads the first (or only) word of an L2 entry.
    #[must_use]
    pub(crate) fn from_word(word: u64, geometry: Geometry) -> Self {
        if word & COMPRESSED == 0 {
            return Self::Standard {
                host: HostOffset(word & OFFSET_MASK),
                zero: word & ZERO != 0 && !geometry.extended_l2(),
                copied: word & COPIED != 0,
            };
        }
        let x = geometry.compressed_offset_bits();
        Self::Compressed(CompressedDescriptor {
            host: HostOffset(word & ones(x as u8)),
            additional_sectors: (word & ones(62)) >> x,
        })
    }

    /// The word of the entry; none when a part does not fit into its bits.
    #[must_use]
    pub(crate) fn to_word(self, geometry: Geometry) -> Option<u64> {
        match self {
            Self::Standard { host, zero, copied } => (host.0 & !OFFSET_MASK == 0)
                .then_some(host.0 | if zero { ZERO } else { 0 } | if copied { COPIED } else { 0 }),
            Self::Compressed(CompressedDescriptor {
                host,
                additional_sectors,
            }) => {
                let x = geometry.compressed_offset_bits();
                let fits = host.0 <= ones(x as u8) && additional_sectors <= ones((62 - x) as u8);
                fits.then_some(COMPRESSED | host.0 | additional_sectors << x)
            }
        }
    }
}

/// The subcluster allocation bitmap of an extended L2 entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subclusters {
    /// Bit x: subcluster x is allocated.
    pub allocated: u32,
    /// Bit x: subcluster x reads as zeros.
    pub zero: u32,
}

impl Subclusters {
    /// Splits the second word of an extended L2 entry.
    #[must_use]
    pub(crate) fn from_word(word: u64) -> Self {
        Self {
            allocated: (word & u64::from(u32::MAX)) as u32,
            zero: (word >> 32) as u32,
        }
    }

    /// The second word of an extended L2 entry.
    #[must_use]
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.zero) << 32 | u64::from(self.allocated)
    }
}

/// The place of a reference count of `bits` bits; sub-byte ones fill a byte from its
/// least significant bit on.
pub(crate) fn refcount_place(block: u64, index: u64, bits: u32) -> Option<Place> {
    let bit = index.checked_mul(u64::from(bits))?;
    let offset = block.checked_add(bit / 8)?;
    let (bytes, low) = (bits.div_ceil(8) as u8, (bit % 8) as u8);
    Some(word(offset, bytes, Endian::Big, low, bits as u8, false))
}

/// Named bits of an L1 entry.
pub(crate) const L1_BITS: &[BitRow] = bit_rows![
    "offset", 9, 47, Offset, "cluster aligned, within the file; 0 when there is no L2 table";
    "copied", 63, 1, Flag, "set exactly when the refcount of the L2 table is 1";
    "reserved_low", 0, 9, Reserved, "must be 0";
    "reserved_high", 56, 7, Reserved, "must be 0";
];

/// Named bits of an L2 entry for a standard cluster.
pub(crate) const STANDARD_BITS: &[BitRow] = bit_rows![
    "offset", 9, 47, Offset, "cluster aligned, within the file; 0 when unallocated";
    "copied", 63, 1, Flag, "set exactly when the refcount of the cluster is 1";
    "compressed", 62, 1, Flag, "set for compressed clusters";
    "zero", 0, 1, Flag, "reads as zeros; 0 in version 2 and with extended entries";
    "reserved_low", 1, 8, Reserved, "must be 0";
    "reserved_high", 56, 6, Reserved, "must be 0";
];

/// Named bits of the second word of an extended L2 entry.
pub(crate) const SUBCLUSTER_BITS: &[BitRow] = bit_rows![
    "subclusters_allocated", 0, 32, Bitmap, "a bit here needs a host cluster and no zero bit";
    "subclusters_zero", 32, 32, Bitmap, "a bit here excludes the allocated bit";
];

/// Named bits of an entry of the refcount table.
pub(crate) const REFCOUNT_TABLE_BITS: &[BitRow] = bit_rows![
    "offset", 9, 55, Offset, "cluster aligned, within the file; 0 when there is no block";
    "reserved", 0, 9, Reserved, "must be 0";
];

/// Named bits of an entry of a bitmap table.
pub(crate) const BITMAP_TABLE_BITS: &[BitRow] = bit_rows![
    "offset", 9, 47, Offset, "cluster aligned, within the file; 0 when not stored";
    "all_ones", 0, 1, Flag, "a cluster without offset reads as ones; 0 with an offset";
    "reserved_low", 1, 8, Reserved, "must be 0";
    "reserved_high", 56, 8, Reserved, "must be 0";
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_survive(word: u64, cluster_bits in 9..=21u32) {
            let geometry = Geometry::new(cluster_bits, 4, false).unwrap();
            let entry = L2Entry::from_word(word, geometry);
            let back = entry.to_word(geometry).unwrap();
            prop_assert_eq!(L2Entry::from_word(back, geometry), entry);
            if let L2Entry::Compressed(_) = entry {
                prop_assert_eq!(back, word & !COPIED);
            }
            prop_assert_eq!(Subclusters::from_word(word).to_word(), word);
        }
    }
}
