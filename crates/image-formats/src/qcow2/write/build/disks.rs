//! The tables of the active disk and of those of snapshots.

use std::collections::{BTreeMap, HashMap};

use super::mapping::Mapping;
use super::{Builder, Contents, Piece};
use crate::qcow2::entries::{COPIED, CompressedDescriptor, L2Entry, ZERO};
use crate::qcow2::header::QEMU_MAX_L1_BYTES;
use crate::qcow2::types::{GuestCluster, HostOffset};
use crate::qcow2::write::spec::{Cluster, Content, Snapshot};
use crate::spec_error::{SpecError, ensure};

/// The tables of a disk.
#[derive(Debug, Default)]
pub(super) struct DiskPlan {
    pub(super) l1_part: usize,
    pub(super) l1_size: u64,
    /// L2 tables by L1 index.
    pub(super) l2_parts: BTreeMap<u64, usize>,
    pub(super) clusters: HashMap<u64, Mapping>,
}

impl Builder<'_> {
    pub(super) fn plan_disks(&mut self, contents: &mut Contents) -> Result<(), SpecError> {
        let entries = self.geometry.l1_entries_for(self.spec.virtual_size);
        let l1_size = (entries + u64::from(self.spec.extra_l1_entries)).max(1);
        let active = self.plan_disk(
            l1_size,
            self.spec.virtual_size,
            &self.spec.clusters,
            contents,
        )?;
        self.disks.push(active);
        for snapshot in &self.spec.snapshots {
            let size = snapshot.disk_size.unwrap_or(self.spec.virtual_size);
            let first_free = self.geometry.l1_entries_for(size);
            let state = self.geometry.l1_entries_for(snapshot.vm_state.len() as u64);
            let l1_size = (first_free + state).max(1);
            ensure!(
                l1_size * 8 <= QEMU_MAX_L1_BYTES,
                "a snapshot's L1 table is longer than 32 MiB"
            );
            let mut disk = match &snapshot.clusters {
                Some(clusters) => self.plan_disk(l1_size, size, clusters, contents)?,
                None => {
                    let active = &self.disks[0];
                    let l2_parts = active.l2_parts.clone();
                    let l1_part = self.add(l1_size * 8);
                    DiskPlan {
                        l1_part,
                        l1_size,
                        l2_parts,
                        clusters: HashMap::new(),
                    }
                }
            };
            self.plan_vm_state(snapshot, first_free, &mut disk, contents);
            self.disks.push(disk);
        }
        Ok(())
    }

    fn plan_disk(
        &mut self,
        l1_size: u64,
        size: u64,
        clusters: &[Cluster],
        contents: &mut Contents,
    ) -> Result<DiskPlan, SpecError> {
        let mut disk = DiskPlan {
            l1_part: self.add(l1_size * 8),
            l1_size,
            ..DiskPlan::default()
        };
        let count = self.geometry.clusters_for(size);
        for cluster in clusters {
            let (l1, _) = self.geometry.indices(GuestCluster(cluster.index));
            ensure!(
                cluster.index < count,
                "cluster {} is past the end of the disk",
                cluster.index
            );
            if let std::collections::btree_map::Entry::Vacant(entry) = disk.l2_parts.entry(l1.0) {
                entry.insert(self.add(1));
            }
        }
        for cluster in clusters {
            let mapping = self.plan_cluster(cluster, contents)?;
            let twice = disk.clusters.insert(cluster.index, mapping).is_some();
            ensure!(!twice, "cluster {} is described twice", cluster.index);
        }
        Ok(disk)
    }

    fn plan_vm_state(
        &mut self,
        snapshot: &Snapshot,
        first_l1: u64,
        disk: &mut DiskPlan,
        contents: &mut Contents,
    ) {
        let size = self.geometry.cluster_size();
        let first = first_l1 * self.geometry.l2_entries();
        for (index, data) in (first..).zip(snapshot.vm_state.chunks(size as usize)) {
            let (l1, _) = self.geometry.indices(GuestCluster(index));
            if let std::collections::btree_map::Entry::Vacant(entry) = disk.l2_parts.entry(l1.0) {
                entry.insert(self.add(1));
            }
            let part = self.add(size);
            contents.push(Piece::guest(part, data.to_vec()));
            disk.clusters
                .insert(index, Mapping::data(Some(part), u32::MAX, 0, 0));
        }
    }

    fn plan_cluster(
        &mut self,
        cluster: &Cluster,
        contents: &mut Contents,
    ) -> Result<Mapping, SpecError> {
        let v3 = self.spec.version == 3;
        let zero_flag = if self.spec.extended_l2 { 0 } else { ZERO };
        match &cluster.content {
            Content::Data(pattern) => {
                let part = self.store_data(cluster.index, pattern, contents);
                Ok(self.external(Mapping::data(part, u32::MAX, 0, 0)))
            }
            Content::Zero => {
                ensure!(v3, "zero clusters need version 3");
                Ok(Mapping::data(None, 0, u32::MAX, zero_flag))
            }
            Content::ZeroAllocated(pattern) => {
                ensure!(v3, "zero clusters need version 3");
                let part = self.store_data(cluster.index, pattern, contents);
                Ok(self.external(Mapping::data(part, 0, u32::MAX, zero_flag)))
            }
            Content::Compressed(pattern) => self.plan_compressed(cluster.index, pattern, contents),
            Content::Subclusters {
                allocated,
                zero,
                pattern,
            } => {
                ensure!(
                    self.spec.extended_l2,
                    "subclusters need extended L2 entries"
                );
                ensure!(
                    allocated & zero == 0,
                    "a subcluster is both allocated and zero"
                );
                let Some(pattern) = pattern else {
                    ensure!(*allocated == 0, "allocated subclusters need a pattern");
                    return Ok(Mapping::data(None, 0, *zero, 0));
                };
                let part = self.store_data(cluster.index, pattern, contents);
                Ok(self.external(Mapping::data(part, *allocated, *zero, 0)))
            }
            Content::Shared => {
                let active = self.disks.first();
                let Some(active) = active else {
                    return Err(SpecError(
                        "the active disk cannot have shared clusters".to_owned(),
                    ));
                };
                let mapping = active.clusters.get(&cluster.index).copied();
                mapping.ok_or_else(|| {
                    SpecError(format!(
                        "cluster {} is shared with the active disk, where it is unallocated",
                        cluster.index
                    ))
                })
            }
        }
    }

    fn external(&self, mapping: Mapping) -> Mapping {
        Mapping {
            external: self.data_file.is_some(),
            ..mapping
        }
    }

    pub(super) fn write_disks(&mut self) -> Result<(), SpecError> {
        let mut words = Vec::new();
        for disk in &self.disks {
            for (&index, &part) in &disk.l2_parts {
                if index < disk.l1_size {
                    words.push((self.at(disk.l1_part) + index * 8, self.at(part)));
                }
            }
            for (&index, mapping) in &disk.clusters {
                let (l1, l2) = self.geometry.indices(GuestCluster(index));
                let table = disk.l2_parts.get(&l1.0).map(|part| self.at(*part));
                let entry = self.geometry.l2_entry_size() * l2.0;
                let Some(offset) = table.map(|table| table + entry) else {
                    continue;
                };
                words.push((offset, self.descriptor(index, mapping)?));
                if self.spec.extended_l2 && mapping.compressed == 0 {
                    words.push((offset + 8, mapping.subclusters.to_word()));
                }
            }
        }
        for (offset, word) in words {
            self.store.write(offset, &word.to_be_bytes());
        }
        Ok(())
    }

    fn descriptor(&self, index: u64, mapping: &Mapping) -> Result<u64, SpecError> {
        let too_far = || {
            SpecError(
                "a compressed cluster is past the last offset that its descriptor can hold"
                    .to_owned(),
            )
        };
        let Some(part) = mapping.part else {
            let offset = if mapping.external {
                COPIED | (index * self.geometry.cluster_size())
            } else {
                0
            };
            return Ok(offset | mapping.flags);
        };
        let host = self.at(part) + mapping.within;
        if mapping.compressed == 0 {
            return Ok(host | mapping.flags);
        }
        let additional_sectors = (host + mapping.compressed - 1) / 512 - host / 512;
        let descriptor = CompressedDescriptor {
            host: HostOffset(host),
            additional_sectors,
        };
        L2Entry::Compressed(descriptor)
            .to_word(self.geometry)
            .ok_or_else(too_far)
    }
}
