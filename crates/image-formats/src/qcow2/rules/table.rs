//! The rules of the format: the name, how binding it is, its section.

use crate::checker::rules;
use crate::qcow2::sections;

rules! {
    /// The image begins with the magic bytes.
    MAGIC = Must, sections::HEADER, "magic";
    /// The version is 2 or 3.
    VERSION = Must, sections::HEADER, "version";
    /// The file is not shorter than the header.
    HEADER_INSIDE = Should, sections::HEADER, "header-inside-file";
    /// Clusters have at least 512 bytes.
    CLUSTER_BITS = Must, sections::HEADER, "cluster-bits";
    /// Clusters with subclusters have at least 16 KiB.
    SUBCLUSTER_SIZE = Must, sections::HEADER, "subcluster-size";
    /// Clusters are as large as is followed here at most.
    CLUSTER_LIMIT = Should, sections::HEADER, "cluster-limit";
    /// The encryption method is known.
    CRYPT_METHOD = Must, sections::HEADER, "crypt-method";
    /// The backing file's name has at most 1023 bytes.
    BACKING_NAME_SIZE = Must, sections::HEADER, "backing-name-size";
    /// The backing file's name ends within the first cluster.
    BACKING_NAME_END = Must, sections::HEADER, "backing-name-end";
    /// The backing file's name begins behind the header.
    BACKING_NAME_START = Should, sections::HEADER, "backing-name-start";
    /// The L1 table has enough entries for the disk.
    L1_SIZE = Must, sections::HEADER, "l1-size";
    /// The L1 table begins with a cluster.
    L1_TABLE = Must, sections::HEADER, "l1-table-aligned";
    /// The L1 table is within the file, and not in the header.
    L1_TABLE_INSIDE = Should, sections::HEADER, "l1-table-inside-file";
    /// The refcount table begins with a cluster.
    REFCOUNT_TABLE = Must, sections::HEADER, "refcount-table-aligned";
    /// The refcount table is within the file, and not in the header.
    REFCOUNT_TABLE_INSIDE = Should, sections::HEADER, "refcount-table-inside-file";
    /// There is a refcount table.
    REFCOUNT_TABLE_CLUSTERS = Must, sections::HEADER, "refcount-table-clusters";
    /// The snapshot table begins with a cluster.
    SNAPSHOTS_OFFSET = Must, sections::HEADER, "snapshot-table-aligned";
    /// The snapshot table is within the file, and not in the header.
    SNAPSHOTS_INSIDE = Should, sections::HEADER, "snapshot-table-inside-file";
    /// No unknown incompatible feature is set.
    INCOMPATIBLE = Must, sections::HEADER, "incompatible-features";
    /// An image that is marked as corrupt is not written to.
    CORRUPT = Must, sections::HEADER, "corrupt";
    /// No reserved compatible feature is set.
    COMPATIBLE = Should, sections::HEADER, "compatible-features";
    /// No reserved autoclear feature is set.
    AUTOCLEAR = Should, sections::HEADER, "autoclear-features";
    /// Only an external data file can be raw.
    RAW_WITHOUT_DATA_FILE = Must, sections::HEADER, "raw-without-data-file";
    /// An image with a raw data file has no backing file.
    RAW_WITH_BACKING = Should, sections::HEADER, "raw-with-backing-file";
    /// Refcounts have at most 64 bits.
    REFCOUNT_ORDER = Must, sections::HEADER, "refcount-order";
    /// The header has at least 104 bytes.
    HEADER_LENGTH = Must, sections::HEADER, "header-length";
    /// The header's length is a multiple of 8.
    HEADER_LENGTH_UNIT = Must, sections::HEADER, "header-length-unit";
    /// The header is within the first cluster.
    HEADER_LENGTH_END = Must, sections::HEADER, "header-length-end";
    /// The compression type and its feature bit agree.
    COMPRESSION_BIT = Must, sections::ADDITIONAL, "compression-bit";
    /// The compression type is known.
    COMPRESSION_TYPE = Must, sections::ADDITIONAL, "compression-type";
    /// The header's padding is 0.
    PADDING = Should, sections::PADDING, "header-padding";
    /// A header extension ends within the extension area.
    EXTENSION_LENGTH = Must, sections::EXTENSIONS, "extension-length";
    /// A header extension is within the file.
    EXTENSION_INSIDE = Should, sections::EXTENSIONS, "extension-inside-file";
    /// Each header extension is there once.
    EXTENSION_ONCE = Should, sections::EXTENSIONS, "extension-once";
    /// The end marker has no data.
    EXTENSION_END = Should, sections::EXTENSIONS, "extension-end";
    /// The feature name table has whole entries.
    FEATURE_TABLE = Should, sections::FEATURES, "feature-table-length";
    /// The feature type is known.
    FEATURE_TYPE = Should, sections::FEATURES, "feature-type";
    /// A feature has one of 64 bits.
    FEATURE_BIT = Should, sections::FEATURES, "feature-bit";
    /// The bitmaps extension has 24 bytes.
    BITMAPS_LENGTH = Must, sections::BITMAPS_EXT, "bitmaps-extension-length";
    /// There is an extension where the feature bit says so.
    BITMAPS_MISSING = Should, sections::HEADER, "bitmaps-missing";
    /// The bitmaps extension has at least one bitmap.
    BITMAPS_COUNT = Must, sections::BITMAPS_EXT, "bitmaps-count";
    /// The bitmap directory is within the file.
    BITMAPS_INSIDE = Should, sections::BITMAPS_EXT, "bitmaps-inside-file";
    /// The reserved field of the bitmaps extension is 0.
    BITMAPS_RESERVED = Must, sections::BITMAPS_EXT, "bitmaps-reserved";
    /// The bitmap directory is as long as its entries.
    DIRECTORY_SIZE = Must, sections::BITMAPS_EXT, "bitmap-directory-size";
    /// The bitmap directory begins with a cluster.
    DIRECTORY_OFFSET = Must, sections::BITMAPS_EXT, "bitmap-directory-aligned";
    /// There is an encryption header for LUKS, and only for it.
    ENCRYPTION_HEADER = Must, sections::ENCRYPTION, "encryption-header";
    /// The pointer to the encryption header has 16 bytes.
    ENCRYPTION_LENGTH = Must, sections::ENCRYPTION, "encryption-extension-length";
    /// The encryption header begins with a cluster.
    ENCRYPTION_OFFSET = Must, sections::ENCRYPTION, "encryption-header-aligned";
    /// The encryption header is within the file.
    ENCRYPTION_INSIDE = Should, sections::ENCRYPTION, "encryption-header-inside-file";
    /// The encryption header is one of LUKS.
    LUKS_MAGIC = Must, sections::ENCRYPTION, "luks-magic";
    /// Reserved bits of an L1 entry are 0.
    L1_RESERVED = Should, sections::MAPPING, "l1-reserved";
    /// An L2 table begins with a cluster.
    L2_TABLE = Must, sections::MAPPING, "l2-table-aligned";
    /// An L2 table is within the file.
    L2_TABLE_INSIDE = Should, sections::MAPPING, "l2-table-inside-file";
    /// COPIED of an L1 entry agrees with the refcount.
    L1_COPIED = Should, sections::MAPPING, "l1-copied";
    /// Reserved bits of an L2 entry are 0.
    L2_RESERVED = Should, sections::MAPPING, "l2-reserved";
    /// Version 2 has no zero flag.
    L2_ZERO_FLAG = Must, sections::MAPPING, "l2-zero-flag";
    /// Data of a guest cluster begins with a cluster.
    CLUSTER = Must, sections::MAPPING, "cluster-aligned";
    /// Data of a guest cluster is within the file.
    CLUSTER_INSIDE = Should, sections::MAPPING, "cluster-inside-file";
    /// Data in an external data file is at the guest's offset.
    CLUSTER_EXTERNAL = Must, sections::MAPPING, "cluster-in-data-file";
    /// COPIED of an L2 entry agrees with the refcount.
    L2_COPIED = Should, sections::MAPPING, "l2-copied";
    /// COPIED is not set for a compressed cluster.
    COMPRESSED_COPIED = Should, sections::MAPPING, "compressed-copied";
    /// No cluster is compressed where there is an external data file.
    COMPRESSED_EXTERNAL = Must, sections::MAPPING, "compressed-in-data-file";
    /// The offset of compressed data has at most 56 bits.
    COMPRESSED_OFFSET = Should, sections::MAPPING, "compressed-offset";
    /// Compressed data is within the file.
    COMPRESSED_INSIDE = Should, sections::MAPPING, "compressed-inside-file";
    /// Compressed data expands to a cluster.
    COMPRESSED_DATA = Must, sections::MAPPING, "compressed-data";
    /// There are as many entries as are checked here at most.
    MAPPING_LIMIT = Should, sections::MAPPING, "mapping-limit";
    /// A compressed cluster has no subclusters.
    SUBCLUSTERS_COMPRESSED = Should, sections::EXTENDED, "subclusters-compressed";
    /// A subcluster is not both allocated and zero.
    SUBCLUSTERS_BOTH = Must, sections::EXTENDED, "subclusters-both";
    /// An allocated subcluster has a cluster.
    SUBCLUSTERS_STORED = Must, sections::EXTENDED, "subclusters-stored";
    /// Reserved bits of a refcount table entry are 0.
    REFCOUNT_RESERVED = Should, sections::REFCOUNTS, "refcount-table-reserved";
    /// A refcount block begins with a cluster.
    REFCOUNT_BLOCK = Must, sections::REFCOUNTS, "refcount-block-aligned";
    /// A refcount block is within the file.
    REFCOUNT_BLOCK_INSIDE = Should, sections::REFCOUNTS, "refcount-block-inside-file";
    /// There are as many references as are counted here at most.
    REFCOUNT_LIMIT = Should, sections::REFCOUNTS, "refcount-limit";
    /// A cluster has one use.
    OVERLAP = Should, sections::REFCOUNTS, "overlap";
    /// A refcount is the number of references.
    REFCOUNT = Should, sections::REFCOUNTS, "refcount";
    /// The L1 table of a snapshot begins with a cluster.
    SNAPSHOT_L1 = Must, sections::SNAPSHOTS, "snapshot-l1-aligned";
    /// The L1 table of a snapshot is within the file.
    SNAPSHOT_L1_INSIDE = Should, sections::SNAPSHOTS, "snapshot-l1-inside-file";
    /// The L1 table of a snapshot has enough entries for its disk.
    SNAPSHOT_L1_SIZE = Should, sections::SNAPSHOTS, "snapshot-l1-size";
    /// A snapshot of version 3 has its extra data.
    SNAPSHOT_EXTRA = Must, sections::SNAPSHOTS, "snapshot-extra-data";
    /// A snapshot table entry is within the file.
    SNAPSHOT_INSIDE = Should, sections::SNAPSHOTS, "snapshot-inside-file";
    /// No other snapshot has the same ID.
    SNAPSHOT_ID = Should, sections::SNAPSHOTS, "snapshot-id";
    /// A bitmap table begins with a cluster.
    BITMAP_TABLE = Must, sections::DIRECTORY, "bitmap-table-aligned";
    /// A bitmap table is within the file.
    BITMAP_TABLE_INSIDE = Should, sections::DIRECTORY, "bitmap-table-inside-file";
    /// Reserved flags of a bitmap are 0.
    BITMAP_FLAGS = Must, sections::DIRECTORY, "bitmap-flags";
    /// A bitmap tracks dirty clusters.
    BITMAP_TYPE = Must, sections::DIRECTORY, "bitmap-type";
    /// A granularity has at most 63 bits.
    BITMAP_GRANULARITY = Must, sections::DIRECTORY, "bitmap-granularity";
    /// A bitmap has a name.
    BITMAP_NAME = Must, sections::DIRECTORY, "bitmap-name";
    /// No other bitmap has the same name.
    BITMAP_NAME_ONCE = Must, sections::DIRECTORY, "bitmap-name-once";
    /// A bitmap has no extra data.
    BITMAP_EXTRA = Should, sections::DIRECTORY, "bitmap-extra-data";
    /// A bitmap table has enough entries for the disk.
    BITMAP_TABLE_SIZE = Must, sections::DIRECTORY, "bitmap-table-size";
    /// Reserved bits of a bitmap table entry are 0.
    BITMAP_ENTRY_RESERVED = Must, sections::BITMAP_TABLE, "bitmap-entry-reserved";
    /// A cluster of a bitmap begins with a cluster.
    BITMAP_CLUSTER = Must, sections::BITMAP_TABLE, "bitmap-cluster-aligned";
    /// A cluster of a bitmap is within the file.
    BITMAP_CLUSTER_INSIDE = Should, sections::BITMAP_TABLE, "bitmap-cluster-inside-file";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_rule_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(names.len(), RULES.len());
    }

    #[test]
    fn a_rule_about_what_is_ignored_is_recommended() {
        assert_eq!(MAGIC.only_if(true), MAGIC);
        assert_eq!(
            MAGIC.only_if(false).requirement,
            crate::defect::Requirement::Should
        );
        assert_eq!(PADDING.only_if(true), PADDING);
    }
}
