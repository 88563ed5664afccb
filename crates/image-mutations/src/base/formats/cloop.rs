//! Compressed loop.

use image_formats::AnySpec;
use image_formats::cloop::Spec;

use super::common::{alone, blocks};
use crate::base::OtherBase;
use crate::rng::Rng;

/// A random valid image.
pub(super) fn draw(rng: &mut Rng) -> OtherBase {
    let block_size = [512, 4096, 1 << 16][rng.weighted(&[30, 50, 20]).unwrap_or(0)];
    let count = rng.between(1, 40);
    alone(AnySpec::Cloop(Spec {
        virtual_size: count * u64::from(block_size),
        block_size,
        blocks: blocks(count, 10, [30, 20, 50], rng),
        gap_bytes: if rng.chance(20) {
            rng.between(1, 700) as u16
        } else {
            0
        },
        tail_bytes: if rng.chance(30) {
            rng.between(1, 700) as u16
        } else {
            0
        },
    }))
}
