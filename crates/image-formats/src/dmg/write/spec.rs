//! The description of an image.

use serde::{Deserialize, Serialize};

use crate::arrange::Placement;
use crate::block::{Block, Content};
use crate::built::Feature;
use crate::dmg::layout::SECTOR;
use crate::spec_error::{SpecError, ensure};

/// The description of a valid image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Bytes the guest sees, a multiple of 512.
    pub virtual_size: u64,
    /// Sectors of 512 bytes in a chunk, 1 to 2048.
    pub chunk_sectors: u32,
    /// What the chunks of the disk hold: data raw or compressed, or zeros; the others are
    /// free space. Neighbouring chunks of zeros or of free space are one in the image.
    pub blocks: Vec<Block>,
    /// How compressed chunks are compressed.
    pub compression: Compression,
    /// How many chunks of the disk each block table has; the rest is in one more.
    pub tables: Vec<u64>,
    /// Where the block tables are.
    pub directory: Directory,
    /// Whether there are checksums.
    pub checksums: bool,
    /// Whether each table has a comment between its chunks.
    pub comments: bool,
    /// Whether the offsets of chunks are from the data of their table on.
    pub table_offsets: bool,
    /// Bytes before the data fork, a multiple of 512, up to 1 MiB.
    pub data_fork_offset: u32,
    /// Characters of base64 in a line of the property list, a multiple of 4; 0 for one line.
    pub line_characters: u32,
    /// Where the data of the chunks goes, in units of 512 bytes.
    pub placement: Placement,
}

/// How chunks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Apple data compression.
    Adc,
    /// zlib.
    Zlib,
    /// bzip2.
    Bzip2,
    /// LZFSE.
    Lzfse,
}

/// Where the block tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Directory {
    /// In a property list.
    Plist,
    /// In a resource fork, as in old images.
    ResourceFork,
    /// In both, as in images for all readers.
    Both,
}

impl Default for Spec {
    /// An empty disk of 64 KiB with small chunks.
    fn default() -> Self {
        Self {
            virtual_size: 64 << 10,
            chunk_sectors: 8,
            blocks: Vec::new(),
            compression: Compression::Zlib,
            tables: Vec::new(),
            directory: Directory::Plist,
            checksums: true,
            comments: false,
            table_offsets: false,
            data_fork_offset: 0,
            line_characters: 44,
            placement: Placement::default(),
        }
    }
}

/// Declares [`FEATURES`] and the features of a description from one row for each.
macro_rules! features {
    ($($name:literal, $what:literal, $has:expr;)*) => {
        /// What images can have or not.
        pub const FEATURES: &[Feature] = &[$(Feature { name: $name, what: $what }),*];

        impl Spec {
            /// The features of [`FEATURES`] that the image has.
            pub(crate) fn features(&self) -> Vec<&'static str> {
                let mut found = Vec::new();
                $(
                    let has: fn(&Spec) -> bool = $has;
                    if has(self) {
                        found.push($name);
                    }
                )*
                found
            }
        }
    };
}

features! {
    "raw", "chunks as they are", |spec| spec.has(|content| matches!(content, Content::Data(_)));
    "zero", "chunks of zeros", |spec| spec.has(|content| *content == Content::Zero);
    "ignore", "chunks of free space", |spec| (spec.blocks.len() as u64) < spec.chunk_count();
    "adc", "chunks in Apple data compression", |spec| spec.packs(Compression::Adc);
    "zlib", "chunks in zlib", |spec| spec.packs(Compression::Zlib);
    "bzip2", "chunks in bzip2", |spec| spec.packs(Compression::Bzip2);
    "lzfse", "chunks in LZFSE", |spec| spec.packs(Compression::Lzfse);
    "several-tables", "several block tables", |spec| !spec.tables.is_empty();
    "resource-fork", "block tables in a resource fork", |spec| {
        spec.directory == Directory::ResourceFork
    };
    "both-directories", "block tables in a resource fork and a property list", |spec| {
        spec.directory == Directory::Both
    };
    "no-checksums", "no checksums", |spec| !spec.checksums;
    "comments", "chunks that are comments", |spec| spec.comments;
    "table-offsets", "offsets of chunks from that of their table on", |spec| spec.table_offsets;
    "data-fork-offset", "a data fork that does not start with the file", |spec| {
        spec.data_fork_offset > 0
    };
    "one-line", "base64 in one line", |spec| spec.line_characters == 0;
    "other-order", "data in another order", |spec| !spec.placement.order.is_empty();
}

impl Spec {
    fn has(&self, wanted: fn(&Content) -> bool) -> bool {
        self.blocks.iter().any(|block| wanted(&block.content))
    }

    fn packs(&self, compression: Compression) -> bool {
        self.compression == compression && self.has(|c| matches!(c, Content::Compressed(_)))
    }

    /// Chunks of the disk.
    pub(super) fn chunk_count(&self) -> u64 {
        let sectors = self.virtual_size / SECTOR;
        sectors.div_ceil(self.chunk_sectors.max(1).into())
    }

    /// Whether it can be built.
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        let (size, sectors) = (self.virtual_size, self.chunk_sectors);
        ensure!(
            size.is_multiple_of(SECTOR) && size <= 1 << 40,
            "disk size {size}: a multiple of 512, up to 1 TiB"
        );
        ensure!(
            (1..=2048).contains(&sectors),
            "chunks of {sectors} sectors: 1 to 2048"
        );
        let offset = self.data_fork_offset;
        ensure!(
            offset.is_multiple_of(512) && offset <= 1 << 20,
            "data fork offset {offset}: a multiple of 512, up to 1 MiB"
        );
        let line = self.line_characters;
        ensure!(line.is_multiple_of(4), "lines of {line} characters");
        let tables = &self.tables;
        ensure!(tables.len() <= 1000, "{} block tables", tables.len());
        let sum = tables
            .iter()
            .try_fold(0_u64, |sum, count| sum.checked_add(*count));
        let fits = sum.is_some_and(|sum| sum < self.chunk_count().max(1));
        ensure!(
            (fits || tables.is_empty()) && !tables.contains(&0),
            "block tables: at least one chunk in each, and some for the last one"
        );
        Ok(())
    }
}
