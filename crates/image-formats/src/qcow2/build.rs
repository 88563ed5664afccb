//! From a [`Spec`] to a valid image.

use crate::luks;
use crate::qcow2::compress::compress;
use crate::qcow2::entries::{COPIED, CompressedDescriptor, L2Entry, Subclusters, ZERO};
use crate::qcow2::head::write_head;
use crate::qcow2::header::{QEMU_MAX_CLUSTER_BITS, QEMU_MAX_L1_BYTES};
use crate::qcow2::image::Image;
use crate::qcow2::plan::{Part, Plan, PlanError};
use crate::qcow2::recompute;
use crate::qcow2::records::{BITMAP_FIXED, SNAPSHOT_FIXED};
use crate::qcow2::spec::{Bitmap, BitmapCluster, Cluster, Content, Pattern, Snapshot, Spec};
use crate::qcow2::types::{Geometry, GuestCluster, HostOffset};
use crate::store::Store;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// What is wrong with a [`Spec`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot build the image: {0}")]
pub struct SpecError(pub(crate) String);

/// An image, and the data file that goes with it.
#[derive(Clone, Debug)]
pub struct Built {
    /// The image.
    pub image: Image,
    /// The external data file, if the image has one.
    pub data_file: Option<Store>,
}

/// Lays out and writes the image that `spec` describes. The same `spec` gives the same
/// bytes, and `qemu-img check` finds neither errors nor leaks in them.
///
/// # Errors
/// When the parts of `spec` contradict each other or the format.
pub fn build(spec: &Spec) -> Result<Built, SpecError> {
    let geometry = validate(spec)?;
    let mut builder = Builder {
        spec,
        geometry,
        plan: Plan::default(),
        store: Store::new(),
        data_file: spec.data_file.as_ref().map(|_| Store::new()),
        disks: Vec::new(),
        streams: None,
    };
    builder.run()
}

/// `Err` with the text, unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(SpecError(format!($($text)*)));
        }
    };
}
pub(crate) use ensure;

fn validate(spec: &Spec) -> Result<Geometry, SpecError> {
    let v3 = spec.version == 3;
    ensure!(
        v3 || spec.version == 2,
        "version {} is neither 2 nor 3",
        spec.version
    );
    ensure!(
        spec.cluster_bits <= QEMU_MAX_CLUSTER_BITS,
        "cluster_bits {} is more than 21",
        spec.cluster_bits
    );
    ensure!(
        spec.refcount_order <= 6,
        "refcount_order {} is more than 6",
        spec.refcount_order
    );
    let geometry = Geometry::new(spec.cluster_bits, spec.refcount_order, spec.extended_l2);
    let Some(geometry) = geometry else {
        return Err(SpecError(format!(
            "cluster_bits {} is less than 9",
            spec.cluster_bits
        )));
    };
    ensure!(
        spec.virtual_size.is_multiple_of(512),
        "virtual_size is not a multiple of 512"
    );
    let l1 = geometry.l1_entries_for(spec.virtual_size) + u64::from(spec.extra_l1_entries);
    ensure!(
        l1 * 8 <= QEMU_MAX_L1_BYTES,
        "the L1 table of {l1} entries is longer than 32 MiB"
    );
    if v3 {
        let length = spec.header_length;
        ensure!(
            length >= 104 && length.is_multiple_of(8),
            "header_length {length} is not 104, 112, 120, ..."
        );
        let zstd = spec.compression.number() != 0;
        ensure!(
            !zstd || length >= 112,
            "a compression type needs a header_length of at least 112"
        );
        ensure!(
            !spec.extended_l2 || spec.cluster_bits >= 14,
            "extended L2 entries need cluster_bits of at least 14"
        );
    } else {
        let plain = spec.refcount_order == 4
            && !spec.extended_l2
            && !spec.lazy_refcounts
            && !spec.dirty
            && spec.unknown_compatible == 0
            && spec.data_file.is_none()
            && spec.bitmaps.is_empty()
            && spec.compression.number() == 0;
        ensure!(plain, "version 2 has 16-bit refcounts and no features");
    }
    validate_parts(spec)?;
    Ok(geometry)
}

