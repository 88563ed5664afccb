//! Boundary values of the fields of qcow2.

use crate::boundary::{Surroundings, boundaries};
use crate::field::Field;
use crate::io::ReadAt;
use crate::qcow2::header::{
    QEMU_MAX_L1_BYTES, QEMU_MAX_REFCOUNT_TABLE_BYTES, QEMU_MAX_SNAPSHOT_TABLE_BYTES,
    QEMU_MAX_SNAPSHOTS,
};
use crate::qcow2::image::{FieldError, Image};
use crate::qcow2::read::layout::{Disk, Layout};
use crate::qcow2::records::{
    EXT_BACKING_FORMAT, EXT_BITMAPS, EXT_DATA_FILE, EXT_ENCRYPTION, EXT_FEATURE_NAMES,
    QEMU_MAX_BITMAPS, QEMU_MAX_SNAPSHOT_EXTRA,
};
use crate::qcow2::types::Geometry;

/// Most structures whose offsets are offered as values.
const STRUCTURES: usize = 48;

impl Image {
    /// Values at the boundaries of the field at `path`: of its type, of its rule, and
    /// of this image (ends of the file and of the tables, offsets of other structures,
    /// one sector or cluster off). Sorted, without the present value; none for text.
    ///
    /// # Errors
    /// When `path` is not a path, or the image has no such field.
    pub fn boundaries(&self, path: &str) -> Result<Vec<u64>, FieldError> {
        Ok(self.boundaries_of(&self.field(path)?))
    }

    /// As [`Image::boundaries`], for a field that was already looked up.
    #[must_use]
    pub fn boundaries_of(&self, field: &Field) -> Vec<u64> {
        let layout = self.layout();
        let name = field.path.rsplit('.').next().unwrap_or(&field.path);
        let in_header = field.path.starts_with("header.");
        let limits = limits(layout, in_header, name);
        let structures = self.structures();
        let surroundings = Surroundings {
            file_len: self.bytes().len(),
            cluster: layout.geometry.map_or(512, Geometry::cluster_size),
            structures: &structures,
            limits: &limits,
        };
        boundaries(field, surroundings)
    }

    /// Byte offsets of the structures of the image, the first ones of each sort.
    #[must_use]
    pub fn structures(&self) -> Vec<u64> {
        let layout = self.layout();
        let tree = self.tree();
        let mut found = vec![layout.refcount_table.offset, layout.l1.offset];
        let blocks = (0..layout.refcount_table.present.min(8))
            .filter_map(|index| layout.refcount_block(tree.source, index));
        found.extend(blocks.map(|block| block.0));
        for snapshot in layout.snapshots.iter().take(4) {
            found.extend([snapshot.offset, snapshot.l1.offset]);
        }
        for bitmap in layout.bitmaps.iter().take(4) {
            found.extend([bitmap.offset, bitmap.table.offset]);
        }
        found.extend(layout.encryption.map(|region| region.offset));
        let disks = std::iter::once(Disk::Active)
            .chain((0..layout.snapshots.len().min(2)).map(Disk::Snapshot));
        for disk in disks {
            let tables = (0..layout.l1_of(disk).map_or(0, |l1| l1.present).min(64))
                .filter_map(|index| layout.l2_table(tree.source, disk, index));
            found.extend(tables.take(8).map(|table| table.0));
        }
        found.sort_unstable();
        found.dedup();
        found.truncate(STRUCTURES);
        found
    }
}

/// The limits that the rule of a field names.
fn limits(layout: &Layout, in_header: bool, name: &str) -> Vec<u64> {
    let header = &layout.header;
    let cluster = layout.geometry.map_or(512, Geometry::cluster_size);
    let needed = layout
        .geometry
        .map_or(0, |geometry| geometry.l1_entries_for(header.size));
    let covered = layout.geometry.map_or(0, |geometry| {
        let entry = geometry
            .cluster_size()
            .saturating_mul(geometry.l2_entries());
        entry.saturating_mul(header.l1_size.into())
    });
    match (in_header, name) {
        (true, "version") => vec![1, 2, 3, 4],
        (true, "header_length") => vec![72, 96, 100, 104, 105, 112, 120, cluster, cluster - 8],
        (true, "cluster_bits") => vec![8, 9, 12, 14, 16, 21, 22, 29, 30, 31, 32, 63, 64],
        (true, "refcount_order") => vec![0, 3, 4, 6, 7, 31, 32, 63, 64],
        (true, "crypt_method" | "compression_type") => vec![0, 1, 2, 3],
        (true, "backing_file_size") => vec![1023, 1024, cluster, 0x7fff_ffff],
        (true, "size") => vec![
            covered,
            covered / 2,
            1 << 61,
            1 << 56,
            (1 << 63) - 512,
            u64::MAX - 511,
            512,
        ],
        (true, "refcount_table_clusters") => vec![
            QEMU_MAX_REFCOUNT_TABLE_BYTES / cluster,
            0x7fff_ffff / cluster,
            (1 << 32) / cluster,
        ],
        (true, "nb_snapshots") => vec![QEMU_MAX_SNAPSHOTS, QEMU_MAX_SNAPSHOT_TABLE_BYTES / 40],
        (_, "l1_size") => vec![
            needed,
            QEMU_MAX_L1_BYTES / 8,
            0x7fff_ffff / 8,
            0x2000_0000,
            0x1fff_ffff,
        ],
        (_, "extra_data_size") => vec![0, 8, 16, 24, QEMU_MAX_SNAPSHOT_EXTRA],
        (_, "nb_bitmaps") => vec![1, QEMU_MAX_BITMAPS],
        (_, "bitmap_directory_size") => {
            vec![QEMU_MAX_BITMAPS * 24, QEMU_MAX_BITMAPS * (24 + 1023), 24]
        }
        (_, "granularity_bits") => vec![0, 8, 9, 15, 16, 31, 32, 63, 64],
        (_, "name_size" | "id_size") => vec![1, 255, 256, 1023, 1024],
        (_, "table_size") => vec![QEMU_MAX_BITMAPS, 0x1fff_ffff, 0x800_0000],
        (_, "type") => [
            EXT_BACKING_FORMAT,
            EXT_FEATURE_NAMES,
            EXT_BITMAPS,
            EXT_ENCRYPTION,
            EXT_DATA_FILE,
        ]
        .map(u64::from)
        .to_vec(),
        (_, "bit") => vec![63, 64],
        (_, "vm_state_size" | "vm_state_size_large" | "disk_size") => {
            vec![header.size, 1 << 56, (1 << 63) - 512]
        }
        (_, "date_nsec") => vec![1_000_000_000],
        _ => Vec::new(),
    }
}
