//! Where the structures of an image are.
//!
//! Everything here is bounded by the length of the file and by fixed limits, never
//! by a number in the image alone.

use crate::io::ReadAt as _;
use crate::luks;
use crate::qcow2::entries::{OFFSET_MASK, REFCOUNT_OFFSET_MASK};
use crate::qcow2::header::Header;
use crate::qcow2::records::{
    BITMAP_FIXED, BITMAPS_EXT_LENGTH, EXT_BITMAPS, EXT_ENCRYPTION, EXT_END, SNAPSHOT_FIXED,
};
use crate::qcow2::types::{Geometry, HostOffset};
use crate::store::Store;
use crate::value::read_be;

/// Most extensions that are read.
const MAX_EXTENSIONS: usize = 1024;
/// Longest extension area that is read, in bytes.
const MAX_EXTENSION_AREA: u64 = 2 << 20;
/// Most snapshots, and most bitmaps, that are read.
const MAX_RECORDS: usize = 65536;
/// Longest table that is read, in entries (QEMU's limits are lower).
const MAX_TABLE_ENTRIES: u64 = 8 << 20;

/// Most entries of the tables of all snapshots, and of all bitmaps, together.
const MAX_ENTRIES_TOGETHER: u64 = 16 << 20;

/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 62;

/// A run of bytes in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Byte offset of the first one.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
}

/// A table of 64-bit entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableAt {
    /// Byte offset of the first entry.
    pub offset: u64,
    /// Number of entries according to the image.
    pub declared: u64,
    /// Number of entries within the file and the limits.
    pub present: u64,
}

impl TableAt {
    /// Byte offset of an entry that is present.
    #[must_use]
    pub(crate) fn entry(&self, index: u64) -> Option<u64> {
        let offset = self.offset.checked_add(index.checked_mul(8)?)?;
        (index < self.present).then_some(offset)
    }
}

/// A header extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionAt {
    /// Byte offset of its type; the data start 8 bytes on.
    pub offset: u64,
    /// Its type.
    pub kind: u32,
    /// Bytes of data according to its length field.
    pub declared: u64,
    /// Bytes of data within the extension area.
    pub present: u64,
}

/// An entry of the snapshot table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotAt {
    /// Byte offset of the entry.
    pub offset: u64,
    /// Bytes of extra data.
    pub extra: u64,
    /// Bytes in the ID.
    pub id: u64,
    /// Bytes in the name.
    pub name: u64,
    /// Its L1 table.
    pub l1: TableAt,
}

impl SnapshotAt {
    /// Bytes in the entry, padding included.
    #[must_use]
    pub(crate) fn len(&self) -> u64 {
        (SNAPSHOT_FIXED + self.extra + self.id + self.name).next_multiple_of(8)
    }
}

/// An entry of the bitmap directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitmapAt {
    /// Byte offset of the entry.
    pub offset: u64,
    /// Bytes of extra data.
    pub extra: u64,
    /// Bytes in the name.
    pub name: u64,
    /// Its bitmap table.
    pub table: TableAt,
}

impl BitmapAt {
    /// Bytes in the entry, padding included.
    #[must_use]
    pub(crate) fn len(&self) -> u64 {
        (BITMAP_FIXED + self.extra + self.name).next_multiple_of(8)
    }
}

/// Which of the disks in an image: the active one, or that of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Disk {
    /// What the guest sees.
    Active,
    /// The snapshot with this index in the snapshot table.
    Snapshot(usize),
}

/// Where everything is, according to the header and the tables it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The header.
    pub header: Header,
    /// Sizes, unless the header's cluster size is out of range; then only the header,
    /// its extensions and the backing file name are known.
    pub geometry: Option<Geometry>,
    /// Header extensions in the order of the file, the end marker included.
    pub extensions: Vec<ExtensionAt>,
    /// The backing file name, as far as it is within the file.
    pub backing_name: Option<Region>,
    /// The active L1 table.
    pub l1: TableAt,
    /// The refcount table.
    pub refcount_table: TableAt,
    /// The snapshot table.
    pub snapshots: Vec<SnapshotAt>,
    /// The bitmap directory.
    pub bitmaps: Vec<BitmapAt>,
    /// The encryption header, as far as it is within the file.
    pub encryption: Option<Region>,
    /// First byte past the last cluster of the file, a partial one included.
    pub end: u64,
}

