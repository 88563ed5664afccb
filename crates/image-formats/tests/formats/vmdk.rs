//! VMDK.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use image_formats::vmdk::{Access as Writers, Parent, Spec, Subformat, build};
use image_formats::{
    Access, AnyImage, AnySpec, Block, Content, Files, Format, Pattern, Placement, ReadAt,
};
use proptest::prelude::*;

use crate::common::{qemu_img, scratch};
use crate::{Qemu, assert_all_features, assert_robust, assert_valid, disk, disk_of_qemu};

fn block(index: u64, content: Content) -> Block {
    Block { index, content }
}

/// Data here and there, without zeros.
fn data(indexes: &[u64]) -> Vec<Block> {
    let pattern = |index: u64| match index % 3 {
        0 => Pattern::Fill(0x11),
        1 => Pattern::Noise(index),
        _ => Pattern::Count(index),
    };
    let data = |&index: &u64| block(index, Content::Data(pattern(index)));
    indexes.iter().map(data).collect()
}

/// The same, compressed.
fn compressed(indexes: &[u64]) -> Vec<Block> {
    let mut blocks = data(indexes);
    for block in &mut blocks {
        if let Content::Data(pattern) = &block.content {
            block.content = Content::Compressed(pattern.clone());
        }
    }
    blocks
}

/// With zeros where there was nothing.
fn with_zeros(mut blocks: Vec<Block>, indexes: &[u64]) -> Vec<Block> {
    blocks.extend(indexes.iter().map(|&index| block(index, Content::Zero)));
    blocks
}

/// A sparse disk with several grain tables, of which one has nothing.
fn sparse() -> Spec {
    Spec {
        virtual_size: 13 << 20,
        blocks: data(&[0, 1, 2, 77, 511, 1500, 1663]),
        ..Spec::default()
    }
}

fn stream() -> Spec {
    Spec {
        subformat: Subformat::StreamOptimized,
        version: 3,
        blocks: compressed(&[0, 1, 2, 77, 511, 1500, 1663]),
        ..sparse()
    }
}

fn esx(subformat: Subformat) -> Spec {
    Spec {
        subformat,
        virtual_size: 18 << 20,
        grain_size: 4096,
        blocks: data(&[0, 1, 3, 4100]),
        ..Spec::default()
    }
}

fn flat(subformat: Subformat) -> Spec {
    Spec {
        subformat,
        virtual_size: (1 << 20) + 512,
        grain_size: 4096,
        blocks: data(&[0, 100, 256]),
        ..Spec::default()
    }
}

/// The parent of images in these tests.
fn base() -> Spec {
    Spec {
        virtual_size: 2 << 20,
        cid: 0xabc,
        blocks: data(&[0, 1, 2, 3, 4, 200]),
        ..Spec::default()
    }
}

fn child(spec: Spec) -> Spec {
    let name = "base.vmdk".into();
    let parent = Some(Parent { name, cid: 0xabc });
    Spec { parent, ..spec }
}

