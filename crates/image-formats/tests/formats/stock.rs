//! Images that `qemu-img` made, with every creation option: their fields, data
//! and mapping; read by this crate, by QEMU and by imago.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use image_formats::qcow2::{
    Cluster, Content, Disk, GuestOffset, Image, Pattern, Source, Spec, build,
};
use image_formats::{AnyImage, Format, ReadAt, Surroundings};
use serde_json::Value;

use crate::common::{program, qemu_img, scratch};

const SIZE: u64 = 3 << 20;

/// Creation options, and whether imago reads such images.
const OPTIONS: &[(&str, bool)] = &[
    ("compat=v2", true),
    ("compat=v2,cluster_size=4k", true),
    ("compat=v3", true),
    ("compat=v2,refcount_bits=16", true),
    ("compat=v3,refcount_bits=16,lazy_refcounts=off", true),
    ("compression_type=zlib", true),
    ("extended_l2=off", true),
    ("cluster_size=512", true),
    ("cluster_size=2M", true),
    ("refcount_bits=1", true),
    ("refcount_bits=2", true),
    ("refcount_bits=4", true),
    ("refcount_bits=8,cluster_size=8k", true),
    ("refcount_bits=32", true),
    ("refcount_bits=64,cluster_size=1k", true),
    ("lazy_refcounts=on", true),
    ("compression_type=zstd", false),
    ("extended_l2=on,cluster_size=16k", false),
    ("extended_l2=on,compression_type=zstd", false),
    ("preallocation=metadata", true),
    ("preallocation=falloc,cluster_size=32k", true),
    ("preallocation=full", true),
    ("preallocation=off", true),
    ("preallocation=metadata,extended_l2=on", false),
    ("nocow=on", true),
    ("backing_file=base.raw,backing_fmt=raw", false),
    (
        "backing_file=base.raw,backing_fmt=raw,extended_l2=on",
        false,
    ),
    ("data_file=data.raw", false),
    ("data_file=data.raw,data_file_raw=on", false),
    (
        "data_file=data.raw,data_file_raw=on,preallocation=metadata",
        false,
    ),
    ("data_file=data.raw,extended_l2=on", false),
    (
        "encrypt.format=luks,encrypt.iter-time=10,encrypt.key-secret=s",
        false,
    ),
    ("encrypt.format=aes,encrypt.key-secret=s", false),
];

fn run(folder: &Path, name: &str, words: &[&str]) -> Vec<u8> {
    // A LUKS header is made by the clock, which on a loaded machine may not have moved
    // while an older version measured; it is then made once more.
    const UNLUCKY: &str = "Unable to get accurate CPU usage";
    for _ in 0..100 {
        let out = Command::new(program(name))
            .current_dir(folder)
            .args(words)
            .output()
            .unwrap();
        if out.status.success() {
            return out.stdout;
        }
        let unlucky = String::from_utf8_lossy(&out.stderr).contains(UNLUCKY);
        assert!(unlucky, "{name} {words:?}: {out:?}");
    }
    panic!("{name} {words:?}: {UNLUCKY}, a hundred times");
}

