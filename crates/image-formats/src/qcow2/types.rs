//! Types for offsets and indexes, and the sizes in an image.

use std::fmt;

macro_rules! numbers {
    ($($(#[$doc:meta])* $vis:vis $name:ident, $format:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $vis struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    )*};
}

numbers! {
    /// A byte offset on the disk the guest sees.
    pub GuestOffset, "{:#x}";
    /// A byte offset in the image file (or in the external data file).
    pub HostOffset, "{:#x}";
    /// A cluster of the guest's disk, counted from 0.
    pub(crate) GuestCluster, "{}";
    /// A cluster of the image file, counted from 0.
    pub(crate) ClusterIndex, "{}";
    /// An entry of an L1 table.
    pub(crate) L1Index, "{}";
    /// An entry of an L2 table.
    pub(crate) L2Index, "{}";
    /// An entry of the refcount table.
    pub(crate) RefcountTableIndex, "{}";
    /// An entry of a refcount block.
    pub(crate) RefcountBlockIndex, "{}";
}

/// The sizes that follow from the header, all of them within sane bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    cluster_bits: u32,
    refcount_order: u32,
    extended_l2: bool,
}

impl Geometry {
    /// The smallest cluster the format allows: 512 bytes.
    pub(crate) const MIN_CLUSTER_BITS: u32 = 9;
    /// The largest cluster that is followed, 16 MiB. The format names no limit; QEMU
    /// reads up to 2 MiB. Buffers of one cluster are what bounds this.
    pub(crate) const MAX_CLUSTER_BITS: u32 = 24;

    /// The geometry of an image, unless `cluster_bits` is out of range. A refcount
    /// order above 6, which the format forbids, is taken as 6.
    #[must_use]
    pub(crate) fn new(cluster_bits: u32, refcount_order: u32, extended_l2: bool) -> Option<Self> {
        (Self::MIN_CLUSTER_BITS..=Self::MAX_CLUSTER_BITS)
            .contains(&cluster_bits)
            .then_some(Self {
                cluster_bits,
                refcount_order: refcount_order.min(6),
                extended_l2,
            })
    }

    /// Bytes in a cluster.
    #[must_use]
    pub fn cluster_size(self) -> u64 {
        1 << self.cluster_bits
    }

    /// Whether L2 entries are 16 bytes long and have 32 subclusters.
    #[must_use]
    pub(crate) fn extended_l2(self) -> bool {
        self.extended_l2
    }

    /// Bytes in an L2 entry, 8 or 16.
    #[must_use]
    pub(crate) fn l2_entry_size(self) -> u64 {
        if self.extended_l2 { 16 } else { 8 }
    }

    /// Entries in an L2 table.
    #[must_use]
    pub(crate) fn l2_entries(self) -> u64 {
        self.cluster_size() / self.l2_entry_size()
    }

    /// Bytes in a subcluster; those of the cluster without extended L2 entries.
    #[must_use]
    pub(crate) fn subcluster_size(self) -> u64 {
        if self.extended_l2 {
            self.cluster_size() / 32
        } else {
            self.cluster_size()
        }
    }

    /// Bits in a reference count, 1 to 64.
    #[must_use]
    pub(crate) fn refcount_bits(self) -> u32 {
        1 << self.refcount_order
    }

    /// The largest reference count that can be stored.
    #[must_use]
    pub(crate) fn max_refcount(self) -> u64 {
        crate::field::ones(self.refcount_bits() as u8)
    }

    /// Reference counts in a refcount block.
    #[must_use]
    pub(crate) fn refcount_block_entries(self) -> u64 {
        self.cluster_size() * 8 / u64::from(self.refcount_bits())
    }

    /// The cluster of the file that contains byte `offset`.
    #[must_use]
    pub(crate) fn cluster_of(self, offset: HostOffset) -> ClusterIndex {
        ClusterIndex(offset.0 >> self.cluster_bits)
    }

    /// Where a cluster of the file starts, unless that is past 2^64.
    #[must_use]
    pub(crate) fn offset_of(self, cluster: ClusterIndex) -> Option<HostOffset> {
        cluster.0.checked_mul(self.cluster_size()).map(HostOffset)
    }

    /// The cluster of the guest's disk that contains byte `offset`.
    #[must_use]
    pub(crate) fn guest_cluster_of(self, offset: GuestOffset) -> GuestCluster {
        GuestCluster(offset.0 >> self.cluster_bits)
    }

    /// The entries of the two tables that describe a guest cluster.
    #[must_use]
    pub(crate) fn indices(self, cluster: GuestCluster) -> (L1Index, L2Index) {
        (
            L1Index(cluster.0 / self.l2_entries()),
            L2Index(cluster.0 % self.l2_entries()),
        )
    }

    /// The entries of the two tables that hold the reference count of a cluster.
    #[must_use]
    pub(crate) fn refcount_indices(
        self,
        cluster: ClusterIndex,
    ) -> (RefcountTableIndex, RefcountBlockIndex) {
        let per_block = self.refcount_block_entries();
        (
            RefcountTableIndex(cluster.0 / per_block),
            RefcountBlockIndex(cluster.0 % per_block),
        )
    }

    /// How many clusters hold `bytes` bytes.
    #[must_use]
    pub(crate) fn clusters_for(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster_size())
    }

    /// How many L1 entries a disk of `size` bytes needs.
    #[must_use]
    pub(crate) fn l1_entries_for(self, size: u64) -> u64 {
        self.clusters_for(size).div_ceil(self.l2_entries())
    }

    /// Whether byte `offset` is the start of a cluster.
    #[must_use]
    pub(crate) fn is_aligned(self, offset: u64) -> bool {
        offset.is_multiple_of(self.cluster_size())
    }

    /// `x` of the compressed cluster descriptor: the number of bits of the offset.
    #[must_use]
    pub(crate) fn compressed_offset_bits(self) -> u32 {
        62 - (self.cluster_bits - 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_a_common_image() {
        let geometry = Geometry::new(16, 4, false).unwrap();
        assert_eq!(geometry.l2_entries(), 8192);
        assert_eq!(geometry.refcount_block_entries(), 32768);
        assert_eq!(geometry.l1_entries_for(1 << 30), 2);
        assert_eq!(geometry.compressed_offset_bits(), 54);
        let extended = Geometry::new(16, 6, true).unwrap();
        assert_eq!(extended.l2_entries(), 4096);
        assert_eq!(extended.subcluster_size(), 2048);
        assert_eq!(extended.max_refcount(), u64::MAX);
        assert_eq!(Geometry::new(8, 4, false), None);
        assert_eq!(Geometry::new(25, 4, false), None);
    }
}
