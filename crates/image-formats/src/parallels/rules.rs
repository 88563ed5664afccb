//! The rules of the format.

use crate::checker::rules;

/// Sections of the specification.
pub(super) mod sections {
    pub(in crate::parallels) const HEADER: &str = "Header";
    pub(in crate::parallels) const BAT: &str = "BAT";
    pub(in crate::parallels) const DATA: &str = "Data Area";
    pub(in crate::parallels) const EXTENSION: &str = "Format Extension";
    pub(in crate::parallels) const BITMAP: &str = "Dirty bitmaps feature";
}

rules! {
    /// The image begins with one of the two magic texts.
    IS_PARALLELS = Must, sections::HEADER, "magic";
    /// The version is 2.
    VERSION = Must, sections::HEADER, "version";
    /// A cluster has at least one sector.
    TRACKS = Must, sections::HEADER, "tracks";
    /// The BAT is within the file.
    BAT_INSIDE = Must, sections::BAT, "bat-inside-file";
    /// The BAT has an entry for each cluster of the disk.
    DISK_SIZE = Must, sections::HEADER, "disk-size";
    /// The BAT has no more entries than the disk has clusters.
    BAT_ENTRIES = Should, sections::HEADER, "bat-entries";
    /// The earlier kind of image has 32 bits for the disk size.
    DISK_SIZE_HIGH = Should, sections::HEADER, "disk-size-high";
    /// The mark of open images has one of three values.
    IN_USE = Should, sections::HEADER, "in-use";
    /// The data area is behind the BAT and within the file.
    DATA_INSIDE = Should, sections::HEADER, "data-inside-file";
    /// In the later kind of image the data area begins with a cluster.
    DATA_ALIGNED = Should, sections::HEADER, "data-aligned";
    /// No unknown flag is set.
    FLAGS = Should, sections::HEADER, "flags";
    /// An image that is marked as empty has no clusters.
    EMPTY = Should, sections::HEADER, "empty";
    /// A cluster is in the data area.
    CLUSTER_IN_DATA = Should, sections::BAT, "cluster-in-data-area";
    /// A cluster is within the file.
    CLUSTER_INSIDE = Should, sections::BAT, "cluster-inside-file";
    /// A cluster begins where one can, seen from the data area.
    CLUSTER_ALIGNED = Should, sections::BAT, "cluster-aligned";
    /// A cluster is referenced once.
    ONCE = Should, sections::BAT, "referenced-once";
    /// Clusters of the data area are referenced.
    LEAKED = Should, sections::DATA, "leaked";
    /// The extension is a cluster within the file.
    EXTENSION_INSIDE = Must, sections::EXTENSION, "extension-inside-file";
    /// The extension begins with its magic number.
    EXTENSION_MAGIC = Must, sections::EXTENSION, "extension-magic";
    /// The checksum of the extension is that of its bytes.
    CHECKSUM = Must, sections::EXTENSION, "extension-checksum";
    /// A feature has no unknown flags.
    FEATURE_FLAGS = Should, sections::EXTENSION, "feature-flags";
    /// A feature is within the extension.
    FEATURE_INSIDE = Must, sections::EXTENSION, "feature-inside-extension";
    /// The last feature is the one that ends them, and it is all zeros.
    END_OF_FEATURES = Must, sections::EXTENSION, "end-of-features";
    /// Unused fields are zero.
    UNUSED = Should, sections::EXTENSION, "unused";
    /// A bitmap has the size of the disk.
    BITMAP_SIZE = Should, sections::BITMAP, "bitmap-size";
    /// The granularity of a bitmap is a power of two.
    GRANULARITY = Must, sections::BITMAP, "bitmap-granularity";
    /// The table of a bitmap is within its feature.
    BITMAP_TABLE_INSIDE = Must, sections::BITMAP, "bitmap-table-inside-feature";
    /// The table of a bitmap has an entry for each of its clusters.
    BITMAP_TABLE_SIZE = Should, sections::BITMAP, "bitmap-table-size";
}
