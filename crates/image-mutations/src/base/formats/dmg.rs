//! Apple disk images, of all kinds: QEMU reads raw and zlib chunks, bzip2 and LZFSE with a module
//! that is not everywhere, and no others.

use image_formats::dmg::{Compression, Directory, Spec};
use image_formats::{AnySpec, Block, Content};

use super::common::{alone, blocks, placement};
use crate::base::OtherBase;
use crate::rng::Rng;

/// How chunks are compressed and how often each is drawn.
const COMPRESSIONS: [(Compression, u64); 4] = [
    (Compression::Zlib, 66),
    (Compression::Bzip2, 24),
    (Compression::Lzfse, 6),
    (Compression::Adc, 4),
];

/// A random valid image.
pub(super) fn draw(rng: &mut Rng) -> OtherBase {
    let chunk_sectors = [8, 32, 128, 1][rng.weighted(&[40, 30, 20, 10]).unwrap_or(0)];
    let count = rng.between(1, 40);
    let chunk = u64::from(chunk_sectors) * 512;
    let virtual_size = match rng.chance(20) {
        true => count * chunk - rng.below(u64::from(chunk_sectors)) * 512,
        false => count * chunk,
    };
    let weights = COMPRESSIONS.map(|(_, weight)| weight);
    let compression = COMPRESSIONS[rng.weighted(&weights).unwrap_or(0)].0;
    let mut blocks = blocks(count, 10, [25, 20, 55], rng);
    if compression != Compression::Zlib {
        // Without its module, the driver leaves such chunks out of its table, and looks past the
        // end of the table for what is behind the last one that it has.
        let is_last = |block: &Block| block.index == count - 1;
        blocks.retain(|it| !is_last(it) || !matches!(it.content, Content::Compressed(_)));
    }
    alone(AnySpec::Dmg(Spec {
        virtual_size,
        chunk_sectors,
        blocks,
        compression,
        tables: if count > 3 && rng.chance(40) {
            vec![rng.between(1, count - 2)]
        } else {
            Vec::new()
        },
        directory: match rng.weighted(&[70, 15, 15]) {
            Some(1) => Directory::ResourceFork,
            Some(2) => Directory::Both,
            _ => Directory::Plist,
        },
        checksums: rng.chance(60),
        comments: rng.chance(30),
        table_offsets: rng.chance(30),
        data_fork_offset: if rng.chance(20) { 4096 } else { 0 },
        line_characters: if rng.chance(50) { 52 } else { 0 },
        placement: placement(false, rng),
    }))
}