/// Makes an image and writes some of everything into it.
fn make(folder: &Path, options: &str) -> PathBuf {
    let size = SIZE.to_string();
    let secret = "secret,id=s,data=x";
    run(
        folder,
        "qemu-img",
        &[
            "create", "-q", "-f", "qcow2", "--object", secret, "-o", options, "i", &size,
        ],
    );
    if options.contains("encrypt") {
        return folder.join("i");
    }
    let mut script = vec![
        "write -P 0x11 0 64k",
        "write -P 0x12 100k 3k",
        "write -z 256k 128k",
        "write -P 0x13 1M 200k",
        "discard 1088k 64k",
        "write -P 0x14 3000k 72k",
    ];
    if !options.contains("data_file") {
        script.push("write -c -P 0x15 2M 64k");
        script.push("write -c -P 0x16 2112k 64k");
    }
    if options.contains("cluster_size=2M") || options.contains("preallocation") {
        // Compressed writes need whole clusters without data, and there are none.
        script.retain(|command| !command.contains("-c"));
    }
    let words: Vec<&str> = script
        .iter()
        .flat_map(|command| ["-c", command])
        .chain(["i"])
        .collect();
    run(folder, "qemu-io", &[&["-f", "qcow2"][..], &words].concat());
    // Two compressed clusters share a host cluster; their counts must fit when doubled.
    let narrow = ["refcount_bits=1,", "refcount_bits=2,"]
        .iter()
        .any(|bits| format!("{options},").contains(bits));
    if !options.contains("data_file") && !narrow {
        run(folder, "qemu-img", &["snapshot", "-c", "first", "i"]);
        run(
            folder,
            "qemu-io",
            &["-f", "qcow2", "-c", "write -P 0x17 32k 64k", "i"],
        );
    }
    if !options.contains("v2") {
        run(
            folder,
            "qemu-img",
            &["bitmap", "--add", "-g", "64k", "i", "b0"],
        );
        run(
            folder,
            "qemu-img",
            &["bitmap", "--add", "--disable", "i", "b1"],
        );
        run(
            folder,
            "qemu-io",
            &["-f", "qcow2", "-c", "write -P 0x18 512k 4k", "i"],
        );
    }
    folder.join("i")
}

/// Decodes the image, which must have no defects and encode to the same bytes.
fn decode(path: &Path, options: &str) -> Image {
    let bytes = std::fs::read(path).unwrap();
    let (image, defects) = Image::decode(Arc::new(bytes.clone())).unwrap();
    assert_eq!(defects, [], "{options}");
    let mut again = Cursor::new(Vec::new());
    image.encode(&mut again).unwrap();
    assert!(
        again.into_inner() == bytes,
        "{options}: encoding changed the image"
    );
    assert_eq!(Format::probe(image.bytes()), Ok(Some(Format::Qcow2)));
    image
}

/// Compares fields with the output of `qemu-img info`.
fn compare_info(folder: &Path, image: &Image, options: &str) {
    let info = run(folder, "qemu-img", &["info", "--output=json", "i"]);
    let info: Value = serde_json::from_slice(&info).unwrap();
    let specific = &info["format-specific"]["data"];
    let header = &image.layout().header;
    let field = |path: &str| image.get_uint(path);
    assert_eq!(info["virtual-size"], field("header.size").unwrap());
    assert_eq!(
        info["cluster-size"],
        1_u64 << field("header.cluster_bits").unwrap()
    );
    let compat = if field("header.version") == Some(2) {
        "0.10"
    } else {
        "1.1"
    };
    assert_eq!(specific["compat"], compat, "{options}");
    assert_eq!(
        specific["refcount-bits"],
        1 << header.refcount_order,
        "{options}"
    );
    let bit = |path: &str| field(path).map(|bit| bit == 1);
    if header.version >= 3 {
        assert_eq!(
            specific["lazy-refcounts"].as_bool(),
            bit("header.compatible_features.lazy_refcounts")
        );
        assert_eq!(
            specific["extended-l2"].as_bool(),
            bit("header.incompatible_features.extended_l2")
        );
        assert_eq!(
            specific["corrupt"].as_bool(),
            bit("header.incompatible_features.corrupt")
        );
    }
    let compression = if field("header.compression_type").unwrap_or(0) == 1 {
        "zstd"
    } else {
        "zlib"
    };
    assert_eq!(specific["compression-type"], compression, "{options}");
    let text = |path: &str| {
        image
            .get(path)
            .map(|value| String::from_utf8(value.as_bytes().unwrap().to_vec()).unwrap())
    };
    assert_eq!(
        info["backing-filename"].as_str().map(str::to_owned),
        text("backing_file_name"),
        "{options}"
    );
    let extension = |kind: u32| {
        let index = image
            .layout()
            .extensions
            .iter()
            .position(|ext| ext.kind == kind)?;
        text(&format!("ext[{index}].text"))
    };
    let string = |value: &Value| value.as_str().map(str::to_owned);
    assert_eq!(
        string(&info["backing-filename-format"]),
        extension(0xe279_2aca),
        "{options}"
    );
    assert_eq!(
        string(&specific["data-file"]),
        extension(0x4441_5441),
        "{options}"
    );
    let snapshots = info["snapshots"].as_array().cloned().unwrap_or_default();
    assert_eq!(snapshots.len(), image.layout().snapshots.len());
    for (index, snapshot) in snapshots.iter().enumerate() {
        assert_eq!(
            snapshot["id"].as_str().map(str::to_owned),
            text(&format!("snapshot[{index}].id"))
        );
        assert_eq!(
            snapshot["name"].as_str().map(str::to_owned),
            text(&format!("snapshot[{index}].name"))
        );
        assert_eq!(
            snapshot["date-sec"].as_u64(),
            field(&format!("snapshot[{index}].date_sec"))
        );
        assert_eq!(
            snapshot["date-nsec"].as_u64(),
            field(&format!("snapshot[{index}].date_nsec"))
        );
    }
    let bitmaps = specific["bitmaps"].as_array().cloned().unwrap_or_default();
    assert_eq!(bitmaps.len(), image.layout().bitmaps.len(), "{options}");
    for (index, bitmap) in bitmaps.iter().enumerate() {
        assert_eq!(
            string(&bitmap["name"]),
            text(&format!("bitmap[{index}].name"))
        );
        let bits = field(&format!("bitmap[{index}].granularity_bits")).unwrap();
        assert_eq!(bitmap["granularity"], 1_u64 << bits);
        let auto = bitmap["flags"]
            .as_array()
            .unwrap()
            .iter()
            .any(|flag| flag == "auto");
        assert_eq!(Some(auto), bit(&format!("bitmap[{index}].flags.auto")));
    }
}

