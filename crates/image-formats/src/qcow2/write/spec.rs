//! The description of an image, for [`crate::qcow2::build`].

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::arrange::Placement;
use crate::luks::{SectorCipher, Volume};
use crate::pattern::Pattern;
use crate::qcow2::compression::Compression;

/// The description of a valid image. [`crate::qcow2::build`] turns it into bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// 2 or 3.
    pub version: u32,
    /// Binary logarithm of the cluster size, 9 to 21.
    pub cluster_bits: u32,
    /// Binary logarithm of the bits in a reference count, 0 to 6; 4 in version 2.
    pub refcount_order: u32,
    /// Bytes the guest sees, a multiple of 512.
    pub virtual_size: u64,
    /// Bytes in the header, for version 3: 104 or more, a multiple of 8. What
    /// follows the known fields is filled with `header_tail`, repeated.
    pub header_length: u32,
    /// Bytes of the unknown fields at the end of a long header.
    pub header_tail: Vec<u8>,
    /// How compressed clusters are compressed.
    pub compression: Compression,
    /// Whether L2 entries have subclusters; needs version 3 and clusters of 16 KiB.
    pub extended_l2: bool,
    /// Whether the compatible feature bit for lazy refcounts is set.
    pub lazy_refcounts: bool,
    /// Whether the dirty bit is set. The refcounts are right all the same.
    pub dirty: bool,
    /// More bits of the compatible features; readers ignore them.
    pub unknown_compatible: u64,
    /// The external data file, if guest data is stored in one.
    pub data_file: Option<DataFile>,
    /// The backing file.
    pub backing: Option<Backing>,
    /// Whether there is a feature name table.
    pub feature_names: bool,
    /// Unknown header extensions; written after the known ones.
    pub extensions: Vec<Extension>,
    /// Entries in the L1 table beyond those that the virtual size needs.
    pub extra_l1_entries: u32,
    /// Clusters in the refcount table at least; more where the image needs more.
    pub refcount_table_clusters: u32,
    /// What the guest's clusters hold; those not named are unallocated. No cluster is
    /// named twice.
    pub clusters: Vec<Cluster>,
    /// Internal snapshots.
    pub snapshots: Vec<Snapshot>,
    /// Persistent bitmaps.
    pub bitmaps: Vec<Bitmap>,
    /// The encryption, if there is one; incompatible with compressed clusters.
    pub encryption: Option<Encryption>,
    /// Where the parts of the image are placed: refcount table, refcount blocks, L1 table, L2
    /// tables, data, snapshot tables, bitmaps, encryption header. The header always comes first.
    pub placement: Placement,
}

impl Default for Spec {
    /// What `qemu-img create` makes of 1 MiB, without a feature name table.
    fn default() -> Self {
        Self {
            version: 3,
            cluster_bits: 16,
            refcount_order: 4,
            virtual_size: 1 << 20,
            header_length: 112,
            header_tail: Vec::new(),
            compression: Compression::Deflate,
            extended_l2: false,
            lazy_refcounts: false,
            dirty: false,
            unknown_compatible: 0,
            data_file: None,
            backing: None,
            feature_names: false,
            extensions: Vec::new(),
            extra_l1_entries: 0,
            refcount_table_clusters: 1,
            clusters: Vec::new(),
            snapshots: Vec::new(),
            bitmaps: Vec::new(),
            encryption: None,
            placement: Placement::default(),
        }
    }
}

/// Full disk encryption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// A complete LUKS header. The contents of clusters are written as they are,
    /// so they are what is stored, not what the guest reads.
    Header(Vec<u8>),
    /// A volume made for the image. The contents of clusters are what the guest reads.
    Volume(Volume),
}

impl Encryption {
    /// The bytes of the header.
    #[must_use]
    pub fn header(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Header(bytes) => Cow::Borrowed(bytes),
            Self::Volume(volume) => Cow::Owned(volume.header()),
        }
    }

    /// What the data are encrypted with, where the key is known.
    #[must_use]
    pub fn cipher(&self) -> Option<SectorCipher> {
        match self {
            Self::Header(_) => None,
            Self::Volume(volume) => Some(volume.cipher()),
        }
    }
}

/// An external data file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// The name in the header extension; without, it must be given when the image is opened.
    pub name: Option<String>,
    /// Whether it is a valid raw image.
    pub raw: bool,
}

/// A backing file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backing {
    /// Its name, at most 1023 bytes.
    pub name: String,
    /// Its format; without, readers probe.
    pub format: Option<String>,
}

/// A header extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its type.
    pub kind: u32,
    /// Its data.
    pub data: Vec<u8>,
}

/// A guest cluster and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Which one, counted from 0.
    pub index: u64,
    /// What it holds.
    pub content: Content,
}

/// How a guest cluster is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A normal data cluster.
    Data(Pattern),
    /// Reads as zeros without a host cluster; needs version 3.
    Zero,
    /// Reads as zeros, with a host cluster full of this; needs version 3.
    ZeroAllocated(Pattern),
    /// A compressed cluster. What does not become smaller is stored as data.
    Compressed(Pattern),
    /// Subclusters by bit; needs extended L2 entries. The host cluster is left out
    /// when neither bits nor `pattern` ask for one.
    Subclusters {
        /// Bit x: subcluster x is allocated.
        allocated: u32,
        /// Bit x: subcluster x reads as zeros; not together with `allocated`.
        zero: u32,
        /// Contents of the host cluster; without, `allocated` must be 0.
        pattern: Option<Pattern>,
    },
    /// In a snapshot: the host cluster of the active disk at this index.
    Shared,
}

/// An internal snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Unique ID.
    pub id: String,
    /// Name.
    pub name: String,
    /// When it was taken, in seconds since the Epoch.
    pub date_sec: u32,
    /// The part of a second of that, in nanoseconds.
    pub date_nsec: u32,
    /// How long the guest had run, in nanoseconds.
    pub vm_clock_nsec: u64,
    /// Size of its disk; without, that of the image.
    pub disk_size: Option<u64>,
    /// Instruction count; without, the field is left out.
    pub icount: Option<u64>,
    /// Unknown extra data after the known; needs `icount`.
    pub extra: Vec<u8>,
    /// Saved state of a machine, stored after its disk; empty for none.
    pub vm_state: Vec<u8>,
    /// What is on its disk; without, all tables and clusters are those of the active
    /// disk.
    pub clusters: Option<Vec<Cluster>>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            id: "1".to_owned(),
            name: "snapshot".to_owned(),
            date_sec: 0,
            date_nsec: 0,
            vm_clock_nsec: 0,
            disk_size: None,
            icount: None,
            extra: Vec::new(),
            vm_state: Vec::new(),
            clusters: None,
        }
    }
}

/// A persistent bitmap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bitmap {
    /// Its name, not empty and unlike all others.
    pub name: String,
    /// Binary logarithm of its granularity in bytes, 9 to 31.
    pub granularity_bits: u8,
    /// Whether it tracks every change (flag `auto`).
    pub enabled: bool,
    /// Whether it was not saved properly (flag `in_use`).
    pub in_use: bool,
    /// Its data, a cluster each; those not named are zeros.
    pub clusters: Vec<BitmapCluster>,
}

/// A cluster of a bitmap's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BitmapCluster {
    /// All bits clear, not stored.
    Zeros,
    /// All bits set, not stored.
    Ones,
    /// Stored. Bits past the end of the bitmap are cleared.
    Data(Pattern),
}
