//! Apple disk images, of the kinds that QEMU reads without modules: raw and zlib.

use image_formats::AnySpec;
use image_formats::dmg::{Compression, Directory, Spec};

use super::common::{alone, blocks, placement};
use crate::base::OtherBase;
use crate::rng::Rng;

/// A random valid image.
pub(super) fn draw(rng: &mut Rng) -> OtherBase {
    let chunk_sectors = [8, 32, 128, 1][rng.weighted(&[40, 30, 20, 10]).unwrap_or(0)];
    let count = rng.between(1, 40);
    let chunk = u64::from(chunk_sectors) * 512;
    let virtual_size = match rng.chance(20) {
        true => count * chunk - rng.below(u64::from(chunk_sectors)) * 512,
        false => count * chunk,
    };
    alone(AnySpec::Dmg(Spec {
        virtual_size,
        chunk_sectors,
        blocks: blocks(count, 10, [25, 20, 55], rng),
        compression: Compression::Zlib,
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