impl Layout {
    /// Finds the structures of an image.
    #[must_use]
    pub(crate) fn read(source: &Store) -> Self {
        let header = Header::read(source);
        let geometry = header.geometry();
        let unit = geometry.map_or(512, Geometry::cluster_size);
        // No file is longer than 2^62 bytes here; sums of offsets and lengths within this
        // stay below 2^64.
        let end = source.len().min(MAX_FILE).next_multiple_of(unit);
        let extensions = extensions(source, &header, unit);
        let known = geometry.is_some();
        let table = |offset, entries| table(offset, if known { entries } else { 0 }, end);
        let refcount_entries = u64::from(header.refcount_table_clusters).saturating_mul(unit / 8);
        let backing = (header.backing_file_offset, header.backing_file_size.into());
        Self {
            geometry,
            backing_name: region(backing.0, backing.1, end, 4096).filter(|name| name.offset > 0),
            l1: table(header.l1_table_offset, header.l1_size.into()),
            refcount_table: table(header.refcount_table_offset, refcount_entries),
            snapshots: if known {
                snapshots(source, &header, end)
            } else {
                Vec::new()
            },
            bitmaps: bitmaps(source, &extensions, known, end),
            encryption: encryption(source, &extensions, end),
            extensions,
            end,
            header,
        }
    }

    /// Bytes in a cluster; those of the smallest where the size is out of range.
    #[must_use]
    pub(crate) fn unit(&self) -> u64 {
        self.geometry.map_or(512, Geometry::cluster_size)
    }

    /// The L1 table of a disk.
    #[must_use]
    pub(crate) fn l1_of(&self, disk: Disk) -> Option<TableAt> {
        match disk {
            Disk::Active => Some(self.l1),
            Disk::Snapshot(index) => self.snapshots.get(index).map(|snapshot| snapshot.l1),
        }
    }

    /// The L2 table that an L1 entry points to, when it is in the file and aligned.
    #[must_use]
    pub(crate) fn l2_table(&self, source: &Store, disk: Disk, index: u64) -> Option<HostOffset> {
        let entry = source.read_u64(self.l1_of(disk)?.entry(index)?);
        self.cluster_at(entry & OFFSET_MASK)
    }

    /// The refcount block that an entry of the refcount table points to, when it is
    /// in the file and aligned.
    #[must_use]
    pub(crate) fn refcount_block(&self, source: &Store, index: u64) -> Option<HostOffset> {
        let entry = source.read_u64(self.refcount_table.entry(index)?);
        self.cluster_at(entry & REFCOUNT_OFFSET_MASK)
    }

    /// The LUKS header, where there is a whole one.
    pub(crate) fn luks_header(&self) -> Option<Region> {
        let whole = |region: &Region| region.len >= luks::HEADER_LENGTH;
        self.encryption.filter(whole)
    }

    /// `offset`, when it can be that of a cluster: aligned, within the file and not 0.
    #[must_use]
    pub(crate) fn cluster_at(&self, offset: u64) -> Option<HostOffset> {
        let aligned = self.geometry?.is_aligned(offset);
        (offset != 0 && offset < self.end && aligned).then_some(HostOffset(offset))
    }
}

fn table(offset: u64, declared: u64, end: u64) -> TableAt {
    let room = if offset == 0 {
        0
    } else {
        end.saturating_sub(offset) / 8
    };
    TableAt {
        offset,
        declared,
        present: declared.min(room).min(MAX_TABLE_ENTRIES),
    }
}

/// Limits a table to the `left` entries of all records together, as many records may
/// point to one long table.
fn limit_together(table: &mut TableAt, left: &mut u64) {
    table.present = table.present.min(*left);
    *left -= table.present;
}

fn region(offset: u64, len: u64, end: u64, limit: u64) -> Option<Region> {
    let len = len.min(end.saturating_sub(offset)).min(limit);
    (len > 0).then_some(Region { offset, len })
}

