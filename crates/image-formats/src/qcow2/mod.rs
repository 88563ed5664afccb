//! qcow2, as `docs/interop/qcow2` of QEMU specifies it.

mod build;
mod compress;
mod data;
mod derived;
pub mod entries;
mod head;
pub mod header;
mod image;
mod layout;
mod limits;
mod plan;
mod recompute;
pub mod records;
mod refcounts;
mod rules;
mod rules_extensions;
mod rules_mapping;
mod rules_records;
mod rules_refcounts;
mod scan;
mod spec;
mod tree;
mod types;
mod walk;

pub use build::{Built, SpecError, build};
pub use compress::{InflateError, compress, expand};
pub use data::{Extent, Guest, ReadError, Source};
pub use derived::{Derived, NoRoom};
pub use image::{FieldError, Image};
pub use layout::{BitmapAt, Disk, ExtensionAt, Layout, Region, SnapshotAt, TableAt};
pub use recompute::{Recomputed, TooManyReferences};
pub use refcounts::{Reference, References, Use};
pub use spec::{
    Backing, Bitmap, BitmapCluster, Cluster, Compression, Content, DataFile, Encryption, Extension,
    Pattern, Placement, Snapshot, Spec,
};
pub use types::{
    ClusterIndex, Geometry, GuestCluster, GuestOffset, HostOffset, L1Index, L2Index,
    RefcountBlockIndex, RefcountTableIndex,
};
