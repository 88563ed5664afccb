//! The rules of the format.

use crate::checker::rules;

/// Sections of the description of the format: its structures.
pub(super) mod sections {
    pub(in crate::bochs) const HEADER: &str = "Header";
    pub(in crate::bochs) const CATALOG: &str = "Catalog";
    pub(in crate::bochs) const EXTENT: &str = "Extent";
}

rules! {
    /// The image begins with the magic text.
    IS_BOCHS = Must, sections::HEADER, "magic";
    /// The type is a redolog.
    TYPE = Must, sections::HEADER, "type";
    /// The subtype is a growing image, or a redolog over another image.
    SUBTYPE = Must, sections::HEADER, "subtype";
    /// The version is 1 or 2.
    VERSION = Must, sections::HEADER, "version";
    /// The header has 512 bytes or more.
    HEADER_SIZE = Must, sections::HEADER, "header-size";
    /// The catalog is within the file.
    CATALOG_INSIDE = Must, sections::HEADER, "catalog-inside-file";
    /// The catalog has an entry for each extent of the disk.
    CATALOG_SIZE = Must, sections::HEADER, "catalog-size";
    /// The bitmap of an extent has a bit for each of its sectors.
    BITMAP_SIZE = Must, sections::HEADER, "bitmap-size";
    /// The extent size is a power of two, 512 to 8 MiB.
    EXTENT_SIZE = Must, sections::HEADER, "extent-size";
    /// The disk consists of sectors, at least one.
    DISK_SIZE = Should, sections::HEADER, "disk-size";
    /// An extent is within the file.
    EXTENT_INSIDE = Should, sections::CATALOG, "extent-inside-file";
    /// An extent is referenced once.
    ONCE = Should, sections::CATALOG, "referenced-once";
    /// Every extent of the file is referenced.
    LEAKED = Should, sections::EXTENT, "leaked";
}
