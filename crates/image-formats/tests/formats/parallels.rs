//! Parallels.

use std::fs;
use std::sync::Arc;

use image_formats::parallels::{Bitmap, BitmapCluster, Extension, Feature, Spec, State};
use image_formats::{AnyImage, AnySpec, Block, Content, Format, Pattern, Placement};
use proptest::prelude::*;

use crate::common::{qemu_img, scratch};
use crate::{
    Qemu, any_blocks, any_order, assert_all_features, assert_foreign, assert_reads_as_described,
    assert_robust, assert_robust_when_damaged, assert_valid, convert, some_data,
};

fn blocks(indexes: &[u64]) -> Vec<Block> {
    let block = |index: &u64| Block {
        index: *index,
        content: Content::Data(Pattern::Noise(*index)),
    };
    indexes.iter().map(block).collect()
}

fn plain() -> Spec {
    Spec {
        virtual_size: (1 << 20) - 512,
        blocks: blocks(&[0, 1, 7, 31]),
        ..Spec::default()
    }
}

fn extension() -> Extension {
    let bitmap = |seed, granularity, clusters| Bitmap {
        seed,
        granularity,
        clusters,
    };
    Extension {
        bitmaps: vec![
            bitmap(1, 1, vec![BitmapCluster::Data(Pattern::Fill(0x0f))]),
            bitmap(2, 64, vec![BitmapCluster::Ones]),
            bitmap(3, 128, vec![BitmapCluster::Zeros]),
        ],
        others: Vec::new(),
    }
}

/// Images, and what QEMU does with them.
fn specs() -> Vec<(Spec, Qemu)> {
    let unknown = |necessary, transit| Extension {
        others: vec![Feature {
            magic: 0x1234,
            necessary,
            transit,
            data: vec![1, 2, 3],
        }],
        ..extension()
    };
    let mut all = vec![
        (Spec::default(), Qemu::Checks),
        (plain(), Qemu::Checks),
        (
            Spec {
                ext: false,
                state: State::Unmarked,
                ..plain()
            },
            Qemu::Checks,
        ),
        (
            Spec {
                ext: false,
                tracks: 63,
                implied_data_offset: true,
                blocks: blocks(&[0, 3, 5, 32]),
                ..plain()
            },
            Qemu::Checks,
        ),
        (
            Spec {
                data_gap: 2,
                placement: Placement {
                    order: vec![3, 1, 2],
                    gaps: Vec::new(),
                },
                ..plain()
            },
            Qemu::Checks,
        ),
        // An image that is open is one that check has something to say of.
        (
            Spec {
                state: State::Open,
                ..plain()
            },
            Qemu::Reads,
        ),
        (
            Spec {
                empty: true,
                ..Spec::default()
            },
            Qemu::Checks,
        ),
        (
            Spec {
                extension: Some(extension()),
                ..plain()
            },
            Qemu::Checks,
        ),
        (
            Spec {
                ext: false,
                extension: Some(extension()),
                ..plain()
            },
            Qemu::Checks,
        ),
    ];
    // It knows no other features, and no flags.
    for (necessary, transit) in [(false, false), (false, true), (true, false)] {
        let spec = Spec {
            extension: Some(unknown(necessary, transit)),
            ..plain()
        };
        all.push((spec, Qemu::Refuses));
    }
    all
}

#[test]
fn images_are_valid() {
    let gaps = Spec {
        placement: Placement {
            order: Vec::new(),
            gaps: vec![1, 0],
        },
        ..plain()
    };
    let mut all = vec![AnySpec::Parallels(gaps.clone())];
    for (spec, qemu) in specs() {
        let spec = AnySpec::Parallels(spec);
        assert_valid(&spec, &[], qemu);
        all.push(spec);
    }
    assert_all_features(&all);
    // Clusters that nothing refers to are leaks, but no more than that.
    let image = all[0].build("i").unwrap().swap_remove(0).bytes;
    let image = AnyImage::open(Arc::new(image), Format::Parallels).unwrap();
    let defects = image.defects().unwrap();
    assert!(defects.iter().all(|defect| defect.name == "leaked"));
    assert_eq!(defects.len(), 2);
}

