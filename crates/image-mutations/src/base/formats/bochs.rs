//! Bochs, growing.

use image_formats::AnySpec;
use image_formats::bochs::Spec;

use super::common::{alone, blocks, placement, virtual_size};
use crate::base::OtherBase;
use crate::rng::Rng;

/// A random valid image.
pub(super) fn draw(rng: &mut Rng) -> OtherBase {
    let extent_size = [1 << 14, 1 << 16, 512][rng.weighted(&[50, 35, 15]).unwrap_or(0)];
    let virtual_size = virtual_size(extent_size.into(), 4 << 20, rng);
    let version = if rng.chance(30) { 1 } else { 2 };
    alone(AnySpec::Bochs(Spec {
        virtual_size,
        version,
        extent_size,
        header_size: if rng.chance(20) { 4096 } else { 512 },
        spare_entries: if rng.chance(30) {
            rng.between(1, 200) as u32
        } else {
            0
        },
        timestamp: if version == 2 {
            rng.below(1 << 32) as u32
        } else {
            0
        },
        blocks: blocks(
            virtual_size.div_ceil(extent_size.into()),
            10,
            [80, 20, 0],
            rng,
        ),
        holes: if rng.chance(40) {
            rng.between(2, 5) as u32
        } else {
            0
        },
        placement: placement(false, rng),
        ..Spec::default()
    }))
}
