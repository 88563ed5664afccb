//! QED.

use image_formats::qed::{Backing, Spec};
use image_formats::{AnySpec, Block, Content, Pattern, Placement};

use crate::{Qemu, assert_all_features, assert_robust, assert_valid};

fn blocks() -> Vec<Block> {
    let content = |index: u64| match index % 3 {
        0 => Content::Zero,
        _ => Content::Data(Pattern::Count(index)),
    };
    let blocks = [0, 1, 7, 15, 511, 512, 600];
    let block = |index| Block {
        index,
        content: content(index),
    };
    blocks.into_iter().map(block).collect()
}

fn specs() -> Vec<AnySpec> {
    let plain = Spec {
        virtual_size: (3 << 20) + 512,
        blocks: blocks(),
        ..Spec::default()
    };
    let backed = |name: &str, raw| Spec {
        backing: Some(Backing {
            name: name.into(),
            raw,
        }),
        ..plain.clone()
    };
    let all = [
        Spec::default(),
        plain.clone(),
        backed("base.raw", true),
        backed("base.raw", false),
        Spec {
            table_size: 4,
            header_size: 3,
            compat_features: 1 << 40,
            autoclear_features: 2,
            placement: Placement {
                order: vec![3, 1, 2],
                gaps: vec![1, 0],
            },
            ..plain.clone()
        },
        Spec {
            table_size: 1,
            ..plain.clone()
        },
        Spec {
            need_check: true,
            cluster_size: 1 << 16,
            virtual_size: 40 << 20,
            ..plain.clone()
        },
    ];
    all.into_iter().map(AnySpec::Qed).collect()
}

#[test]
fn images_are_valid() {
    let specs = specs();
    assert_all_features(&specs);
    let base = vec![0xab; 2 << 20];
    for spec in &specs {
        let AnySpec::Qed(qed) = spec else { continue };
        let qemu = match (qed.table_size, qed.placement.gaps.is_empty()) {
            (1, _) => Qemu::Refuses,
            (_, true) => Qemu::Checks,
            // Clusters between others are leaks.
            (_, false) => Qemu::Reads,
        };
        assert_valid(spec, &[("base.raw", base.clone())], qemu);
    }
}

#[test]
fn hostile_images_do_no_harm() {
    for spec in &specs()[2..4] {
        assert_robust(spec);
    }
}