fn validate_parts(spec: &Spec) -> Result<(), SpecError> {
    if let Some(backing) = &spec.backing {
        ensure!(
            (1..=1023).contains(&backing.name.len()),
            "the backing file name does not have 1 to 1023 bytes"
        );
        let raw = spec.data_file.as_ref().is_some_and(|file| file.raw);
        ensure!(!raw, "a raw external data file excludes a backing file");
    }
    ensure!(
        spec.data_file.is_none() || spec.snapshots.is_empty(),
        "an external data file excludes snapshots"
    );
    if let Some(header) = &spec.luks_header {
        ensure!(
            header.len() as u64 >= luks::HEADER_LENGTH,
            "the LUKS header has less than 592 bytes"
        );
    }
    let mut names = HashSet::new();
    for bitmap in &spec.bitmaps {
        ensure!(
            (1..=1023).contains(&bitmap.name.len()),
            "a bitmap's name does not have 1 to 1023 bytes"
        );
        ensure!(
            (9..=31).contains(&bitmap.granularity_bits),
            "granularity_bits {} is not 9 to 31",
            bitmap.granularity_bits
        );
        ensure!(
            names.insert(&bitmap.name),
            "two bitmaps are called '{}'",
            bitmap.name
        );
    }
    let mut ids = HashSet::new();
    for snapshot in &spec.snapshots {
        let short = |text: &str| text.len() <= usize::from(u16::MAX);
        ensure!(
            short(&snapshot.id) && short(&snapshot.name),
            "a snapshot's ID or name is longer than 65535 bytes"
        );
        ensure!(
            ids.insert(&snapshot.id),
            "two snapshots have the ID '{}'",
            snapshot.id
        );
        let extra = snapshot.extra.len();
        ensure!(
            extra == 0 || snapshot.icount.is_some(),
            "extra snapshot data needs icount before it"
        );
        ensure!(
            extra <= 1000,
            "a snapshot has more than 1024 bytes of extra data"
        );
        ensure!(
            snapshot.disk_size.is_none() || snapshot.clusters.is_some(),
            "a snapshot with a disk size of its own needs clusters of its own"
        );
    }
    Ok(())
}

/// Where the contents of a guest cluster go.
#[derive(Clone, Copy, Debug)]
struct Mapping {
    /// The part of the plan with the data; none for clusters without.
    part: Option<usize>,
    /// Byte offset within the part.
    within: u64,
    /// Bytes of compressed data; 0 for standard clusters.
    compressed: u64,
    /// Bits of the entry beside the offset.
    flags: u64,
    /// Second word of an extended entry.
    subclusters: Subclusters,
    /// Whether this cluster lies in the external data file.
    external: bool,
}

/// The tables of a disk.
#[derive(Debug, Default)]
struct DiskPlan {
    l1_part: usize,
    l1_size: u64,
    /// L2 tables by L1 index.
    l2_parts: BTreeMap<u64, usize>,
    clusters: HashMap<u64, Mapping>,
}

/// The part that compressed clusters are packed into at the moment.
#[derive(Debug)]
struct Streams {
    part: usize,
    /// Bytes used.
    used: u64,
    /// Clusters there are.
    clusters: u64,
    /// References to the last cluster.
    references: u64,
}

struct Builder<'a> {
    spec: &'a Spec,
    geometry: Geometry,
    plan: Plan,
    store: Store,
    data_file: Option<Store>,
    disks: Vec<DiskPlan>,
    streams: Option<Streams>,
}

/// Contents that are written when it is known where they go.
type Contents = Vec<(usize, u64, Vec<u8>)>;

