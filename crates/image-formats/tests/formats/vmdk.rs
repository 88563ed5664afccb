//! VMDK.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use image_formats::vmdk::{Access as Writers, Parent, Spec, Subformat, build};
use image_formats::{
    Access, AnyImage, AnySpec, Block, BuiltFile, Content, Defect, Files, Format, Pattern,
    Placement, ReadAt, Value,
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

/// What a disk holds that other programs make images of: data, zeros, and data that do not
/// compress.
fn raw() -> Vec<u8> {
    let mut data = vec![0; 3 << 20];
    data[..70_000].copy_from_slice(&Pattern::Count(5).bytes(70_000));
    data[1 << 20..][..200_000].copy_from_slice(&Pattern::Noise(5).bytes(200_000));
    data[(3 << 20) - 600..].fill(9);
    data
}

/// Whether a defect is what QEMU leaves when it writes a content ID with fewer digits than the
/// one before: the text gets shorter, and its last bytes stay behind the zero that ends it. IDs
/// are random, and are written without leading zeros.
fn left_by_a_longer_id(image: &AnyImage, defect: &Defect) -> bool {
    let id = || match image.field("descriptor.CID").unwrap().value {
        Value::Bytes(id) => id.trim_ascii().len(),
        number @ Value::Uint(_) => panic!("a content ID is text, not {number}"),
    };
    defect.name == "text-end" && id() < 8
}

/// An image that another program made: all of its files are valid, and it is read as
/// `wanted`, or as QEMU reads it.
fn assert_valid_elsewhere(folder: &Path, name: &str, wanted: Option<&[u8]>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        if Format::probe(&bytes).unwrap() == Some(Format::Vmdk) {
            let image = AnyImage::open(Arc::new(bytes), Format::Vmdk).unwrap();
            let mut defects = image.defects().unwrap();
            defects.retain(|defect| !left_by_a_longer_id(&image, defect));
            assert_eq!(defects, [], "{}", path.display());
        }
    }
    let ours = disk(folder, name, Format::Vmdk);
    let theirs = wanted.map(<[u8]>::to_vec);
    let theirs = theirs.unwrap_or_else(|| disk_of_qemu(folder, name, Format::Vmdk));
    assert!(ours == theirs, "{name}: other data");
}

/// Runs a program in a folder.
fn run(folder: &Path, program: &str, words: &[&str]) {
    let mut command = Command::new(crate::common::program(program));
    let ran = command.args(words).current_dir(folder).output().unwrap();
    assert!(ran.status.success(), "{program} {words:?}: {ran:?}");
}

#[test]
fn images_of_qemu_img_are_valid() {
    for options in [
        "subformat=monolithicSparse",
        "subformat=monolithicSparse,zeroed_grain=on,hwversion=7",
        "subformat=monolithicFlat,adapter_type=lsilogic",
        "subformat=twoGbMaxExtentSparse,compat6=on,toolsversion=9",
        "subformat=twoGbMaxExtentFlat,adapter_type=legacyESX",
        "subformat=streamOptimized,adapter_type=buslogic",
        "subformat=streamOptimized,zeroed_grain=on",
    ] {
        let Some(folder) = scratch() else { return };
        let folder = folder.path();
        let data = raw();
        fs::write(folder.join("raw"), &data).unwrap();
        let words = ["convert", "-f", "raw", "-O", "vmdk", "-o", options, "raw"];
        run(folder, "qemu-img", &[&words[..], &["i.vmdk"]].concat());
        assert_valid_elsewhere(folder, "i.vmdk", Some(&data));
    }
}

#[test]
fn a_content_id_that_gets_shorter_leaves_the_end_of_the_text() {
    let Some(folder) = scratch() else { return };
    let folder = folder.path();
    run(
        folder,
        "qemu-img",
        &["create", "-q", "-f", "vmdk", "i.vmdk", "2M"],
    );
    // As long as no ID that QEMU writes is. The sectors of the text end with zeros.
    let mut bytes = fs::read(folder.join("i.vmdk")).unwrap();
    let at = bytes.windows(4).position(|word| word == b"CID=").unwrap() + 4;
    let end = at + bytes[at..].iter().position(|&byte| byte == 0).unwrap();
    bytes.copy_within(at..end, at + 8);
    bytes[at..at + 8].fill(b'0');
    fs::write(folder.join("i.vmdk"), &bytes).unwrap();
    let writes = ["-f", "vmdk", "-c", "write -P 1 0 64k", "i.vmdk"];
    run(folder, "qemu-io", &writes);
    let bytes = fs::read(folder.join("i.vmdk")).unwrap();
    let image = AnyImage::open(Arc::new(bytes), Format::Vmdk).unwrap();
    let names: Vec<_> = image
        .defects()
        .unwrap()
        .iter()
        .map(|defect| defect.name)
        .collect();
    assert_eq!(names, ["text-end"]);
}

