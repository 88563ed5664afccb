//! qcow2, as `docs/interop/qcow2` of QEMU specifies it.

pub mod entries;
pub mod header;
mod image;
mod layout;
pub mod records;
mod rules;
mod spec;
mod tree;
mod types;
mod walk;

pub use image::{FieldError, Image};
pub use layout::{BitmapAt, Disk, ExtensionAt, Layout, Region, SnapshotAt, TableAt};
pub use spec::{
    Backing, Bitmap, BitmapCluster, Cluster, Compression, Content, DataFile, Extension, Pattern,
    Placement, Snapshot, Spec,
};
pub use types::{
    ClusterIndex, Geometry, GuestCluster, GuestOffset, HostOffset, L1Index, L2Index,
    RefcountBlockIndex, RefcountTableIndex,
};
