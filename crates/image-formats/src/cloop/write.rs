//! The description of an image, and its builder.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};

use super::layout::{LARGEST_BLOCK, OFFSETS_AT, SCRIPT, SCRIPT_LEN, SECTOR, VERSION};
use crate::block::{Block, Content, sorted};
use crate::built::{BuiltFile, Feature};
use crate::pattern::Pattern;
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;

/// The description of a valid image. Its blocks are stored in their order, so that there is
/// nothing to place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Bytes the guest sees, a multiple of the block size.
    pub virtual_size: u64,
    /// Bytes of the disk in a block, a multiple of 512, up to 64 MiB.
    pub block_size: u32,
    /// What the blocks of the disk hold. All of them are streams of zlib: data is stored in it as
    /// it is. The others hold zeros.
    pub blocks: Vec<Block>,
    /// Bytes between the offsets and the first block.
    pub gap_bytes: u16,
    /// Bytes behind the last block.
    pub tail_bytes: u16,
}

impl Default for Spec {
    /// A disk of zeros of 256 KiB.
    fn default() -> Self {
        Self {
            virtual_size: 256 << 10,
            block_size: 64 << 10,
            blocks: Vec::new(),
            gap_bytes: 0,
            tail_bytes: 0,
        }
    }
}

/// What images can have or not.
pub const FEATURES: &[Feature] = &[
    Feature::new("compressed", "compressed blocks"),
    Feature::new("data", "blocks that are stored as they are"),
    Feature::new("empty", "a disk without blocks"),
    Feature::new("sector-blocks", "blocks of one sector"),
    Feature::new("odd-blocks", "blocks of a size that is no power of two"),
    Feature::new("gap", "unused bytes between the offsets and the blocks"),
    Feature::new("tail", "unused bytes behind the blocks"),
];

impl Spec {
    /// The features of [`FEATURES`] that the image has.
    pub(crate) fn features(&self) -> Vec<&'static str> {
        let stored = |block: &&Block| matches!(block.content, Content::Data(_));
        let stored = self.blocks.iter().filter(stored).count() as u64;
        let bytes = stored.saturating_mul(self.block_size.into());
        Feature::present(&[
            ("compressed", bytes < self.virtual_size),
            ("data", stored > 0),
            ("empty", self.virtual_size == 0),
            ("sector-blocks", self.block_size == 512),
            ("odd-blocks", !self.block_size.is_power_of_two()),
            ("gap", self.gap_bytes > 0),
            ("tail", self.tail_bytes > 0),
        ])
    }

    fn validate(&self) -> Result<(), SpecError> {
        let (block, size) = (u64::from(self.block_size), self.virtual_size);
        let allowed = block.is_multiple_of(SECTOR) && (SECTOR..=LARGEST_BLOCK).contains(&block);
        ensure!(
            allowed,
            "block size {block}: a multiple of 512, up to 64 MiB"
        );
        ensure!(
            size.is_multiple_of(block),
            "disk size {size}: not of blocks of {block} bytes"
        );
        let blocks = size / block;
        ensure!(blocks <= MAX_BLOCKS, "a disk of {blocks} blocks");
        Ok(())
    }
}

/// The most blocks of a disk.
const MAX_BLOCKS: u64 = 1 << 20;

/// The image that `spec` describes, called `name`.
///
/// # Errors
///
/// The parts of `spec` contradict each other or the format.
pub fn build(spec: &Spec, name: &str) -> Result<Vec<BuiltFile>, SpecError> {
    spec.validate()?;
    let size = spec.block_size as usize;
    let count = spec.virtual_size / u64::from(spec.block_size);
    let blocks = sorted(&spec.blocks, count)?;
    let zeros = zlib(&vec![0; size], Compression::best())?;
    let mut next = OFFSETS_AT + (count + 1) * 8 + u64::from(spec.gap_bytes);
    let mut offsets = next.to_be_bytes().to_vec();
    let mut store = Store::new();
    let mut named = blocks.into_iter().peekable();
    for index in 0..count {
        let block = named.next_if(|block| block.index == index);
        let packed = match block.map(|block| &block.content) {
            None | Some(Content::Zero) => zeros.clone(),
            Some(Content::Data(pattern)) => pack(pattern, size, Compression::none())?,
            Some(Content::Compressed(pattern)) => pack(pattern, size, Compression::best())?,
        };
        store.write(next, &packed);
        next += packed.len() as u64;
        offsets.extend(next.to_be_bytes());
    }
    let script = [
        SCRIPT,
        VERSION,
        b"modprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\nexit $?\n",
    ]
    .concat();
    debug_assert!(script.len() as u64 <= SCRIPT_LEN);
    store.write(0, &script);
    store.write(128, &spec.block_size.to_be_bytes());
    store.write(132, &(count as u32).to_be_bytes());
    store.write(OFFSETS_AT, &offsets);
    store.resize(next + u64::from(spec.tail_bytes));
    Ok(vec![BuiltFile {
        name: name.to_owned(),
        bytes: store,
    }])
}

fn pack(pattern: &Pattern, size: usize, level: Compression) -> Result<Vec<u8>, SpecError> {
    zlib(&pattern.bytes(size), level)
}

/// A stream of zlib.
fn zlib(data: &[u8], level: Compression) -> Result<Vec<u8>, SpecError> {
    let mut stream = ZlibEncoder::new(Vec::new(), level);
    let packed = stream.write_all(data).and_then(|()| stream.finish());
    packed.map_err(|error| SpecError(error.to_string()))
}
