//! qcow2, as `docs/interop/qcow2` of QEMU specifies it.
//!
//! `read` finds structures, `rules` checks them, `write` makes images; the modules
//! beside them are shared.

mod compression;
mod entries;
mod header;
mod image;
mod read;
pub mod records;
mod rules;
mod sections;
mod types;
mod write;

pub use crate::arrange::Placement;
use crate::model::Driver;
pub use crate::pattern::Pattern;
pub use crate::spec_error::SpecError;
pub use compression::{Compression, InflateError};
pub(crate) use compression::{compress, expand};
pub use entries::CompressedDescriptor;
pub use header::{Autoclear, Compatible, Header, Incompatible};
pub use image::Image;
pub use read::guest::{Extent, Guest, GuestError, Source};
pub use read::layout::{BitmapAt, Disk, ExtensionAt, Layout, Region, SnapshotAt, TableAt};
pub use rules::RULES;
pub use types::{Geometry, GuestOffset, HostOffset};
pub use write::build::{Built, build};
pub use write::features::FEATURES;
pub use write::recompute::RecountError;
pub use write::spec::{
    Backing, Bitmap, BitmapCluster, Cluster, Content, DataFile, Encryption, Extension, Snapshot,
    Spec,
};

/// qcow2 in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "qcow2",
    probe: |ends| ends.head(0, b"QFI\xfb") && !ends.head(4, &[0, 0, 0, 1]),
    open: |store| Box::new(Image::over(store)),
};
