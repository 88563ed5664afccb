//! QED.

use image_formats::AnySpec;
use image_formats::qed::{Backing, Spec};

use super::common::{alone, any_parent, blocks, placement, virtual_size};
use crate::base::OtherBase;
use crate::rng::Rng;

/// A random valid image.
pub(super) fn draw(rng: &mut Rng) -> OtherBase {
    let cluster_size = [1 << 12, 1 << 13, 1 << 16][rng.weighted(&[70, 15, 15]).unwrap_or(0)];
    let virtual_size = virtual_size(cluster_size.into(), 8 << 20, rng);
    let count = virtual_size.div_ceil(cluster_size.into());
    let mut spec = Spec {
        virtual_size,
        cluster_size,
        // QEMU refuses tables of one cluster.
        table_size: [2, 4, 8, 16][rng.weighted(&[60, 20, 10, 10]).unwrap_or(0)],
        header_size: if rng.chance(80) { 1 } else { 3 },
        blocks: blocks(count, 10, [70, 30, 0], rng),
        need_check: rng.chance(10),
        compat_features: if rng.chance(10) {
            1 << rng.below(64)
        } else {
            0
        },
        autoclear_features: if rng.chance(10) {
            1 << rng.below(64)
        } else {
            0
        },
        placement: placement(false, rng),
        ..Spec::default()
    };
    if !rng.chance(35) {
        return alone(AnySpec::Qed(spec));
    }
    let (parent, raw) = any_parent(virtual_size, rng);
    spec.backing = Some(Backing {
        name: parent.name.clone(),
        raw,
    });
    OtherBase {
        spec: AnySpec::Qed(spec),
        parent: Some(parent),
    }
}
