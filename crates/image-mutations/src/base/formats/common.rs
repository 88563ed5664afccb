//! What drawing images of several formats has in common.

use image_formats::{Block, Content, Pattern, Placement};

use crate::base::{BACKING_FILE, OtherBase, Parent, ParentDisk};
use crate::rng::Rng;

/// A disk of some units of allocation, sometimes with a partial last one; `most` bytes at most.
pub(super) fn virtual_size(unit: u64, most: u64, rng: &mut Rng) -> u64 {
    let units = match rng.below(10) {
        0 => 1,
        1..=5 => rng.between(2, 24),
        6..=8 => rng.between(24, 160),
        _ => rng.between(160, 700),
    };
    let size = units.min((most / unit).max(1)) * unit;
    if unit > 512 && rng.chance(15) {
        (size - rng.below(unit / 512) * 512).max(512)
    } else {
        size
    }
}

/// What up to `most` of the `count` blocks of a disk hold, mostly near its start and end, by
/// the weights of data, zeros and compressed data.
pub(super) fn blocks(count: u64, most: u64, weights: [u64; 3], rng: &mut Rng) -> Vec<Block> {
    let mut places: Vec<u64> = (0..rng.between(0, most))
        .map(|_| match rng.below(4) {
            0 => count - 1 - rng.below(count.min(3)),
            1 => rng.below(count),
            _ => rng.below(count.min(12)),
        })
        .collect();
    places.sort_unstable();
    places.dedup();
    let content = |rng: &mut Rng| match rng.weighted(&weights) {
        Some(1) => Content::Zero,
        Some(2) => Content::Compressed(Pattern::Count(rng.below(256))),
        _ => Content::Data(Pattern::Fill(rng.between(1, 255) as u8)),
    };
    let block = |index| Block {
        index,
        content: content(rng),
    };
    places.into_iter().map(block).collect()
}

/// The natural order of the structures, or another; with free units between them only where
/// `gaps` are no defect.
pub(super) fn placement(gaps: bool, rng: &mut Rng) -> Placement {
    let mut placement = Placement::default();
    if rng.chance(40) {
        placement.order = (0..8).collect();
        rng.shuffle(&mut placement.order);
    }
    if gaps && rng.chance(20) {
        placement.gaps = (0..5).map(|_| rng.below(3) as u8).collect();
    }
    placement
}

/// A raw or qcow2 parent of about `size` bytes; whether it is raw.
pub(super) fn any_parent(size: u64, rng: &mut Rng) -> (Parent, bool) {
    let size = match rng.below(4) {
        0 => size / 2,
        1 => size + 65536,
        _ => size,
    };
    let size = (size - size % 512).clamp(512, 2 << 20);
    let raw = rng.chance(60);
    let pattern = Pattern::Fill(0xbb);
    let disk = if raw {
        ParentDisk::Raw(size, pattern)
    } else {
        ParentDisk::Qcow2(Box::new(image_formats::qcow2::Spec {
            cluster_bits: 12,
            virtual_size: size,
            clusters: vec![image_formats::qcow2::Cluster {
                index: 0,
                content: image_formats::qcow2::Content::Data(pattern),
            }],
            ..Default::default()
        }))
    };
    let name = BACKING_FILE.to_owned();
    (Parent { name, disk }, raw)
}

/// A base image without a parent.
pub(super) fn alone(spec: image_formats::AnySpec) -> OtherBase {
    OtherBase { spec, parent: None }
}
