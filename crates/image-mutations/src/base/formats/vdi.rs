//! VDI, of the kind that QEMU reads: blocks of 1 MiB and no parent.

use image_formats::AnySpec;
use image_formats::vdi::{ImageType, Spec};

use super::common::{alone, blocks, placement};
use crate::base::OtherBase;
use crate::rng::Rng;

/// A random valid image.
pub(super) fn draw(rng: &mut Rng) -> OtherBase {
    const BLOCK: u64 = 1 << 20;
    let size = rng.between(1, 6) * BLOCK;
    let virtual_size = if rng.chance(30) {
        size - rng.below(BLOCK / 512) * 512
    } else {
        size
    };
    let (image_type, zeros) = if rng.chance(15) {
        (ImageType::Static, 0)
    } else {
        (ImageType::Dynamic, 25)
    };
    alone(AnySpec::Vdi(Spec {
        virtual_size,
        logical_geometry: rng.chance(30),
        image_type,
        zero_expand: rng.chance(10),
        comment: if rng.chance(20) {
            "made for a test".into()
        } else {
            String::new()
        },
        blocks: blocks(virtual_size.div_ceil(BLOCK), 3, [75, zeros, 0], rng),
        map_offset: if rng.chance(20) { 4096 } else { 0 },
        data_offset: if rng.chance(20) { 65536 } else { 0 },
        seed: rng.below(1 << 16),
        placement: placement(false, rng),
        ..Spec::default()
    }))
}