fn specs() -> Vec<(Spec, Qemu)> {
    let read = |spec| (spec, Qemu::Checks);
    let refused = |spec| (spec, Qemu::Refuses);
    let split = Spec {
        extent_size: 4 << 20,
        ..sparse()
    };
    vec![
        read(Spec::default()),
        read(sparse()),
        read(Spec {
            virtual_size: (5 << 20) + 512,
            grain_size: 1 << 20,
            redundant: true,
            all_tables: true,
            unclean: true,
            descriptor_sectors: 40,
            blocks: data(&[0, 3, 5]),
            ..Spec::default()
        }),
        read(Spec {
            version: 2,
            zeroed_grains: true,
            redundant: true,
            blocks: with_zeros(data(&[0, 2, 600]), &[1, 3, 1024]),
            placement: Placement {
                order: vec![5, 3, 4, 1],
                gaps: vec![0, 3],
            },
            ..sparse()
        }),
        read(child(Spec {
            virtual_size: 3 << 20,
            version: 2,
            zeroed_grains: true,
            blocks: with_zeros(data(&[1, 300]), &[2, 200]),
            ..Spec::default()
        })),
        read(stream()),
        read(Spec {
            footer: true,
            encoding: Some("UTF-8".into()),
            empty_blocks: 100,
            ..stream()
        }),
        read(Spec {
            blocks: data(&[0, 3, 6, 600]),
            placement: Placement {
                order: vec![2, 1],
                gaps: Vec::new(),
            },
            footer: true,
            ..stream()
        }),
        read(Spec {
            subformat: Subformat::TwoGbMaxExtentSparse,
            descriptor_version: 3,
            change_track_path: Some("test-ctk.vmdk".into()),
            crlf: true,
            comments: vec!["made by \"hand\"".into()],
            ..split.clone()
        }),
        read(flat(Subformat::MonolithicFlat)),
        read(Spec {
            flat_offset: 3,
            extent_size: 1 << 19,
            ..flat(Subformat::TwoGbMaxExtentFlat)
        }),
        read(flat(Subformat::Vmfs)),
        read(esx(Subformat::VmfsSparse)),
        read(child(Spec {
            grain_size: 1536,
            virtual_size: 1 << 20,
            blocks: data(&[1, 5, 600]),
            ..esx(Subformat::VmfsSparse)
        })),
        read(Spec {
            blocks: with_zeros(data(&[0, 1, 3, 4100]), &[2, 4000]),
            ..esx(Subformat::SeSparse)
        }),
        read(child(Spec {
            unmapped: true,
            blocks: with_zeros(data(&[0, 4100]), &[1, 2, 100]),
            placement: Placement {
                order: vec![1, 0],
                gaps: vec![2],
            },
            ..esx(Subformat::SeSparse)
        })),
        // QEMU opens version 3 of what is not compressed for reading alone, as it is here.
        read(Spec {
            version: 3,
            ..sparse()
        }),
        // QEMU looks for the content identifiers at sector 1, and there alone.
        refused(Spec {
            descriptor_offset: 2,
            ..sparse()
        }),
    ]
}

/// Those that QEMU reads as other disks, since it leaves out the extents that are not `RW` or
/// that have no file.
fn misread() -> Vec<Spec> {
    let split = Spec {
        subformat: Subformat::TwoGbMaxExtentSparse,
        extent_size: 4 << 20,
        ..sparse()
    };
    vec![
        Spec {
            zero_extents: true,
            ..split.clone()
        },
        Spec {
            access: Writers::ReadOnly,
            ..split
        },
    ]
}

#[test]
fn images_are_valid() {
    let all: Vec<AnySpec> = specs()
        .into_iter()
        .map(|(spec, _)| spec)
        .chain(misread())
        .map(AnySpec::Vmdk)
        .collect();
    assert_all_features(&all);
    let base = build(&base(), "base.vmdk").unwrap().swap_remove(0);
    let base = base.bytes.to_vec(64 << 20).unwrap();
    for (spec, qemu) in specs() {
        let spec = AnySpec::Vmdk(spec);
        assert_valid(&spec, &[("base.vmdk", base.clone())], qemu);
    }
}

#[test]
fn extents_of_several_kinds_are_one_disk() {
    for spec in misread() {
        let Some(folder) = scratch() else { return };
        let folder = folder.path();
        crate::write(folder, &build(&spec, "test.vmdk").unwrap());
        let ours = disk(folder, "test.vmdk", Format::Vmdk);
        assert_eq!(ours.len() as u64, spec.virtual_size);
        let mut wanted = vec![0; ours.len()];
        for block in &spec.blocks {
            let Content::Data(pattern) = &block.content else {
                continue;
            };
            let at = block.index as usize * 8192;
            wanted[at..at + 8192].copy_from_slice(&pattern.bytes(8192));
        }
        assert!(ours == wanted);
    }
}

#[test]
fn hostile_images_do_no_harm() {
    let specs = specs();
    for index in [3, 4, 6, 8, 10, 13, 15] {
        assert_robust(&AnySpec::Vmdk(specs[index].0.clone()));
    }
}
