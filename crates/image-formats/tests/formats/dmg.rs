//! DMG, held against QEMU, 7-Zip and dmg2img.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use image_formats::dmg::{Compression, Directory, Spec};
use image_formats::{
    Access, AnyImage, AnySpec, Block, Content, Derivation, Format, Pattern, Placement, ReadAt as _,
};

use crate::{Qemu, assert_all_features, assert_robust, assert_valid, write};

/// Some of every content; chunk 16 is the last one, and cut short.
fn blocks() -> Vec<Block> {
    let content = |index: u64| match index % 4 {
        0 => Content::Compressed(Pattern::Count(index)),
        1 => Content::Data(Pattern::Noise(index)),
        2 => Content::Compressed(Pattern::Fill(index as u8)),
        _ => Content::Zero,
    };
    let indexes = [0, 1, 2, 3, 4, 5, 7, 11, 12, 13, 14, 16];
    let block = |index| Block {
        index,
        content: content(index),
    };
    indexes.into_iter().map(block).collect()
}

fn of(compression: Compression) -> Spec {
    Spec {
        virtual_size: 16 * 4096 + 1024,
        blocks: blocks(),
        compression,
        ..Spec::default()
    }
}

fn specs() -> Vec<(Spec, Qemu)> {
    let plain = of(Compression::Zlib);
    let others = [
        Spec::default(),
        plain.clone(),
        Spec {
            directory: Directory::ResourceFork,
            tables: vec![3, 2],
            ..plain.clone()
        },
        Spec {
            directory: Directory::Both,
            checksums: false,
            ..plain.clone()
        },
        Spec {
            tables: vec![1, 6, 4],
            comments: true,
            table_offsets: true,
            data_fork_offset: 1024,
            line_characters: 0,
            placement: Placement {
                order: vec![5, 1, 3],
                gaps: vec![1, 0, 2],
            },
            ..plain.clone()
        },
        Spec {
            chunk_sectors: 1,
            line_characters: 68,
            ..plain
        },
    ];
    let reads = others.into_iter().map(|spec| (spec, Qemu::Reads));
    // QEMU does not know ADC, and reads these two only with modules that need not be there.
    let unread = [Compression::Adc, Compression::Bzip2, Compression::Lzfse];
    let unread = unread.map(|compression| (of(compression), Qemu::FailsToRead));
    reads.chain(unread).collect()
}

/// Small images of each kind, to be damaged.
pub(crate) fn smallest() -> Vec<AnySpec> {
    let all = specs().into_iter().map(|(spec, _)| spec);
    all.map(AnySpec::Dmg).collect()
}

#[test]
fn images_are_valid() {
    let all: Vec<AnySpec> = specs().into_iter().map(|s| AnySpec::Dmg(s.0)).collect();
    assert_all_features(&all);
    for (spec, qemu) in specs() {
        assert_valid(&AnySpec::Dmg(spec), &[], qemu);
    }
}

/// The whole disk, as the description has it.
fn described(spec: &Spec) -> Vec<u8> {
    let unit = spec.chunk_sectors as usize * 512;
    let mut data = vec![0; spec.virtual_size as usize];
    for block in &spec.blocks {
        let at = block.index as usize * unit;
        let part = &mut data[at..];
        let len = unit.min(part.len());
        if let Content::Data(pattern) | Content::Compressed(pattern) = &block.content {
            part[..len].copy_from_slice(&pattern.bytes(unit)[..len]);
        }
    }
    data
}

#[test]
fn an_image_reads_as_it_was_described() {
    for (spec, _) in specs() {
        let bytes = AnySpec::Dmg(spec.clone())
            .build("i")
            .unwrap()
            .swap_remove(0);
        let image = AnyImage::open(Arc::new(bytes.bytes), Format::Dmg).unwrap();
        let mut disk = image.disk(Access::to(&())).unwrap();
        let mut data = vec![1; spec.virtual_size as usize];
        disk.read(0, &mut data).unwrap();
        assert!(data == described(&spec), "{spec:?}");
    }
}

#[test]
fn hostile_images_do_no_harm() {
    for (spec, _) in &specs()[2..5] {
        assert_robust(&AnySpec::Dmg(spec.clone()));
    }
}

/// Holds an image against a reader, which writes the disk to standard output or to `out.raw`.
fn assert_read_by(program: &str, words: &[&str], specs: &[Spec]) {
    for spec in specs {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, &AnySpec::Dmg(spec.clone()).build("i.dmg").unwrap());
        let ran = Command::new(program)
            .args(words)
            .current_dir(folder)
            .output();
        let ran = match ran {
            Ok(ran) => ran,
            Err(why) => {
                eprintln!("not run: {program}: {why}");
                return;
            }
        };
        let data = fs::read(folder.join("out.raw")).unwrap_or(ran.stdout.clone());
        let said = String::from_utf8_lossy(
            &[&ran.stderr[..], &ran.stdout[..ran.stdout.len().min(500)]].concat(),
        )
        .into_owned();
        assert!(ran.status.success(), "{spec:?}: {said}");
        assert_eq!(data.len(), spec.virtual_size as usize, "{spec:?}");
        assert!(data == described(spec), "{program}: {spec:?}");
    }
}