/// What QEMU writes into a child, zeros among it, is there, and the rest is that of its parent.
#[test]
fn a_child_of_qemu_is_valid() {
    let Some(folder) = scratch() else { return };
    let folder = folder.path();
    let words = ["create", "-q", "-f", "vmdk", "-o"];
    let child = ["zeroed_grain=on", "-b", "base.vmdk", "-F", "vmdk", "i.vmdk"];
    run(
        folder,
        "qemu-img",
        &[&words[..], &["zeroed_grain=on", "base.vmdk", "2M"]].concat(),
    );
    run(
        folder,
        "qemu-io",
        &["-f", "vmdk", "-c", "write -P 1 0 1M", "base.vmdk"],
    );
    run(folder, "qemu-img", &[&words[..], &child].concat());
    let writes = [
        "-c",
        "write -P 2 64k 64k",
        "-c",
        "write -z 128k 128k",
        "i.vmdk",
    ];
    run(folder, "qemu-io", &[&["-f", "vmdk"][..], &writes].concat());
    assert_valid_elsewhere(folder, "i.vmdk", None);
    let bytes = fs::read(folder.join("i.vmdk")).unwrap();
    let image = AnyImage::open(Arc::new(bytes), Format::Vmdk).unwrap();
    let value = |path: &str| image.field(path).unwrap().value;
    assert_eq!(value("descriptor.parentFileNameHint"), "base.vmdk".into());
    assert_eq!(value("grain_table[0].entry[2]"), 1.into());
    assert_eq!(value("grain_table[0].entry[4]"), 0.into());
    assert_eq!(image.references(), [b"base.vmdk"]);
}

/// What `open-vmdk` and `vmdktool` write, where they are installed.
#[test]
fn streams_of_other_programs_are_valid() {
    for (program, words) in [
        ("vmdk-convert", &["raw", "i.vmdk"][..]),
        ("vmdktool", &["-v", "i.vmdk", "raw"]),
    ] {
        let Some(folder) = scratch() else { return };
        let folder = folder.path();
        let data = raw();
        fs::write(folder.join("raw"), &data).unwrap();
        let ran = Command::new(program)
            .args(words)
            .current_dir(folder)
            .output();
        match ran {
            Ok(ran) => assert!(ran.status.success(), "{program}: {ran:?}"),
            Err(_) => {
                eprintln!("not run: {program} is not in PATH");
                continue;
            }
        }
        assert_valid_elsewhere(folder, "i.vmdk", Some(&data));
    }
}

/// An image that `vmdk-convert` of open-vmdk 0.3 made of 64 KiB that begin with a few words.
#[test]
fn a_stream_of_open_vmdk_is_read() {
    let mut bytes = vec![0; 14336];
    for (at, hex) in [
        (
            0,
            "4b444d56030000000100030080000000000000008000000000000000010000000000000014",
        ),
        (45, "02"),
        (56, "15000000000000001a"),
        (73, "0a200d0a01"),
        (10752, "16"),
        (11264, "1a"),
        (
            13320,
            "6500000078daedc141090020100030a318c0580a8a07f7b8fe6010b7ed1591a3cf53b701",
        ),
        (13418, "f0af07289e040c"),
    ] {
        let piece = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
        bytes[at..at + piece.len()].copy_from_slice(&piece);
    }
    let text = b"# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=77d3de2d\n\
        parentCID=ffffffff\ncreateType=\"streamOptimized\"\n\n# Extent description\n\
        RW 128 SPARSE \"disk\"\n\n# The Disk Data Base\n#DDB\n\nddb.adapterType = \"lsilogic\"";
    bytes[512..512 + text.len()].copy_from_slice(text);
    let image = AnyImage::open(Arc::new(bytes), Format::Vmdk).unwrap();
    assert_eq!(image.defects().unwrap(), []);
    let value = |path: &str| image.field(path).unwrap().value;
    assert_eq!(value("grain[0].marker.size"), 101.into());
    assert_eq!(value("descriptor.extent[0].file_name"), "disk".into());
    let mut data = vec![1; 65536];
    let mut disk = image.disk(Access::to(&())).unwrap();
    disk.read(0, &mut data).unwrap();
    assert!(data.starts_with(b"hello, disk\0"));
    assert!(data[11..].iter().all(|byte| *byte == 0));
}

