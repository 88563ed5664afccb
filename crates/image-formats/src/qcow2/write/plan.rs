//! Which cluster of the file belongs to which part of the image.

use crate::arrange::Placement;
use crate::qcow2::types::Geometry;

/// A contiguous part of an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// How many clusters it takes.
    clusters: u64,
    /// The first of them, once it is placed.
    first: u64,
}

impl Part {
    pub(crate) fn clusters(clusters: u64) -> Self {
        Self { clusters, first: 0 }
    }
}

/// Why the parts cannot be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image would be larger than {} clusters", Plan::MAX_CLUSTERS)]
pub(crate) struct PlanError;

/// All parts, the refcount structures that describe them, and their places.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    parts: Vec<Part>,
    refcount_table: u64,
    refcount_table_clusters: u64,
    refcount_blocks: Vec<u64>,
    total: u64,
}

impl Plan {
    /// The largest image that is laid out.
    pub(crate) const MAX_CLUSTERS: u64 = 1 << 22;

    /// Adds a part and returns its number.
    pub(crate) fn add(&mut self, part: Part) -> usize {
        self.parts.push(part);
        self.parts.len() - 1
    }

    /// Changes the length of a part that is not placed yet.
    pub(crate) fn resize(&mut self, part: usize, clusters: u64) {
        if let Some(part) = self.parts.get_mut(part) {
            part.clusters = clusters;
        }
    }

    /// Places everything after the header in cluster 0, with a refcount table of at least
    /// `min_table` clusters.
    pub(crate) fn place(
        &mut self,
        geometry: Geometry,
        min_table: u64,
        placement: &Placement,
    ) -> Result<(), PlanError> {
        let mut blocks = 1;
        loop {
            let table = geometry.clusters_for(blocks * 8).max(min_table);
            let total = self.try_place(table, blocks, placement);
            if total > Self::MAX_CLUSTERS {
                return Err(PlanError);
            }
            let needed = total.div_ceil(geometry.refcount_block_entries());
            if needed <= blocks {
                self.total = total;
                return Ok(());
            }
            blocks = needed;
        }
    }

    /// Places all parts with `table` clusters of refcount table and `blocks` refcount
    /// blocks, and returns the number of clusters in all.
    fn try_place(&mut self, table: u64, blocks: u64, placement: &Placement) -> u64 {
        let own = usize::try_from(blocks)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        let lengths = std::iter::once(table)
            .chain((0..blocks).map(|_| 1))
            .chain(self.parts.iter().map(|part| part.clusters));
        let lengths: Vec<u64> = lengths.collect();
        let (firsts, next) = placement.arrange(&lengths, 1);
        self.refcount_table = firsts[0];
        self.refcount_table_clusters = table;
        self.refcount_blocks = firsts[1..own].to_vec();
        for (part, first) in self.parts.iter_mut().zip(&firsts[own..]) {
            part.first = *first;
        }
        next
    }

    /// Byte offset of a part.
    pub(crate) fn offset(&self, part: usize, geometry: Geometry) -> u64 {
        self.parts.get(part).map_or(0, |part| part.first) * geometry.cluster_size()
    }

    /// Byte offset of the refcount table.
    pub(crate) fn refcount_table_offset(&self, geometry: Geometry) -> u64 {
        self.refcount_table * geometry.cluster_size()
    }

    /// Clusters in the refcount table.
    pub(crate) fn refcount_table_clusters(&self) -> u64 {
        self.refcount_table_clusters
    }

    /// Byte offsets of the refcount blocks.
    pub(crate) fn refcount_block_offsets(&self, geometry: Geometry) -> Vec<u64> {
        self.refcount_blocks
            .iter()
            .map(|first| first * geometry.cluster_size())
            .collect()
    }

    /// Clusters in the file.
    pub(crate) fn total_clusters(&self) -> u64 {
        self.total
    }
}