#[test]
fn seven_zip_reads_the_same() {
    let specs: Vec<Spec> = specs().into_iter().map(|(spec, _)| spec).collect();
    assert_read_by("7zz", &["x", "-tdmg", "-so", "i.dmg"], &specs);
}

#[test]
fn dmg2img_reads_the_same() {
    // It refuses an image without data, does not know LZFSE, and takes no notice of where the
    // data of a table starts.
    let read = |spec: &Spec| {
        !spec.blocks.is_empty() && !spec.table_offsets && spec.compression != Compression::Lzfse
    };
    let all = specs().into_iter().map(|(spec, _)| spec);
    let specs: Vec<Spec> = all.filter(read).collect();
    assert_read_by("dmg2img", &["-i", "i.dmg", "-o", "out.raw"], &specs);
}

/// An image that the program `dmg` of libdmg-hfsplus wrote, of 1200 sectors. It leaves their
/// count 0, for which QEMU takes the disk to be empty.
#[test]
fn images_of_another_writer_are_read() {
    let bytes = include_bytes!("libdmg-hfsplus.dmg");
    assert_eq!(Format::probe(&bytes[..].to_vec()), Ok(Some(Format::Dmg)));
    let image = AnyImage::open(Arc::new(bytes.to_vec()), Format::Dmg).unwrap();
    assert_eq!(names(&image), "sector-count");
    assert_eq!(image.binding_defects().unwrap(), []);
    let name = image.field("blkx[0].name").unwrap().value;
    assert_eq!(name, "whole disk (unknown partition : 0)".into());
    let mut expected = vec![0; 1200 * 512];
    let (from, to) = (70_000, 130_000);
    for (at, byte) in expected.iter_mut().enumerate().take(to).skip(from) {
        *byte = (at * 7) as u8;
    }
    let mut disk = image.disk(Access::to(&())).unwrap();
    assert_eq!(disk.size(), expected.len() as u64);
    let mut data = vec![1; expected.len()];
    disk.read(0, &mut data).unwrap();
    assert!(data == expected);
}

fn image(spec: &Spec) -> AnyImage {
    let bytes = AnySpec::Dmg(spec.clone())
        .build("i")
        .unwrap()
        .swap_remove(0);
    AnyImage::open(Arc::new(bytes.bytes), Format::Dmg).unwrap()
}

fn names(image: &AnyImage) -> String {
    let defects = image.defects().unwrap();
    let names = defects.iter().map(|defect| defect.name);
    names.collect::<Vec<_>>().join(" ")
}

/// Fields in base64 change in place, and checksums follow.
#[test]
fn chunks_in_base64_are_set_in_place() {
    let spec = of(Compression::Zlib);
    let mut changed = image(&spec);
    let before = changed.bytes().len();
    let path = "blkx[0].chunk[1].offset";
    let other = changed.field("blkx[0].chunk[5].offset").unwrap().value;
    let other = other.as_uint().unwrap();
    changed.set(path, other).unwrap();
    assert_eq!(changed.field(path).unwrap().value.as_uint(), Some(other));
    assert_eq!(changed.bytes().len(), before);
    assert_eq!(names(&changed), "table-checksum");
    changed.recompute(&[Derivation::Checksum]);
    assert_eq!(names(&changed), "");
    let mut disk = changed.disk(Access::to(&())).unwrap();
    let (mut one, mut five) = ([0; 4096], [0; 4096]);
    disk.read(4096, &mut one).unwrap();
    disk.read(5 * 4096, &mut five).unwrap();
    assert_eq!(one, five);
}

/// A property list at 2^63-1 was no defect.
#[test]
fn a_property_list_outside_the_file_is_a_defect() {
    let mut changed = image(&Spec::default());
    changed.set("trailer.xml_offset", i64::MAX as u64).unwrap();
    assert!(names(&changed).starts_with("plist-inside"));
    assert!(changed.disk(Access::to(&())).is_err());
}

#[test]
fn impossible_descriptions_are_refused() {
    let plain = Spec::default();
    for (spec, text) in [
        (
            Spec {
                virtual_size: 100,
                ..plain.clone()
            },
            "disk size 100",
        ),
        (
            Spec {
                chunk_sectors: 0,
                ..plain.clone()
            },
            "chunks of 0",
        ),
        (
            Spec {
                data_fork_offset: 3,
                ..plain.clone()
            },
            "offset 3",
        ),
        (
            Spec {
                line_characters: 3,
                ..plain.clone()
            },
            "lines of 3",
        ),
        (
            Spec {
                tables: vec![16],
                ..plain.clone()
            },
            "block tables",
        ),
        (
            Spec {
                tables: vec![u64::MAX, 2],
                ..plain
            },
            "block tables",
        ),
    ] {
        let error = AnySpec::Dmg(spec).build("i").err().unwrap().to_string();
        assert!(error.contains(text), "{error}");
    }
}
