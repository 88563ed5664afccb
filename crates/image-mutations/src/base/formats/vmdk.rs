//! VMDK, of the sub-formats that QEMU reads.

use image_formats::vmdk::{Parent as NamedParent, Spec, Subformat};
use image_formats::{AnySpec, Block, Content, Pattern};

use super::common::{alone, blocks, placement, virtual_size};
use crate::base::{OtherBase, Parent, ParentDisk};
use crate::rng::Rng;

/// The sub-formats and how often each is drawn.
const SUBFORMATS: [(Subformat, u64); 8] = [
    (Subformat::MonolithicSparse, 32),
    (Subformat::StreamOptimized, 21),
    (Subformat::MonolithicFlat, 8),
    (Subformat::TwoGbMaxExtentSparse, 10),
    (Subformat::TwoGbMaxExtentFlat, 6),
    (Subformat::Vmfs, 4),
    (Subformat::VmfsSparse, 8),
    (Subformat::SeSparse, 11),
];

/// A random valid image.
pub(super) fn draw(rng: &mut Rng) -> OtherBase {
    let weights = SUBFORMATS.map(|(_, weight)| weight);
    let subformat = SUBFORMATS[rng.weighted(&weights).unwrap_or(0)].0;
    let mut spec = of_kind(subformat, rng);
    if subformat == Subformat::StreamOptimized && rng.chance(40) {
        fill_grains(&mut spec, rng);
    }
    if rng.chance(6) {
        lengthen_descriptor(&mut spec);
    }
    let has_parent = spec.subformat == Subformat::MonolithicSparse && rng.chance(30);
    if !has_parent {
        return alone(AnySpec::Vmdk(spec));
    }
    let mut parent = of_kind(Subformat::MonolithicSparse, rng);
    parent.virtual_size = spec.virtual_size;
    parent.grain_size = spec.grain_size;
    let count = parent.virtual_size.div_ceil(parent.grain_size.into());
    parent.blocks.retain(|block| block.index < count);
    let name = "backing.vmdk".to_owned();
    spec.parent = Some(NamedParent {
        name: name.clone(),
        cid: parent.cid,
    });
    OtherBase {
        spec: AnySpec::Vmdk(spec),
        parent: Some(Parent {
            name,
            disk: ParentDisk::Other(Box::new(alone(AnySpec::Vmdk(parent)))),
        }),
    }
}

/// Makes the streams of compressed grains longer by blocks of no bytes, mostly so long that
/// they fill the room that readers have for them.
fn fill_grains(spec: &mut Spec, rng: &mut Rng) {
    if !spec
        .blocks
        .iter()
        .any(|block| block.content != Content::Zero)
    {
        spec.blocks = vec![Block {
            index: 0,
            content: Content::Compressed(Pattern::Count(rng.below(256))),
        }];
    }
    let most = spec.max_empty_blocks();
    spec.empty_blocks = match rng.below(4) {
        0 => rng.between(0, most.into()) as u32,
        _ => most,
    };
}

/// Makes the descriptor longer than the 20 sectors that writers reserve.
fn lengthen_descriptor(spec: &mut Spec) {
    const LINES: usize = 180;
    spec.comments = vec!["one of many lines, each as long as the one before it".into(); LINES];
    spec.descriptor_sectors = 40;
}

/// A random image of a sub-format without a parent.
fn of_kind(subformat: Subformat, rng: &mut Rng) -> Spec {
    let grain_size: u32 = match subformat {
        Subformat::SeSparse => 4096,
        Subformat::VmfsSparse => 512,
        Subformat::StreamOptimized => 65536,
        _ => [8192, 16384, 65536][rng.weighted(&[50, 25, 25]).unwrap_or(0)],
    };
    let grain = u64::from(grain_size);
    let has_several = matches!(
        subformat,
        Subformat::TwoGbMaxExtentSparse | Subformat::TwoGbMaxExtentFlat
    );
    let virtual_size = virtual_size(grain, 4 << 20, rng);
    let count = virtual_size.div_ceil(grain);
    let is_sparse = matches!(
        subformat,
        Subformat::MonolithicSparse | Subformat::TwoGbMaxExtentSparse
    );
    let version = if is_sparse && rng.chance(15) { 2 } else { 1 };
    let zeroed_grains = version == 2 && rng.chance(60);
    let stream = subformat == Subformat::StreamOptimized;
    let footer = stream && rng.chance(60);
    let weights = match subformat {
        Subformat::StreamOptimized => [20, 0, 80],
        Subformat::SeSparse => [70, 30, 0],
        _ if zeroed_grains => [70, 30, 0],
        _ => [1, 0, 0],
    };
    Spec {
        virtual_size,
        subformat,
        grain_size,
        blocks: blocks(count, if grain_size > 8192 { 4 } else { 10 }, weights, rng),
        extent_size: if has_several {
            (count.div_ceil(rng.between(1, 3)) * grain).max(grain)
        } else {
            Spec::default().extent_size
        },
        version: if stream && rng.chance(30) { 3 } else { version },
        zeroed_grains,
        redundant: !footer && rng.chance(60),
        all_tables: rng.chance(30),
        footer,
        level: rng.between(0, 9) as u32,
        unclean: subformat != Subformat::SeSparse && rng.chance(10),
        cid: rng.between(1, 0xffff_fffe) as u32,
        comments: if rng.chance(20) {
            vec!["made for a test".into()]
        } else {
            Vec::new()
        },
        crlf: rng.chance(10),
        placement: placement(false, rng),
        ..Spec::default()
    }
}