/// A descriptor by hand: it is recognised, and its fields are those of its lines. It was unknown
/// once.
#[test]
fn a_descriptor_has_fields() {
    let text = "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n\
        createType=\"monolithicFlat\"\nRW 2048 FLAT \"flat-data.bin\" 0\n";
    let bytes = text.as_bytes().to_vec();
    assert_eq!(Format::probe(&bytes), Ok(Some(Format::Vmdk)));
    let mut image = AnyImage::open(Arc::new(bytes), Format::Vmdk).unwrap();
    assert_eq!(image.defects().unwrap(), []);
    image.set("descriptor.extent[0].size", "7").unwrap();
    image.set("descriptor.extent[0].file_name", "a").unwrap();
    let changed = image.bytes().to_vec(1000).unwrap();
    let line = "RW 7    FLAT \"a\"             0\n";
    assert!(
        changed.ends_with(line.as_bytes()),
        "{}",
        changed.escape_ascii()
    );
    assert_eq!(image.defects().unwrap(), []);
    assert_eq!(image.references(), [b"a"]);
    let long = image
        .set("descriptor.extent[0].size", "123456")
        .unwrap_err();
    assert!(long.to_string().contains("6 bytes"), "{long}");
}

/// A grain whose marker counts twice a grain, full of empty blocks of deflate, is valid as far
/// as its stream goes.
#[test]
fn a_marker_counts_as_much_as_readers_have_room_for() {
    let most = 2 * 8192;
    let mut spec = Spec {
        subformat: Subformat::StreamOptimized,
        blocks: vec![block(0, Content::Compressed(Pattern::Fill(7)))],
        ..Spec::default()
    };
    let image = |spec: &Spec| {
        let file = build(spec, "i").unwrap().swap_remove(0);
        AnyImage::open(Arc::new(file.bytes), Format::Vmdk).unwrap()
    };
    let plain = image(&spec).field("grain[0].marker.size").unwrap().value;
    spec.empty_blocks = (most - plain.as_uint().unwrap() as u32) / 5;
    assert_eq!(spec.max_empty_blocks(), spec.empty_blocks);
    let mut image = image(&spec);
    assert_eq!(image.defects().unwrap(), []);
    let mut data = [0; 8192];
    image
        .disk(Access::to(&()))
        .unwrap()
        .read(0, &mut data)
        .unwrap();
    assert_eq!(data, [7; 8192]);
    // What follows the stream does not matter, but for the end of the file.
    image.set("grain[0].marker.size", u64::from(most)).unwrap();
    let len = image.bytes().len();
    image.bytes_mut().resize(len + 512);
    assert_eq!(image.defects().unwrap(), []);
    image
        .set("grain[0].marker.size", u64::from(most) + 1)
        .unwrap();
    assert_eq!(image.defects().unwrap()[0].path, "grain[0].marker.size");
    spec.empty_blocks += 1;
    assert!(build(&spec, "i").is_err());
}

/// A child of another parent, or of one that was written to since, is not read. QEMU does the
/// same.
#[test]
fn a_changed_parent_is_noticed() {
    let Some(folder) = scratch() else { return };
    let folder = folder.path();
    let base = base();
    let open = |base: &Spec| {
        let mut files = build(&child(Spec::default()), "i.vmdk").unwrap();
        files.extend(build(base, "base.vmdk").unwrap());
        crate::write(folder, &files);
        let image = AnyImage::open(Arc::new(files[0].bytes.clone()), Format::Vmdk).unwrap();
        let ours = image.disk(Access::to(&Built(files))).is_ok();
        let words = ["convert", "-f", "vmdk", "-O", "raw"];
        let theirs = qemu_img(&words, &[&folder.join("i.vmdk"), &folder.join("raw")]);
        [ours, theirs.status.success()]
    };
    assert_eq!(open(&base), [true, true]);
    assert_eq!(open(&Spec { cid: 0xabd, ..base }), [false, false]);
}

