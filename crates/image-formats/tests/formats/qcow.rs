//! qcow, version 1.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use image_formats::qcow::Spec;
use image_formats::{
    Access, AnyImage, AnySpec, Block, Content, DiskError, Format, Pattern, Placement,
};
use proptest::prelude::*;

use crate::common::{qemu_img, scratch};
use crate::{
    Folder, Qemu, assert_all_features, assert_foreign, assert_reads_as_described, assert_robust,
    assert_robust_when_damaged, assert_valid, convert, disk, disk_of_qemu, laid_over, some_data,
    write,
};

fn blocks() -> Vec<Block> {
    let content = |index: u64| match index % 4 {
        0 => Content::Data(Pattern::Noise(index)),
        1 => Content::Compressed(Pattern::Count(index)),
        2 => Content::Compressed(Pattern::Fill(index as u8)),
        // Does not become smaller.
        _ => Content::Compressed(Pattern::Noise(index)),
    };
    let block = |index| Block {
        index,
        content: content(index),
    };
    [0, 1, 2, 3, 7, 8, 511, 512, 600].map(block).to_vec()
}

fn plain() -> Spec {
    Spec {
        virtual_size: (3 << 20) - 512,
        blocks: blocks(),
        ..Spec::default()
    }
}

fn specs() -> Vec<Spec> {
    vec![
        Spec::default(),
        plain(),
        Spec {
            backing: Some("base.raw".into()),
            mtime: 1_000_000_000,
            ..plain()
        },
        Spec {
            cluster_bits: 9,
            l2_bits: 12,
            virtual_size: 601 * 512,
            placement: Placement {
                order: vec![3, 1, 2],
                gaps: vec![1, 0],
            },
            ..plain()
        },
        Spec {
            cluster_bits: 16,
            l2_bits: 6,
            virtual_size: 40 << 20,
            l1_apart: true,
            ..plain()
        },
    ]
}

fn encrypted() -> Spec {
    let stored = |block: &Block| matches!(block.content, Content::Data(_));
    Spec {
        passphrase: Some("open sesame".into()),
        backing: Some("base.raw".into()),
        blocks: blocks().into_iter().filter(stored).collect(),
        ..plain()
    }
}

#[test]
fn images_are_valid() {
    let base = vec![0xab; 2 << 20];
    let mut all = vec![AnySpec::Qcow(encrypted())];
    for spec in specs() {
        let spec = AnySpec::Qcow(spec);
        assert_valid(&spec, &[("base.raw", base.clone())], Qemu::Reads);
        all.push(spec);
    }
    assert_all_features(&all);
}

/// The disk in an encrypted image, as this crate reads it.
fn unlocked(folder: &Path, name: &str, passphrase: &str) -> Vec<u8> {
    let bytes = fs::read(folder.join(name)).unwrap();
    let image = AnyImage::open(Arc::new(bytes), Format::Qcow).unwrap();
    assert_eq!(image.defects().unwrap(), []);
    let files = Folder(folder);
    let locked = image.disk(Access::to(&files)).err();
    assert_eq!(locked, Some(DiskError::Locked));
    let access = Access::to(&files).unlocked_by(passphrase.as_bytes());
    let mut disk = image.disk(access).unwrap();
    let mut data = vec![0; disk.size() as usize];
    disk.read(0, &mut data).unwrap();
    // From any byte on, not only from where a sector starts.
    let mut part = vec![0; 5000];
    disk.read(2_001, &mut part).unwrap();
    assert!(part == data[2_001..7_001]);
    data
}

#[test]
fn encrypted_images_open_with_their_passphrase() {
    let Some(folder) = scratch() else { return };
    let folder = folder.path();
    let (path, raw) = (folder.join("i.qcow"), folder.join("raw"));
    fs::write(folder.join("base.raw"), vec![0xab; 2 << 20]).unwrap();
    let spec = encrypted();
    write(
        folder,
        &AnySpec::Qcow(spec.clone()).build("i.qcow").unwrap(),
    );
    let mut below = vec![0xab; 2 << 20];
    below.resize(spec.virtual_size as usize, 0);
    let wanted = laid_over(below, &spec.blocks, 4096);
    assert!(unlocked(folder, "i.qcow", "open sesame") == wanted);
    assert!(unlocked(folder, "i.qcow", "close sesame") != wanted);
    let secret = ["--object", "secret,id=key,data=open sesame"];
    let options = format!(
        "driver=qcow,encrypt.key-secret=key,file.filename={}",
        path.display()
    );
    let words = [
        &["convert"],
        &secret[..],
        &["--image-opts", "-O", "raw", &options],
    ]
    .concat();
    let ran = qemu_img(&words, &[&raw]);
    assert!(ran.status.success(), "{ran:?}");
    assert!(fs::read(&raw).unwrap() == wanted);
    // And one that QEMU wrote.
    let data = some_data(1 << 20);
    fs::write(&raw, &data).unwrap();
    let options = [
        "-O",
        "qcow",
        "-o",
        "encrypt.format=aes,encrypt.key-secret=key",
    ];
    let words = [&["convert"], &secret[..], &["-f", "raw"], &options].concat();
    let ran = qemu_img(&words, &[&raw, &folder.join("theirs")]);
    assert!(ran.status.success(), "{ran:?}");
    assert!(unlocked(folder, "theirs", "open sesame") == data);
}

