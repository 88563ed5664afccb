//! The rules of the format.

use crate::checker::rules;

/// Sections of the description of the format: its structures.
pub(super) mod sections {
    pub(in crate::cloop) const HEADER: &str = "Header";
    pub(in crate::cloop) const OFFSETS: &str = "Offsets";
    pub(in crate::cloop) const BLOCKS: &str = "Blocks";
}

rules! {
    /// The header is a shell script that names a version of the format.
    SCRIPT_RULE = Must, sections::HEADER, "script";
    /// The version is 2.0. Readers that are given the format ignore it.
    VERSION = Should, sections::HEADER, "version";
    /// A block has sectors, at least one.
    BLOCK_SIZE = Must, sections::HEADER, "block-size";
    /// A block has at most 64 MiB.
    LARGE_BLOCK = Should, sections::HEADER, "large-block";
    /// The offsets are within the file.
    OFFSETS_INSIDE = Must, sections::HEADER, "offsets-inside-file";
    /// No block begins before the end of the offsets.
    BEHIND_OFFSETS = Should, sections::OFFSETS, "behind-offsets";
    /// The offsets rise.
    RISING = Must, sections::OFFSETS, "offsets-rising";
    /// A block is within the file.
    BLOCK_INSIDE = Must, sections::OFFSETS, "block-inside-file";
    /// A compressed block is no longer than twice the largest block.
    BLOCK_LENGTH = Must, sections::OFFSETS, "block-length";
    /// A block expands to as many bytes as a block has.
    BLOCK_DATA = Must, sections::BLOCKS, "block-data";
}
