//! Parallels.

use image_formats::AnySpec;
use image_formats::parallels::{Bitmap, BitmapCluster, Extension, Spec, State};

use super::common::{alone, blocks, placement, virtual_size};
use crate::base::OtherBase;
use crate::rng::Rng;

/// A random valid image.
pub(super) fn draw(rng: &mut Rng) -> OtherBase {
    let tracks = [8, 63, 128, 2048][rng.weighted(&[50, 20, 20, 10]).unwrap_or(0)];
    let cluster = u64::from(tracks) * 512;
    let virtual_size = virtual_size(cluster, 8 << 20, rng);
    let ext = rng.chance(65);
    let implied_data_offset = !ext && rng.chance(30);
    // Unlike others, QEMU reads no extension that has a feature which it does not know.
    let extension = (ext && rng.chance(25)).then(|| Extension {
        bitmaps: vec![bitmap(rng)],
        others: Vec::new(),
    });
    alone(AnySpec::Parallels(Spec {
        virtual_size,
        ext,
        tracks,
        implied_data_offset,
        data_gap: if !implied_data_offset && rng.chance(20) {
            1
        } else {
            0
        },
        state: if rng.chance(80) {
            State::Closed
        } else {
            State::Open
        },
        blocks: blocks(virtual_size.div_ceil(cluster), 8, [1, 0, 0], rng),
        extension,
        placement: placement(false, rng),
        ..Spec::default()
    }))
}

/// A bitmap of a cluster or none.
fn bitmap(rng: &mut Rng) -> Bitmap {
    Bitmap {
        seed: rng.below(1 << 16),
        granularity: 128,
        clusters: vec![match rng.below(3) {
            0 => BitmapCluster::Zeros,
            1 => BitmapCluster::Ones,
            _ => BitmapCluster::Data(image_formats::Pattern::Fill(rng.bits() as u8)),
        }],
    }
}