/// What `qemu-img check` finds is what is found here.
#[test]
fn check_agrees() {
    let Some(folder) = scratch() else { return };
    let path = folder.path().join("i");
    for ext in [false, true] {
        let spec = AnySpec::Parallels(Spec { ext, ..plain() });
        let valid = spec.build("i").unwrap().swap_remove(0).bytes;
        let valid = AnyImage::open(Arc::new(valid), Format::Parallels).unwrap();
        let twice = valid.field("bat[0]").unwrap().value.as_uint().unwrap();
        for (field, value, name) in [
            ("bat[1]", twice, "referenced-once"),
            // QEMU 10.0 says so, and fails an assertion then.
            ("bat[1]", 0xff_ffff, "cluster-inside-file"),
            // The last one: what is behind the others leaks.
            ("bat[31]", 0, "leaked"),
            ("header.data_off", 0xff_ffff, "data-inside-file"),
        ] {
            let mut image = valid.clone();
            image.set(field, value).unwrap();
            let defects = image.defects().unwrap();
            let found = defects.iter().any(|defect| defect.name == name);
            assert!(found, "{field} = {value}: {defects:?}");
            fs::write(&path, image.bytes().to_vec(1 << 30).unwrap()).unwrap();
            let ran = qemu_img(&["check", "-f", "parallels"], &[&path]);
            let text = String::from_utf8_lossy(&ran.stderr).into_owned();
            assert!(!ran.status.success(), "{field} = {value}: {ran:?}");
            assert!(text.contains("ERROR"), "{field} = {value}: {text}");
        }
    }
}

#[test]
fn images_of_qemu_are_known() {
    let Some(folder) = scratch() else { return };
    let folder = folder.path();
    for (i, options) in [
        &[][..],
        &["-o", "cluster_size=64k"],
        &["-o", "cluster_size=4M"],
        &["-S", "0"],
    ]
    .iter()
    .enumerate()
    {
        let name = format!("{i}.hdd");
        let data = some_data((5 << 20) + 512);
        convert(folder, &data, &name, Format::Parallels, options);
        let image = assert_foreign(folder, &name, Format::Parallels, &data);
        let field = |path: &str| image.field(path).unwrap().value;
        assert_eq!(field("header.nb_sectors"), 10241.into());
        assert_eq!(
            field("header.tracks"),
            [2048, 128, 8192, 2048][i].into(),
            "{options:?}"
        );
    }
    let name = folder.join("empty.hdd");
    for size in ["0", "512", "3T"] {
        let ran = qemu_img(&["create", "-f", "parallels"], &[&name, size.as_ref()]);
        assert!(ran.status.success(), "{ran:?}");
        let bytes = fs::read(&name).unwrap();
        let image = AnyImage::open(Arc::new(bytes), Format::Parallels).unwrap();
        assert_eq!(image.defects().unwrap(), [], "{size}");
    }
}

#[test]
fn hostile_images_do_no_harm() {
    for (spec, _) in specs().into_iter().skip(7).take(3) {
        let small = Spec { tracks: 2, ..spec };
        let blocks = Spec {
            blocks: blocks(&[0, 1, 900]),
            ..small
        };
        let spec = AnySpec::Parallels(blocks);
        assert_robust(&spec);
        assert_robust_when_damaged(&spec);
    }
}

fn any_spec() -> impl Strategy<Value = Spec> {
    let header = (any::<bool>(), any::<bool>(), 0..3_u8, 0..100_u64);
    (1..40_u32, any_blocks(false, 60), any_order(), header).prop_map(
        |(tracks, blocks, order, (ext, implied, gap, sectors))| Spec {
            virtual_size: (60 * u64::from(tracks) - sectors.min(u64::from(tracks) - 1)) * 512,
            ext,
            tracks,
            implied_data_offset: implied && !ext,
            data_gap: if implied && !ext { 0 } else { gap },
            blocks,
            placement: Placement {
                order,
                gaps: Vec::new(),
            },
            ..Spec::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// What is built is without defects, and reads as it was described.
    #[test]
    fn any_image_reads_as_described(spec in any_spec()) {
        let unit = spec.tracks * 512;
        assert_reads_as_described(&AnySpec::Parallels(spec.clone()), &spec.blocks, unit as usize);
    }
}