#[test]
fn images_of_qemu_are_known() {
    let Some(folder) = scratch() else { return };
    let folder = folder.path();
    let data = some_data((5 << 20) + 512);
    let compressed = |image: &AnyImage| {
        let marked = |path: &str| path.ends_with(".compressed");
        let mut fields = image.used_fields();
        fields.any(|field| marked(&field.path) && field.value == 1.into())
    };
    for (i, options) in [&[][..], &["-S", "0"]].iter().enumerate() {
        let name = format!("{i}.qcow");
        convert(folder, &data, &name, Format::Qcow, options);
        let image = assert_foreign(folder, &name, Format::Qcow, &data);
        assert!(!compressed(&image));
    }
    // QEMU 10.0 exits with 1 here, without a message, after it has written all of it.
    let words = ["convert", "-c", "-f", "raw", "-O", "qcow"];
    qemu_img(&words, &[&folder.join("in.raw"), &folder.join("c.qcow")]);
    let image = assert_foreign(folder, "c.qcow", Format::Qcow, &data);
    assert!(compressed(&image));
    // One over another one, with other sizes of clusters and tables.
    let words = ["create", "-f", "qcow", "-b", "0.qcow", "-F", "qcow"];
    let ran = qemu_img(&words, &[&folder.join("over")]);
    assert!(ran.status.success(), "{ran:?}");
    let image = assert_foreign(
        folder,
        "over",
        Format::Qcow,
        &disk(folder, "0.qcow", Format::Qcow),
    );
    assert_eq!(image.references(), [b"0.qcow"]);
    assert_eq!(image.field("header.cluster_bits").unwrap().value, 9.into());
    assert!(disk_of_qemu(folder, "over", Format::Qcow) == data);
}

/// A limit that was not noticed: such clusters are larger than any disk.
#[test]
fn clusters_of_a_terabyte_are_a_defect() {
    let file = AnySpec::Qcow(plain()).build("i").unwrap().swap_remove(0);
    let mut image = AnyImage::open(Arc::new(file.bytes), Format::Qcow).unwrap();
    image.set("header.cluster_bits", 40).unwrap();
    let image = AnyImage::open(Arc::new(image.bytes().clone()), Format::Qcow).unwrap();
    let defects = image.defects().unwrap();
    assert_eq!(defects[0].path, "header.cluster_bits");
    assert!(matches!(
        image.disk(Access::to(&())).err(),
        Some(DiskError::Damaged(_))
    ));
}

#[test]
fn hostile_images_do_no_harm() {
    for spec in &specs()[1..3] {
        let spec = AnySpec::Qcow(spec.clone());
        assert_robust(&spec);
        assert_robust_when_damaged(&spec);
    }
}

fn any_spec() -> impl Strategy<Value = Spec> {
    let content = prop_oneof![
        any::<u64>().prop_map(|seed| Content::Data(Pattern::Noise(seed))),
        any::<u8>().prop_map(|byte| Content::Compressed(Pattern::Fill(byte))),
        any::<u64>().prop_map(|first| Content::Compressed(Pattern::Count(first))),
    ];
    let blocks = prop::collection::btree_map(0..300_u64, content, 0..8);
    let placement = (
        prop::collection::vec(0..9_u32, 0..4),
        prop::collection::vec(0..3_u8, 0..3),
    );
    let placement = placement.prop_map(|(order, gaps)| Placement { order, gaps });
    (
        9..=16_u8,
        6..=13_u8,
        0..4_u64,
        blocks,
        any::<bool>(),
        placement,
    )
        .prop_map(
            |(cluster_bits, l2_bits, sectors, blocks, l1_apart, placement)| {
                let blocks = blocks.into_iter();
                Spec {
                    cluster_bits,
                    l2_bits,
                    virtual_size: (300 << cluster_bits)
                        - sectors.min((1 << cluster_bits) / 512 - 1) * 512,
                    blocks: blocks
                        .map(|(index, content)| Block { index, content })
                        .collect(),
                    l1_apart,
                    placement,
                    ..Spec::default()
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// What is built is without defects, and reads as it was described.
    #[test]
    fn any_image_reads_as_described(spec in any_spec()) {
        let unit = 1 << spec.cluster_bits;
        assert_reads_as_described(&AnySpec::Qcow(spec.clone()), &spec.blocks, unit);
    }
}
