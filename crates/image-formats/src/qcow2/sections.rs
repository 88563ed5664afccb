//! Sections of the specification, `docs/interop/qcow2` of QEMU.

pub(crate) const HEADER: &str = "Header";
pub(crate) const ADDITIONAL: &str = "Additional fields (version 3 and higher)";
pub(crate) const EXTENSIONS: &str = "Header extensions";
pub(crate) const STRINGS: &str = "String header extensions";
pub(crate) const FEATURES: &str = "Feature name table";
pub(crate) const BITMAPS_EXT: &str = "Bitmaps extension";
pub(crate) const ENCRYPTION: &str = "Full disk encryption header pointer";
pub(crate) const REFCOUNTS: &str = "Host cluster management";
pub(crate) const MAPPING: &str = "Cluster mapping";
pub(crate) const EXTENDED: &str = "Extended L2 Entries";
pub(crate) const SNAPSHOTS: &str = "Snapshots";
pub(crate) const DIRECTORY: &str = "Bitmap directory";
pub(crate) const BITMAP_TABLE: &str = "Bitmap table";
pub(crate) const BITMAP_DATA: &str = "Bitmap data";