impl Builder<'_> {
    fn run(&mut self) -> Result<Built, SpecError> {
        let mut contents = Contents::new();
        self.plan_disks(&mut contents)?;
        let snapshot_table = self.snapshot_table_len();
        let snapshots = (snapshot_table > 0).then(|| self.add(snapshot_table));
        let bitmaps = self.plan_bitmaps(&mut contents)?;
        let luks = self.spec.luks_header.as_ref().map(|header| {
            let part = self.add(header.len() as u64);
            contents.push((part, 0, header.clone()));
            part
        });
        let placement = &self.spec.placement;
        self.plan
            .place(self.geometry, placement)
            .map_err(|error: PlanError| SpecError(error.to_string()))?;
        for (part, within, data) in contents {
            let at = self.at(part) + within;
            self.store.write(at, &data);
        }
        self.write_refcount_table();
        self.write_disks()?;
        let snapshots = snapshots.map(|part| self.write_snapshots(part));
        let directory = self.write_bitmaps(&bitmaps);
        let head = write_head(
            self.spec,
            self.geometry,
            &self.plan,
            (self.at(self.disks[0].l1_part), self.disks[0].l1_size),
            snapshots,
            directory,
            luks.map(|part| self.at(part)),
        )?;
        self.store.write(0, &head);
        self.store
            .resize(self.plan.total_clusters() * self.geometry.cluster_size());
        self.finish()
    }

    /// Everything is in place but for the reference counts and what follows from them.
    fn finish(&mut self) -> Result<Built, SpecError> {
        let mut store = std::mem::take(&mut self.store);
        let counted = recompute::refcounts(&mut store);
        let counted = counted.map_err(|_| SpecError("too many clusters".to_owned()))?;
        let (largest, limit) = (counted.largest, self.geometry.max_refcount());
        ensure!(
            largest <= limit,
            "a refcount of {largest} does not fit into its width"
        );
        recompute::copied(&mut store);
        if let Some(file) = &mut self.data_file {
            file.resize(self.spec.virtual_size);
        }
        Ok(Built {
            image: Image::open(Arc::new(store)),
            data_file: self.data_file.take(),
        })
    }

    fn add(&mut self, bytes: u64) -> usize {
        self.plan
            .add(Part::clusters(self.geometry.clusters_for(bytes)))
    }

    fn at(&self, part: usize) -> u64 {
        self.plan.offset(part, self.geometry)
    }

    /// Plans the active disk, then those of the snapshots.
    fn plan_disks(&mut self, contents: &mut Contents) -> Result<(), SpecError> {
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
                "cluster {} lies behind the end of the disk",
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
            contents.push((part, 0, data.to_vec()));
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
                    return Err(SpecError("the active disk has shared clusters".to_owned()));
                };
                let mapping = active.clusters.get(&cluster.index).copied();
                mapping.ok_or_else(|| {
                    SpecError(format!(
                        "cluster {} is shared with the active disk, which does not have it",
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

    /// Stores a cluster of data in the image, or in the data file.
    fn store_data(
        &mut self,
        index: u64,
        pattern: &Pattern,
        contents: &mut Contents,
    ) -> Option<usize> {
        let size = self.geometry.cluster_size();
        let data = pattern.bytes(size as usize);
        if let Some(file) = &mut self.data_file {
            file.write(index * size, &data);
            return None;
        }
        let part = self.add(size);
        contents.push((part, 0, data));
        Some(part)
    }

    fn plan_compressed(
        &mut self,
        index: u64,
        pattern: &Pattern,
        contents: &mut Contents,
    ) -> Result<Mapping, SpecError> {
        ensure!(
            self.data_file.is_none(),
            "an external data file excludes compressed clusters"
        );
        ensure!(
            self.spec.luks_header.is_none(),
            "encryption excludes compressed clusters"
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
        contents.push((part, within, packed));
        Ok(Mapping {
            within,
            compressed,
            ..Mapping::data(Some(part), 0, 0, 0)
        })
    }

    /// Finds room for a compressed stream behind the previous one, as long as the
    /// reference count of the cluster they share fits into its width.
    fn pack(&mut self, len: u64) -> (usize, u64) {
        const CLUSTERS_PER_PART: u64 = 4;
        let size = self.geometry.cluster_size();
        let limit = self.geometry.max_refcount() / (self.spec.snapshots.len() as u64 + 1);
        if let Some(streams) = &mut self.streams {
            let start = streams.used;
            let end = start + len;
            // The last sector counts as a whole, but never reaches the next cluster.
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

    fn write_refcount_table(&mut self) {
        let table = self.plan.refcount_table_offset(self.geometry);
        let blocks = self.plan.refcount_block_offsets(self.geometry);
        let words: Vec<u8> = blocks
            .iter()
            .flat_map(|offset| offset.to_be_bytes())
            .collect();
        self.store.write(table, &words);
    }

    fn write_disks(&mut self) -> Result<(), SpecError> {
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
        let too_far = || SpecError("a compressed cluster lies too far behind".to_owned());
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

    fn snapshot_table_len(&self) -> u64 {
        self.spec
            .snapshots
            .iter()
            .map(|snapshot| snapshot_entry(snapshot, 0, 0, 0).len() as u64)
            .sum()
    }

    fn write_snapshots(&mut self, part: usize) -> u64 {
        let start = self.at(part);
        let mut table = Vec::new();
        for (snapshot, disk) in self.spec.snapshots.iter().zip(&self.disks[1..]) {
            let size = snapshot.disk_size.unwrap_or(self.spec.virtual_size);
            table.extend(snapshot_entry(
                snapshot,
                self.at(disk.l1_part),
                disk.l1_size as u32,
                size,
            ));
        }
        self.store.write(start, &table);
        start
    }

    fn plan_bitmaps(&mut self, contents: &mut Contents) -> Result<Vec<BitmapPlan>, SpecError> {
        let mut plans = Vec::new();
        for bitmap in &self.spec.bitmaps {
            let size = self.geometry.cluster_size();
            let granularity = 1_u64 << bitmap.granularity_bits;
            let bits = self.spec.virtual_size.div_ceil(granularity);
            let entries = self.geometry.clusters_for(bits.div_ceil(8));
            let given = bitmap.clusters.len() as u64;
            ensure!(
                given <= entries,
                "bitmap '{}' has {entries} clusters of data, {given} are described",
                bitmap.name
            );
            let table = self.add((entries * 8).max(1));
            let mut words = vec![Entry::Plain(0); usize::try_from(entries).unwrap_or(0)];
            for (index, (cluster, word)) in (0_u64..).zip(bitmap.clusters.iter().zip(&mut words)) {
                *word = match cluster {
                    BitmapCluster::Zeros => Entry::Plain(0),
                    BitmapCluster::Ones => Entry::Plain(1),
                    BitmapCluster::Data(pattern) => {
                        let mut data = pattern.bytes(size as usize);
                        clear_tail(&mut data, bits.saturating_sub(index * size * 8));
                        let part = self.add(size);
                        contents.push((part, 0, data));
                        Entry::Part(part)
                    }
                };
            }
            plans.push(BitmapPlan { table, words });
        }
        if !plans.is_empty() {
            let len: u64 = self
                .spec
                .bitmaps
                .iter()
                .map(|bitmap| bitmap_entry(bitmap, 0, 0).len() as u64)
                .sum();
            let directory = self.add(len);
            plans.push(BitmapPlan {
                table: directory,
                words: Vec::new(),
            });
        }
        Ok(plans)
    }

    /// Writes tables and directory; gives offset and length of the directory.
    fn write_bitmaps(&mut self, plans: &[BitmapPlan]) -> Option<(u64, u64)> {
        let (last, tables) = plans.split_last()?;
        let mut directory = Vec::new();
        for (bitmap, plan) in self.spec.bitmaps.iter().zip(tables) {
            let at = self.at(plan.table);
            let word = |entry: &Entry| match *entry {
                Entry::Plain(word) => word,
                Entry::Part(part) => self.at(part),
            };
            let table: Vec<u8> = plan
                .words
                .iter()
                .flat_map(|entry| word(entry).to_be_bytes())
                .collect();
            self.store.write(at, &table);
            directory.extend(bitmap_entry(bitmap, at, plan.words.len() as u32));
        }
        let at = self.at(last.table);
        self.store.write(at, &directory);
        Some((at, directory.len() as u64))
    }
}

/// An entry of a bitmap table, before it is known where the data goes.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Plain(u64),
    Part(usize),
}

/// Where a bitmap's table goes, and its entries.
struct BitmapPlan {
    table: usize,
    words: Vec<Entry>,
}

impl Mapping {
    fn data(part: Option<usize>, allocated: u32, zero: u32, flags: u64) -> Self {
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

/// Clears all bits behind the first `bits` ones.
fn clear_tail(data: &mut [u8], bits: u64) {
    let whole = usize::try_from(bits / 8)
        .unwrap_or(usize::MAX)
        .min(data.len());
    if let Some(byte) = data.get_mut(whole) {
        *byte &= ((1_u16 << (bits % 8)) - 1) as u8;
    }
    if let Some(rest) = data.get_mut(whole + 1..) {
        rest.fill(0);
    }
}

/// Bytes of an entry of the snapshot table.
fn snapshot_entry(snapshot: &Snapshot, l1: u64, l1_size: u32, disk_size: u64) -> Vec<u8> {
    let state = snapshot.vm_state.len() as u64;
    let mut extra = [state.to_be_bytes(), disk_size.to_be_bytes()].concat();
    if let Some(icount) = snapshot.icount {
        extra.extend(icount.to_be_bytes());
        extra.extend(&snapshot.extra);
    }
    let mut entry = Vec::with_capacity(SNAPSHOT_FIXED as usize + extra.len());
    entry.extend(l1.to_be_bytes());
    entry.extend(l1_size.to_be_bytes());
    entry.extend((snapshot.id.len() as u16).to_be_bytes());
    entry.extend((snapshot.name.len() as u16).to_be_bytes());
    entry.extend(snapshot.date_sec.to_be_bytes());
    entry.extend(snapshot.date_nsec.to_be_bytes());
    entry.extend(snapshot.vm_clock_nsec.to_be_bytes());
    entry.extend(u32::try_from(state).unwrap_or(0).to_be_bytes());
    entry.extend((extra.len() as u32).to_be_bytes());
    entry.extend(extra);
    entry.extend(snapshot.id.as_bytes());
    entry.extend(snapshot.name.as_bytes());
    entry.resize(entry.len().next_multiple_of(8), 0);
    entry
}

/// Bytes of an entry of the bitmap directory.
fn bitmap_entry(bitmap: &Bitmap, table: u64, entries: u32) -> Vec<u8> {
    let flags = u32::from(bitmap.in_use) | u32::from(bitmap.enabled) << 1;
    let mut entry = Vec::with_capacity(BITMAP_FIXED as usize + bitmap.name.len());
    entry.extend(table.to_be_bytes());
    entry.extend(entries.to_be_bytes());
    entry.extend(flags.to_be_bytes());
    entry.push(1);
    entry.push(bitmap.granularity_bits);
    entry.extend((bitmap.name.len() as u16).to_be_bytes());
    entry.extend(0_u32.to_be_bytes());
    entry.extend(bitmap.name.as_bytes());
    entry.resize(entry.len().next_multiple_of(8), 0);
    entry
}
