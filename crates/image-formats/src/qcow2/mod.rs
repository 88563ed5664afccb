//! qcow2, as `docs/interop/qcow2` of QEMU specifies it.
//!
//! `read` finds structures, `rules` says which of them are broken, `write` makes
//! images; what they share lies beside them.

mod compression;
pub mod entries;
pub mod header;
mod image;
mod limits;
mod read;
pub mod records;
mod rules;
mod sections;
mod types;
mod write;

pub use crate::pattern::Pattern;
pub use compression::{Compression, InflateError, compress, expand};
pub use image::{FieldError, Image};
pub use read::guest::{Extent, Guest, ReadError, Source};
pub use read::layout::{BitmapAt, Disk, ExtensionAt, Layout, Region, SnapshotAt, TableAt};
pub use read::references::{Reference, References, Use};
pub use types::{
    ClusterIndex, Geometry, GuestCluster, GuestOffset, HostOffset, L1Index, L2Index,
    RefcountBlockIndex, RefcountTableIndex,
};
pub use write::build::{Built, build};
pub use write::derived::{Derived, NoRoom};
pub use write::recompute::{Recomputed, TooManyReferences};
pub use write::spec::{
    Backing, Bitmap, BitmapCluster, Cluster, Content, DataFile, Encryption, Extension, Placement,
    Snapshot, Spec, SpecError,
};
