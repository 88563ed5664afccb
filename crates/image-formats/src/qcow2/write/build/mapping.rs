//! Where the contents of guest clusters are stored.

use crate::qcow2::entries::Subclusters;

/// Where the contents of a guest cluster are stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping {
    /// The part of the plan with the data; none for clusters without.
    pub(super) part: Option<usize>,
    /// Byte offset within the part.
    pub(super) within: u64,
    /// Bytes of compressed data; 0 for standard clusters.
    pub(super) compressed: u64,
    /// Bits of the entry besides the offset.
    pub(super) flags: u64,
    /// Second word of an extended entry.
    pub(super) subclusters: Subclusters,
    /// Whether this cluster is in the external data file.
    pub(super) external: bool,
}

impl Mapping {
    pub(super) fn data(part: Option<usize>, allocated: u32, zero: u32, flags: u64) -> Self {
        Self {
            part,
            within: 0,
            compressed: 0,
            flags,
            subclusters: Subclusters { allocated, zero },
            external: false,
        }
    }
}
