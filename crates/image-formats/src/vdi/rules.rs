//! The rules of the format.

use crate::checker::rules;

/// Sections of the description of the format: its structures.
pub(super) mod sections {
    pub(in crate::vdi) const PRE_HEADER: &str = "Pre-header";
    pub(in crate::vdi) const HEADER: &str = "Header";
    pub(in crate::vdi) const BLOCK_MAP: &str = "Block map";
}

rules! {
    /// The image has the signature.
    IS_VDI = Must, sections::PRE_HEADER, "signature";
    /// The version is 1.1, or of major version 0. Other minor versions of 1 can be read.
    VERSION = Must, sections::PRE_HEADER, "version";
    /// The header has all fields that its version has.
    HEADER_SIZE = Should, sections::HEADER, "header-size";
    /// The type is a known one.
    IMAGE_TYPE = Must, sections::HEADER, "image-type";
    /// No unknown flag is set.
    FLAGS = Should, sections::HEADER, "image-flags";
    /// The comment is ended by a zero byte.
    DESCRIPTION = Should, sections::HEADER, "description";
    /// The block map begins with a sector.
    MAP_ALIGNED = Should, sections::HEADER, "block-map-aligned";
    /// The block map is behind the header and within the file.
    MAP_INSIDE = Must, sections::HEADER, "block-map-inside-file";
    /// The blocks begin with a sector.
    DATA_ALIGNED = Should, sections::HEADER, "data-aligned";
    /// The blocks are behind header and block map.
    DATA_BEHIND = Must, sections::HEADER, "data-behind-block-map";
    /// The geometry is one that a disk can have.
    GEOMETRY = Should, sections::HEADER, "geometry";
    /// Sectors have 512 bytes.
    SECTOR_SIZE = Must, sections::HEADER, "sector-size";
    /// Unused fields are zero.
    UNUSED = Should, sections::HEADER, "unused";
    /// The disk consists of sectors.
    DISK_SIZE_UNIT = Should, sections::HEADER, "disk-size-unit";
    /// The blocks are enough for the disk.
    DISK_SIZE = Must, sections::HEADER, "disk-size";
    /// The block size is a power of two, at least 512.
    BLOCK_SIZE = Must, sections::HEADER, "block-size";
    /// The bytes before each block are none or a power of two.
    BLOCK_EXTRA = Should, sections::HEADER, "block-extra";
    /// There are as many blocks as the disk needs.
    BLOCKS = Should, sections::HEADER, "blocks-in-image";
    /// The number of allocated blocks is that of the block map.
    BLOCKS_ALLOCATED = Should, sections::HEADER, "blocks-allocated";
    /// An image and its last change have UUIDs.
    UUID = Should, sections::HEADER, "uuid";
    /// Undo and differencing images have a parent.
    PARENT = Must, sections::HEADER, "parent";
    /// Other images have no parent.
    NO_PARENT = Must, sections::HEADER, "no-parent";
    /// All blocks of a static image are allocated.
    STATIC_ALLOCATED = Should, sections::BLOCK_MAP, "static-allocated";
    /// A block is within the file.
    BLOCK_INSIDE = Should, sections::BLOCK_MAP, "block-inside-file";
    /// The number of a block is below the number of blocks.
    BLOCK_NUMBER = Should, sections::BLOCK_MAP, "block-number";
    /// A block is used once.
    ONCE = Should, sections::BLOCK_MAP, "referenced-once";
}