/// Compares every sector with the output of `qemu-img map`.
fn compare_map(folder: &Path, image: &Image, backing: Option<&dyn ReadAt>, options: &str) {
    let map = run(folder, "qemu-img", &["map", "--output=json", "i"]);
    let map: Vec<Value> = serde_json::from_slice(&map).unwrap();
    let guest = image.guest(Disk::Active, None, backing).unwrap();
    for range in &map {
        let (start, len) = (
            range["start"].as_u64().unwrap(),
            range["length"].as_u64().unwrap(),
        );
        let mut at = start;
        while at < start + len {
            let extent = guest.extent(GuestOffset(at)).unwrap();
            let what = format!("{options}: {range} at {at:#x}: {extent:?}");
            let offset = range["offset"].as_u64().map(|offset| offset + (at - start));
            match extent.source {
                Source::Unallocated => {
                    assert!(range["depth"] != 0 || range["present"] == false, "{what}")
                }
                Source::Zero { .. } => assert_eq!(range["zero"], true, "{what}"),
                Source::Host(host) | Source::External(host) => {
                    assert_eq!(offset, Some(host.0), "{what}");
                    assert_eq!(range["depth"], 0, "{what}");
                }
                Source::Compressed { .. } => {
                    // Older versions do not report it.
                    let told = range.get("compressed");
                    assert!(told.is_none_or(|told| told == true), "{what}");
                    assert_eq!(range["data"], true, "{what}");
                }
            }
            at += extent.len;
        }
    }
    let mapped: u64 = map
        .iter()
        .map(|range| range["length"].as_u64().unwrap())
        .sum();
    assert_eq!(mapped, SIZE, "{options}");
}

/// Compares the data with what `qemu-img convert` writes, snapshots included.
fn compare_data(
    folder: &Path,
    image: &Image,
    backing: Option<&dyn ReadAt>,
    options: &str,
) -> Vec<u8> {
    let external = std::fs::read(folder.join("data.raw")).ok();
    let external = external.as_ref().map(|file| file as &dyn ReadAt);
    let read = |disk| {
        let mut data = vec![0; SIZE as usize];
        image
            .guest(disk, external, backing)
            .unwrap()
            .read(GuestOffset(0), &mut data)
            .unwrap();
        data
    };
    run(
        folder,
        "qemu-img",
        &["convert", "-f", "qcow2", "-O", "raw", "i", "raw"],
    );
    let data = read(Disk::Active);
    assert!(
        std::fs::read(folder.join("raw")).unwrap() == data,
        "{options}: data"
    );
    if !image.layout().snapshots.is_empty() {
        run(
            folder,
            "qemu-img",
            &[
                "convert", "-f", "qcow2", "-O", "raw", "-l", "first", "i", "raw",
            ],
        );
        assert!(
            std::fs::read(folder.join("raw")).unwrap() == read(Disk::Snapshot(0)),
            "{options}: snapshot"
        );
    }
    data
}

