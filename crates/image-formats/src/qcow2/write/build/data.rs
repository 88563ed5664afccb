//! Where the contents of guest clusters are stored: clusters of their own, the data file,
//! or packed streams.

use super::mapping::Mapping;
use super::{Builder, Contents, Piece};
use crate::pattern::Pattern;
use crate::qcow2::compression::compress;
use crate::spec_error::{SpecError, ensure};

/// The part that compressed clusters are packed into at the moment.
#[derive(Debug)]
pub(super) struct Streams {
    part: usize,
    /// Bytes used.
    used: u64,
    /// Clusters in the part.
    clusters: u64,
    /// References to the last cluster.
    references: u64,
}

impl Builder<'_> {
    /// Stores a cluster of data in the image, or in the data file.
    pub(super) fn store_data(
        &mut self,
        index: u64,
        pattern: &Pattern,
        contents: &mut Contents,
    ) -> Option<usize> {
        let size = self.geometry.cluster_size();
        let mut data = pattern.bytes(size as usize);
        if let Some(file) = &mut self.data_file {
            let at = index * size;
            if let Some(cipher) = &self.cipher {
                cipher.encrypt(at, &mut data);
            }
            file.write(at, &data);
            return None;
        }
        let part = self.add(size);
        contents.push(Piece::guest(part, data));
        Some(part)
    }

    pub(super) fn plan_compressed(
        &mut self,
        index: u64,
        pattern: &Pattern,
        contents: &mut Contents,
    ) -> Result<Mapping, SpecError> {
        ensure!(
            self.data_file.is_none(),
            "an external data file is incompatible with compressed clusters"
        );
        ensure!(
            self.spec.encryption.is_none(),
            "encryption is incompatible with compressed clusters"
        );
        let size = self.geometry.cluster_size();
        let packed = compress(&pattern.bytes(size as usize), self.spec.compression);
        let packed = packed.map_err(|error| SpecError(error.to_string()))?;
        if packed.len() as u64 >= size {
            let part = self.store_data(index, pattern, contents);
            return Ok(Mapping::data(part, u32::MAX, 0, 0));
        }
        let (part, within) = self.pack(packed.len() as u64);
        let compressed = packed.len() as u64;
        contents.push(Piece {
            within,
            ..Piece::plain(part, packed)
        });
        Ok(Mapping {
            within,
            compressed,
            ..Mapping::data(Some(part), 0, 0, 0)
        })
    }

    /// Finds room for a compressed stream after the previous one, as long as the
    /// reference count of the cluster they share fits into its width.
    fn pack(&mut self, len: u64) -> (usize, u64) {
        const CLUSTERS_PER_PART: u64 = 4;
        let size = self.geometry.cluster_size();
        let limit = self.geometry.max_refcount() / (self.spec.snapshots.len() as u64 + 1);
        if let Some(streams) = &mut self.streams {
            let start = streams.used;
            let end = start + len;
            // The last sector is used completely, but never reaches the next cluster.
            let last_cluster = (end - 1) / size;
            let crosses = start / size != last_cluster;
            let shares = !start.is_multiple_of(size);
            let fits = !shares || streams.references < limit;
            if fits && last_cluster < CLUSTERS_PER_PART {
                streams.references = if crosses || !shares {
                    1
                } else {
                    streams.references + 1
                };
                streams.used = end;
                streams.clusters = streams.clusters.max(last_cluster + 1);
                self.plan.resize(streams.part, streams.clusters);
                return (streams.part, start);
            }
        }
        let part = self.add(len);
        let clusters = len.div_ceil(size);
        self.streams = Some(Streams {
            part,
            used: len,
            clusters,
            references: 1,
        });
        (part, 0)
    }
}
