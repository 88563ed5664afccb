//! cloop.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use image_formats::cloop::Spec;
use image_formats::{Access, AnyImage, AnySpec, Block, Content, DiskError, Format, Pattern};

use crate::common::scratch;
use crate::{
    Qemu, assert_all_features, assert_foreign, assert_robust, assert_robust_when_damaged,
    assert_valid, disk, installed, laid_over, some_data, write,
};

fn blocks() -> Vec<Block> {
    let block = |index| Block {
        index,
        content: match index % 3 {
            0 => Content::Data(Pattern::Noise(index)),
            1 => Content::Compressed(Pattern::Noise(index)),
            _ => Content::Compressed(Pattern::Count(index)),
        },
    };
    [0, 1, 2, 9].map(block).to_vec()
}

fn plain() -> Spec {
    Spec {
        virtual_size: 10 << 16,
        blocks: blocks(),
        ..Spec::default()
    }
}

fn specs() -> Vec<AnySpec> {
    let all = [
        Spec::default(),
        plain(),
        Spec {
            block_size: 512,
            virtual_size: 5120,
            gap_bytes: 3,
            tail_bytes: 700,
            ..plain()
        },
        Spec {
            block_size: 1536,
            virtual_size: 15 * 1536,
            ..plain()
        },
        Spec {
            virtual_size: 0,
            ..Spec::default()
        },
    ];
    all.into_iter().map(AnySpec::Cloop).collect()
}

#[test]
fn images_are_valid() {
    let specs = specs();
    assert_all_features(&specs);
    for spec in &specs {
        assert_valid(spec, &[], Qemu::Reads);
    }
}

#[test]
fn a_damaged_block_is_an_error() {
    let file = AnySpec::Cloop(plain()).build("i").unwrap().swap_remove(0);
    let mut image = AnyImage::open(Arc::new(file.bytes), Format::Cloop).unwrap();
    let at = image.field("offset[2]").unwrap().value.as_uint().unwrap();
    image.bytes_mut().write(at + 2, &[0xff; 4]);
    let defects = image.defects().unwrap();
    assert_eq!(defects.len(), 1, "{defects:?}");
    assert_eq!(
        (defects[0].path.as_str(), defects[0].name),
        ("offset[2]", "block-data")
    );
    let mut disk = image.disk(Access::to(&())).unwrap();
    let mut data = vec![0; 1 << 16];
    disk.read(1 << 16, &mut data).unwrap();
    assert!(data == Pattern::Noise(1).bytes(1 << 16));
    let error = disk.read(2 << 16, &mut data);
    assert!(matches!(error, Err(DiskError::Damaged(_))), "{error:?}");
    // The next one can be read all the same.
    disk.read(3 << 16, &mut data).unwrap();
    assert!(data.iter().all(|byte| *byte == 0));
}

#[test]
fn images_of_others_are_known() {
    let Some(folder) = scratch() else { return };
    let folder = folder.path();
    // What is described, to a program that is not QEMU.
    if installed("extract_compressed_fs") {
        let spec = AnySpec::Cloop(plain());
        write(folder, &spec.build("i.cloop").unwrap());
        let mut command = Command::new("extract_compressed_fs");
        let ran = command
            .current_dir(folder)
            .args(["i.cloop", "out.raw"])
            .output();
        assert!(ran.as_ref().unwrap().status.success(), "{ran:?}");
        let wanted = laid_over(vec![0; 10 << 16], &blocks(), 1 << 16);
        assert!(disk(folder, "i.cloop", Format::Cloop) == wanted);
        assert!(fs::read(folder.join("out.raw")).unwrap() == wanted);
    }
    if !installed("create_compressed_fs") {
        return;
    }
    let mut data = some_data(300_001);
    fs::write(folder.join("in.raw"), &data).unwrap();
    // The last block is padded.
    for (level, block_size) in [("9", 65536), ("0", 32768), ("-1", 65536), ("-2", 512)] {
        let size = block_size.to_string();
        let words = [
            "-q",
            "-t",
            "1",
            "-L",
            level,
            "-B",
            &size,
            "in.raw",
            "their.cloop",
        ];
        let mut command = Command::new("create_compressed_fs");
        let ran = command.current_dir(folder).args(words).output();
        assert!(ran.as_ref().unwrap().status.success(), "{ran:?}");
        data.resize(300_001_usize.next_multiple_of(block_size), 0);
        let image = assert_foreign(folder, "their.cloop", Format::Cloop, &data);
        let field = image.field("header.block_size").unwrap();
        assert_eq!(field.value, (block_size as u64).into());
        data.truncate(300_001);
    }
}

#[test]
fn hostile_images_do_no_harm() {
    for spec in &specs()[1..4] {
        assert_robust(spec);
        assert_robust_when_damaged(spec);
    }
}