/// What imago reads from an image.
fn imago_data(path: &Path, size: u64) -> Vec<u8> {
    use imago::file::File;
    use imago::qcow2::Qcow2;
    use imago::{FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate};
    let builder = Qcow2::<File>::builder_path(path);
    let image = builder.open(PermissiveImplicitOpenGate::default());
    let image = FormatAccess::new(image.unwrap());
    let mut data = vec![0; size as usize];
    image.read(&mut data, 0).unwrap();
    data
}

#[test]
fn every_creation_option() {
    let Some(tmp) = scratch() else { return };
    let base = Pattern::Noise(9).bytes(2 << 20);
    for (options, imago) in OPTIONS {
        let folder = tempfile::tempdir_in(tmp.path()).unwrap();
        let folder = folder.path();
        std::fs::write(folder.join("base.raw"), &base).unwrap();
        let path = make(folder, options);
        let image = decode(&path, options);
        if options.contains("format=luks") {
            compare_luks(&image);
            continue;
        }
        if options.contains("format=aes") {
            assert_eq!(image.get_uint("header.crypt_method"), Some(1));
            continue;
        }
        compare_info(folder, &image, options);
        let backing = options.contains("backing").then_some(&base as &dyn ReadAt);
        compare_map(folder, &image, backing, options);
        let data = compare_data(folder, &image, backing, options);
        if *imago {
            assert!(imago_data(&path, SIZE) == data, "{options}: imago");
        }
    }
}

fn compare_luks(image: &Image) {
    assert_eq!(image.get_uint("header.crypt_method"), Some(2));
    let text = |path: &str| image.get(path).unwrap().to_string();
    assert_eq!(text("luks.cipher_name"), "\"aes\"");
    assert_eq!(text("luks.cipher_mode"), "\"xts-plain64\"");
    assert_eq!(text("luks.hash_spec"), "\"sha256\"");
    assert_eq!(image.get_uint("luks.key_slot[0].active"), Some(0x00ac_71f3));
    assert_eq!(image.get_uint("luks.key_slot[1].active"), Some(0x0000_dead));
    assert_eq!(image.get_uint("luks.key_slot[7].stripes"), Some(4000));
}

#[test]
fn imago_reads_what_is_built() {
    let folder = tempfile::tempdir().unwrap();
    for cluster_bits in [9, 12, 16] {
        let content = [
            Content::Data(Pattern::Noise(1)),
            Content::Zero,
            Content::Compressed(Pattern::Count(1)),
            Content::ZeroAllocated(Pattern::Fill(1)),
            Content::Compressed(Pattern::Fill(1)),
        ];
        let clusters = content
            .into_iter()
            .zip(3..)
            .map(|(content, index)| Cluster { index, content });
        let spec = Spec {
            cluster_bits,
            virtual_size: 9 << cluster_bits,
            clusters: clusters.collect(),
            ..Spec::default()
        };
        let image = build(&spec).unwrap().image;
        let path = folder.path().join("image");
        std::fs::write(&path, image.bytes().to_vec(1 << 30).unwrap()).unwrap();
        let mut data = vec![0; spec.virtual_size as usize];
        let mut guest = image.guest(Disk::Active, None, None).unwrap();
        guest.read(GuestOffset(0), &mut data).unwrap();
        assert!(
            imago_data(&path, spec.virtual_size) == data,
            "{cluster_bits}"
        );
    }
}

