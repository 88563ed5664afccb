//! qcow, version 1.

use image_formats::AnySpec;
use image_formats::qcow::Spec;

use super::common::{alone, any_parent, blocks, placement, virtual_size};
use crate::base::{OtherBase, PASSPHRASE};
use crate::rng::Rng;

/// A random valid image.
pub(super) fn draw(rng: &mut Rng) -> OtherBase {
    let cluster_bits = [9, 12, 16][rng.weighted(&[35, 55, 10]).unwrap_or(0)];
    let cluster = 1 << cluster_bits;
    let virtual_size = virtual_size(cluster, 4 << 20, rng);
    let encrypted = rng.chance(20);
    // What is compressed is not encrypted.
    let weights = [60, 0, if encrypted { 0 } else { 40 }];
    let mut spec = Spec {
        virtual_size,
        cluster_bits,
        l2_bits: [9, 6, 13][rng.weighted(&[70, 20, 10]).unwrap_or(0)],
        blocks: blocks(virtual_size.div_ceil(cluster), 10, weights, rng),
        mtime: rng.below(1 << 32) as u32,
        passphrase: encrypted.then(|| PASSPHRASE.to_owned()),
        l1_apart: rng.chance(30),
        placement: placement(true, rng),
        ..Spec::default()
    };
    if !rng.chance(35) {
        return alone(AnySpec::Qcow(spec));
    }
    let (parent, _) = any_parent(virtual_size, rng);
    spec.backing = Some(parent.name.clone());
    OtherBase {
        spec: AnySpec::Qcow(spec),
        parent: Some(parent),
    }
}
