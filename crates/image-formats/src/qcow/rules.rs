//! The rules of the format.

use crate::checker::rules;

/// Sections of the description of the format.
pub(super) mod sections {
    pub(in crate::qcow) const HEADER: &str = "The QCOW Header";
    pub(in crate::qcow) const TABLES: &str = "2-Level Lookups";
    pub(in crate::qcow) const BACKING: &str = "Copy-on-Write Images";
    pub(in crate::qcow) const COMPRESSED: &str = "Compressed QCOW Images";
    pub(in crate::qcow) const ENCRYPTED: &str = "Encrypted QCOW Images";
}

rules! {
    /// The image begins with the magic number.
    IS_QCOW = Must, sections::HEADER, "magic";
    /// The version is 1.
    VERSION = Must, sections::HEADER, "version";
    /// The disk has at least two bytes.
    SIZE = Must, sections::HEADER, "size";
    /// The disk consists of sectors; readers leave the rest out.
    SIZE_UNIT = Should, sections::HEADER, "size-unit";
    /// Clusters have 512 bytes to 64 KiB.
    CLUSTER_BITS = Must, sections::HEADER, "cluster-bits";
    /// L2 tables have 512 bytes to 64 KiB.
    L2_BITS = Must, sections::HEADER, "l2-bits";
    /// The padding of the header is zero.
    PADDING = Should, sections::HEADER, "padding";
    /// The encryption is a known one.
    CRYPT_METHOD = Must, sections::ENCRYPTED, "crypt-method";
    /// The L1 table is behind the header and within the file.
    L1_INSIDE = Must, sections::HEADER, "l1-table-inside-file";
    /// The name of the backing file has up to 1023 bytes.
    NAME_LENGTH = Must, sections::BACKING, "backing-name-length";
    /// The name of the backing file is behind the header and within the file.
    NAME_INSIDE = Must, sections::BACKING, "backing-name-inside-file";
    /// An image without a backing file has no length of its name.
    NO_NAME = Should, sections::BACKING, "no-backing-name";
    /// An L2 table begins with a cluster.
    L2_ALIGNED = Should, sections::TABLES, "l2-table-aligned";
    /// An L2 table is within the file.
    L2_INSIDE = Must, sections::TABLES, "l2-table-inside-file";
    /// A cluster begins with a cluster of the file.
    CLUSTER_ALIGNED = Should, sections::TABLES, "cluster-aligned";
    /// A cluster is within the file.
    CLUSTER_INSIDE = Should, sections::TABLES, "cluster-inside-file";
    /// A compressed cluster has at least one byte, all of them within the file.
    COMPRESSED_INSIDE = Must, sections::COMPRESSED, "compressed-inside-file";
    /// Header, tables and clusters do not overlap.
    OVERLAP = Should, sections::TABLES, "overlap";
}