#[test]
fn what_is_set_is_what_qemu_reads() {
    let Some(tmp) = scratch() else { return };
    let folder = tmp.path();
    let path = make(folder, "compat=v3");
    let mut image = decode(&path, "compat=v3");
    image.set("header.size", 2 << 20).unwrap();
    image
        .set("header.compatible_features.lazy_refcounts", 1)
        .unwrap();
    image.set("snapshot[0].name", "FIRST").unwrap();
    image.set("bitmap[1].flags.auto", 1).unwrap();
    std::fs::write(&path, image.bytes().to_vec(1 << 30).unwrap()).unwrap();
    compare_info(folder, &image, "after set");
    let out = qemu_img(&["snapshot", "-l"], &[&path]);
    assert!(String::from_utf8_lossy(&out.stdout).contains("FIRST"));
}

#[test]
fn broken_references_are_found_and_repaired() {
    let Some(tmp) = scratch() else { return };
    for options in [
        "refcount_bits=16",
        "refcount_bits=2",
        "refcount_bits=64,cluster_size=4k",
    ] {
        let path = make(tmp.path(), options);
        let mut image = decode(&path, options);
        let entry = image
            .used_fields()
            .find(|field| field.path.starts_with("refcount_block[0].entry[3]"))
            .unwrap();
        image
            .set(&entry.path, entry.value.as_uint().unwrap() ^ 1)
            .unwrap();
        image.set("refcount_block[0].entry[0]", 0).unwrap();
        let defects = image.defects().unwrap();
        let paths: Vec<&str> = defects.iter().map(|defect| defect.path.as_str()).collect();
        assert!(
            paths.contains(&"refcount_block[0].entry[0]") && paths.contains(&entry.path.as_str()),
            "{defects:?}"
        );
        image.recompute_refcounts().unwrap();
        assert_eq!(image.defects().unwrap(), []);
        assert!(
            image.bytes().to_vec(1 << 30).unwrap() == std::fs::read(&path).unwrap(),
            "{options}"
        );
    }
}

#[test]
fn other_formats_have_the_fields_that_qemu_img_wrote() {
    let Some(tmp) = scratch() else { return };
    let size = 4_u64 << 20;
    for (format, path, value) in [
        (Format::Qcow, "header.size", size),
        (Format::Vmdk, "header.capacity", size / 512),
        (Format::Vhdx, "region_table[0].entry_count", 2),
        (Format::Vdi, "header.disk_size", size),
        (Format::Vpc, "dynamic.block_size", 2 << 20),
        (Format::Qed, "header.image_size", size),
        (Format::Parallels, "header.nb_sectors", size / 512),
        (Format::Luks, "key_slot[0].stripes", 4000),
    ] {
        let file = format!("image.{format}");
        let mut words = vec!["create", "-q", "-f", format.name()];
        if format == Format::Luks {
            words.extend([
                "--object",
                "secret,id=s,data=x",
                "-o",
                "key-secret=s,iter-time=10",
            ]);
        }
        words.extend([file.as_str(), "4M"]);
        run(tmp.path(), "qemu-img", &words);
        let bytes = std::fs::read(tmp.path().join(&file)).unwrap();
        assert_eq!(Format::probe(&bytes), Ok(Some(format)));
        let mut image = AnyImage::open(Arc::new(bytes), format).unwrap();
        assert_eq!(image.defects().unwrap(), [], "{format}");
        let field = image.field(path).unwrap();
        assert_eq!(field.value.as_uint(), Some(value), "{format}");
        let around = Surroundings {
            file_len: image.bytes().len(),
            cluster_size: 1 << 16,
            offsets: &[],
        };
        assert!(field.boundaries(around).len() > 5, "{format}");
        let summed = match format {
            Format::Vhdx => "header[0].sequence_number",
            Format::Vpc => "dynamic.max_table_entries",
            _ => continue,
        };
        image.set(summed, 77).unwrap();
        assert_eq!(image.defects().unwrap().len(), 1, "{format}");
        image.recompute(&[image_formats::Derivation::Checksum]);
        assert_eq!(image.defects().unwrap(), [], "{format}");
        std::fs::write(
            tmp.path().join(&file),
            image.bytes().to_vec(1 << 30).unwrap(),
        )
        .unwrap();
        run(
            tmp.path(),
            "qemu-img",
            &["info", "-f", format.name(), &file],
        );
    }
}