/// An extent that refers to itself, and a parent that does.
#[test]
fn images_that_refer_to_themselves_end() {
    struct Same(Vec<u8>);
    impl Files for Same {
        fn file(&self, _: &[u8]) -> Option<Arc<dyn ReadAt>> {
            Some(Arc::new(self.0.clone()))
        }
    }
    let spec = Spec {
        cid: 0xabc,
        ..child(Spec::default())
    };
    let own = build(&spec, "i.vmdk").unwrap().swap_remove(0);
    let same = Same(own.bytes.to_vec(1 << 20).unwrap());
    let open = |bytes: &Same| {
        let image = AnyImage::open(Arc::new(bytes.0.clone()), Format::Vmdk).unwrap();
        image
            .disk(Access::to(bytes))
            .err()
            .map(|error| error.to_string())
    };
    assert_eq!(open(&same), Some("more than 16 parents".to_owned()));
    // Without a capacity the descriptor in it has the extents, and its one extent is itself.
    let mut same = Same(
        build(&Spec::default(), "i").unwrap()[0]
            .bytes
            .to_vec(1 << 20)
            .unwrap(),
    );
    same.0[12..20].fill(0);
    assert_eq!(open(&same), None);
    let text = Same(b"version=1\nRW 8 SPARSE \"same\"\n".to_vec());
    let damaged = open(&text).unwrap();
    assert!(damaged.contains("header of a sparse extent"), "{damaged}");
}

/// The files of an image in memory.
struct Built(Vec<BuiltFile>);

impl Files for Built {
    fn file(&self, name: &[u8]) -> Option<Arc<dyn ReadAt>> {
        let found = self.0.iter().find(|file| file.name.as_bytes() == name)?;
        Some(Arc::new(found.bytes.clone()))
    }
}

fn any_spec() -> impl Strategy<Value = Spec> {
    use Subformat::{
        MonolithicSparse, SeSparse, StreamOptimized, TwoGbMaxExtentSparse, VmfsSparse,
    };
    let formats = [
        MonolithicSparse,
        StreamOptimized,
        TwoGbMaxExtentSparse,
        VmfsSparse,
        SeSparse,
    ];
    let blocks = prop::collection::btree_set(0..2000_u64, 0..12);
    let flags = any::<[bool; 4]>();
    let order = prop::collection::vec(0..4_u32, 0..5);
    let drawn = (
        prop::sample::select(formats.to_vec()),
        1..20_000_u64,
        blocks,
        flags,
        order,
    );
    drawn.prop_map(
        |(subformat, sectors, blocks, [redundant, all_tables, footer, crlf], order)| {
            let stream = subformat == StreamOptimized;
            let grain: u32 = if subformat == SeSparse { 4096 } else { 8192 };
            let count = (sectors * 512).div_ceil(grain.into());
            let blocks: Vec<u64> = blocks.into_iter().filter(|index| *index < count).collect();
            Spec {
                virtual_size: sectors * 512,
                subformat,
                grain_size: grain,
                blocks: if stream {
                    compressed(&blocks)
                } else {
                    data(&blocks)
                },
                extent_size: 1 << 20,
                redundant: redundant && !(stream && footer),
                all_tables,
                footer: stream && footer,
                crlf,
                placement: Placement {
                    order,
                    gaps: Vec::new(),
                },
                ..Spec::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn drawn_images_are_read_as_they_were_described(spec in any_spec()) {
        let files = build(&spec, "i.vmdk").unwrap();
        for file in &files {
            let image = AnyImage::open(Arc::new(file.bytes.clone()), Format::Vmdk).unwrap();
            prop_assert_eq!(image.defects().unwrap(), []);
        }
        let files = Built(files);
        let image = files.file(b"i.vmdk").unwrap();
        let image = AnyImage::open(image, Format::Vmdk).unwrap();
        let mut disk = image.disk(Access::to(&files)).unwrap();
        prop_assert_eq!(disk.size(), spec.virtual_size);
        let grain = spec.grain_size as usize;
        let mut wanted = vec![0; spec.virtual_size.next_multiple_of(grain as u64) as usize];
        for block in &spec.blocks {
            if let Content::Data(pattern) | Content::Compressed(pattern) = &block.content {
                let at = block.index as usize * grain;
                wanted[at..at + grain].copy_from_slice(&pattern.bytes(grain));
            }
        }
        wanted.truncate(spec.virtual_size as usize);
        let mut data = vec![1; wanted.len()];
        disk.read(0, &mut data).unwrap();
        prop_assert!(data == wanted);
    }
}
