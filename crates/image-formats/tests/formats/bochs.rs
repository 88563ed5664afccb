//! Growing images of Bochs.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use image_formats::bochs::Spec;
use image_formats::{
    Access, AnyImage, AnySpec, Block, Content, DiskError, Format, Pattern, Placement,
};
use proptest::prelude::*;

use crate::common::scratch;
use crate::{
    Qemu, any_blocks, any_order, assert_all_features, assert_foreign, assert_reads_as_described,
    assert_robust, assert_robust_when_damaged, assert_valid, disk_of_qemu, installed, laid_over,
    some_data,
};

fn blocks() -> Vec<Block> {
    let block = |index| Block {
        index,
        content: match index % 3 {
            1 => Content::Zero,
            _ => Content::Data(Pattern::Noise(index)),
        },
    };
    [0, 1, 5, 9, 62].map(block).to_vec()
}

fn plain() -> Spec {
    Spec {
        virtual_size: 63 * 16384 - 512,
        blocks: blocks(),
        ..Spec::default()
    }
}

fn specs() -> Vec<AnySpec> {
    let all = [
        Spec::default(),
        plain(),
        Spec {
            version: 1,
            holes: 3,
            header_size: 600,
            ..plain()
        },
        Spec {
            timestamp: 0x2821_4a8b,
            spare_entries: 70,
            placement: Placement {
                order: vec![3, 1, 2],
                gaps: Vec::new(),
            },
            ..plain()
        },
        Spec {
            virtual_size: 63 * 512,
            extent_size: 512,
            ..plain()
        },
        Spec {
            virtual_size: 63 * 65536,
            extent_size: 65536,
            bitmap_size: 513,
            holes: 1,
            ..plain()
        },
    ];
    all.into_iter().map(AnySpec::Bochs).collect()
}

#[test]
fn images_are_valid() {
    let gaps = Spec {
        placement: Placement {
            order: Vec::new(),
            gaps: vec![2],
        },
        ..plain()
    };
    let mut all = specs();
    for spec in &all {
        assert_valid(spec, &[], Qemu::Reads);
    }
    all.push(AnySpec::Bochs(gaps));
    assert_all_features(&all);
    // Extents that nothing refers to are no more than lost room.
    let file = all.pop().unwrap().build("i").unwrap().swap_remove(0);
    let image = AnyImage::open(Arc::new(file.bytes), Format::Bochs).unwrap();
    let defects = image.defects().unwrap();
    assert!(defects.iter().all(|defect| defect.name == "leaked"));
    assert_eq!(defects.len(), blocks().len());
}

#[test]
fn what_is_described_is_read() {
    let file = AnySpec::Bochs(plain()).build("i").unwrap().swap_remove(0);
    let mut image = AnyImage::open(Arc::new(file.bytes), Format::Bochs).unwrap();
    let mut disk = image.disk(Access::to(&())).unwrap();
    let mut data = vec![0; disk.size() as usize];
    disk.read(0, &mut data).unwrap();
    let zeros = vec![0; data.len()];
    assert!(data == laid_over(zeros, &blocks(), 16384));
    // A sector whose bit is not set reads as zeros.
    image.set("bitmap[0].entry[0]", 0xfe).unwrap();
    let mut sectors = [1; 1024];
    image
        .disk(Access::to(&()))
        .unwrap()
        .read(0, &mut sectors)
        .unwrap();
    assert_eq!(sectors[..512], [0; 512]);
    assert_eq!(sectors[512..], data[512..1024]);
    // A redolog is no disk of its own.
    image.set("header.subtype", "Undoable").unwrap();
    assert_eq!(image.defects().unwrap(), []);
    let error = image.disk(Access::to(&())).err();
    assert!(matches!(error, Some(DiskError::Unsupported(_))));
}

#[test]
fn images_of_bximage_are_known() {
    let Some(folder) = scratch().filter(|_| installed("bximage")) else {
        return;
    };
    let folder = folder.path();
    let bximage = |words: &[&str]| {
        let mut command = Command::new("bximage");
        let ran = command.current_dir(folder).arg("-q").args(words).output();
        assert!(ran.as_ref().unwrap().status.success(), "{ran:?}");
    };
    for (size, bytes) in [("10M", 20 * 16 * 63 * 512), ("1500M", 3047 * 16 * 63 * 512)] {
        let hd = format!("-hd={size}");
        bximage(&["-func=create", &hd, "-imgmode=growing", size]);
        let image = AnyImage::open(
            Arc::new(fs::read(folder.join(size)).unwrap()),
            Format::Bochs,
        );
        let image = image.unwrap();
        assert_eq!(image.defects().unwrap(), []);
        assert_eq!(image.field("header.disk").unwrap().value, bytes.into());
        assert_eq!(image.field("catalog[0]").unwrap().value, 0xffff_ffff.into());
    }
    // A disk that has a geometry.
    let data = some_data(2 * 16 * 63 * 512);
    fs::write(folder.join("in.raw"), &data).unwrap();
    bximage(&["-func=convert", "-imgmode=growing", "in.raw", "converted"]);
    let image = assert_foreign(folder, "converted", Format::Bochs, &data);
    assert_eq!(image.field("header.version").unwrap().value, 0x20000.into());
    assert!(disk_of_qemu(folder, "converted", Format::Bochs) == data);
    // And back, what was built here.
    let spec = AnySpec::Bochs(Spec {
        virtual_size: data.len() as u64,
        ..plain()
    });
    crate::write(folder, &spec.build("ours").unwrap());
    bximage(&["-func=convert", "-imgmode=flat", "ours", "flat.raw"]);
    let zeros = vec![0; data.len()];
    assert!(fs::read(folder.join("flat.raw")).unwrap() == laid_over(zeros, &blocks(), 16384));
}

#[test]
fn hostile_images_do_no_harm() {
    for spec in &specs()[2..5] {
        assert_robust(spec);
        assert_robust_when_damaged(spec);
    }
}

fn any_spec() -> impl Strategy<Value = Spec> {
    let header = (1..=2_u8, 512..700_u32, 0..9_u32, 0..3_u32);
    (9..=15_u8, any_blocks(true, 50), any_order(), header).prop_map(
        |(bits, blocks, order, (version, header_size, spare_entries, bitmaps))| Spec {
            virtual_size: (50 << bits) - if bits > 9 { 512 } else { 0 },
            version,
            extent_size: 1 << bits,
            bitmap_size: bitmaps * 400,
            header_size,
            spare_entries,
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
        let unit = spec.extent_size;
        assert_reads_as_described(&AnySpec::Bochs(spec.clone()), &spec.blocks, unit as usize);
    }
}