/// Where the extension area ends: at the backing file name when that is after the
/// header, else with the first cluster.
pub(crate) fn extension_area_end(header: &Header, cluster_size: u64) -> u64 {
    let name = header.backing_file_offset;
    let first_cluster = cluster_size.min(MAX_EXTENSION_AREA);
    if name > header.header_length.into() {
        name.min(first_cluster)
    } else {
        first_cluster
    }
}

fn extensions(source: &Store, header: &Header, unit: u64) -> Vec<ExtensionAt> {
    let end = extension_area_end(header, unit).min(source.len());
    let mut found = Vec::new();
    let mut offset = u64::from(header.header_length);
    while offset.saturating_add(8) <= end && found.len() < MAX_EXTENSIONS {
        let head = source.read_u64(offset);
        let (kind, declared) = ((head >> 32) as u32, head & u64::from(u32::MAX));
        let data = offset + 8;
        found.push(ExtensionAt {
            offset,
            kind,
            declared,
            present: declared.min(end - data),
        });
        if kind == EXT_END {
            break;
        }
        offset = data + declared.next_multiple_of(8);
    }
    found
}

fn snapshots(source: &Store, header: &Header, end: u64) -> Vec<SnapshotAt> {
    let mut found = Vec::new();
    let mut entries_left = MAX_ENTRIES_TOGETHER;
    let mut offset = header.snapshots_offset;
    let wanted = usize::try_from(header.nb_snapshots)
        .unwrap_or(MAX_RECORDS)
        .min(MAX_RECORDS);
    while found.len() < wanted && offset != 0 && offset < end {
        let fixed = source.read_vec(offset, SNAPSHOT_FIXED as usize);
        let number = |at: usize, len: usize| read_be(&fixed[at..at + len]);
        let mut snapshot = SnapshotAt {
            offset,
            extra: number(36, 4),
            id: number(12, 2),
            name: number(14, 2),
            l1: table(number(0, 8), number(8, 4), end),
        };
        limit_together(&mut snapshot.l1, &mut entries_left);
        found.push(snapshot);
        let Some(next) = offset.checked_add(snapshot.len()) else {
            break;
        };
        offset = next;
    }
    found
}

fn bitmaps(source: &Store, extensions: &[ExtensionAt], known: bool, end: u64) -> Vec<BitmapAt> {
    let of_kind = |ext: &&ExtensionAt| ext.kind == EXT_BITMAPS && ext.present >= BITMAPS_EXT_LENGTH;
    let Some(ext) = extensions.iter().find(of_kind).filter(|_| known) else {
        return Vec::new();
    };
    let data = source.read_vec(ext.offset + 8, BITMAPS_EXT_LENGTH as usize);
    let wanted = usize::try_from(read_be(&data[..4]))
        .unwrap_or(MAX_RECORDS)
        .min(MAX_RECORDS);
    let mut entries_left = MAX_ENTRIES_TOGETHER;
    let mut offset = read_be(&data[16..24]);
    let mut found = Vec::new();
    while found.len() < wanted && offset != 0 && offset < end {
        let fixed = source.read_vec(offset, BITMAP_FIXED as usize);
        let number = |at: usize, len: usize| read_be(&fixed[at..at + len]);
        let mut bitmap = BitmapAt {
            offset,
            extra: number(20, 4),
            name: number(18, 2),
            table: table(number(0, 8), number(8, 4), end),
        };
        limit_together(&mut bitmap.table, &mut entries_left);
        found.push(bitmap);
        let Some(next) = offset.checked_add(bitmap.len()) else {
            break;
        };
        offset = next;
    }
    found
}

fn encryption(source: &Store, extensions: &[ExtensionAt], end: u64) -> Option<Region> {
    let of_kind = |ext: &&ExtensionAt| ext.kind == EXT_ENCRYPTION && ext.present >= 16;
    let ext = extensions.iter().find(of_kind)?;
    let (offset, len) = (
        source.read_u64(ext.offset + 8),
        source.read_u64(ext.offset + 16),
    );
    region(offset, len, end, 16 << 20)
}
