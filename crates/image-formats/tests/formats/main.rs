//! Images of every format that can be built: without defects, read by QEMU as by this crate,
//! and the same bytes for the same description. A file for each format, and more on qcow2: what
//! QEMU says of images that are built here (`qemu`), images that QEMU made (`stock`), each rule
//! broken (`rules`), any bytes (`robust`).

#[path = "../common/any_format.rs"]
mod any_format;
mod bochs;
mod cloop;
#[path = "../common/mod.rs"]
mod common;
mod dmg;
#[path = "../common/exercise.rs"]
mod exercise;
mod luks;
mod parallels;
mod qcow;
mod qed;
mod qemu;
mod robust;
mod rules;
mod stock;
mod vdi;
mod vhdx;
mod vmdk;
mod vpc;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use image_formats::{
    Access, AnyImage, AnySpec, Block, BuiltFile, Content, Files, Format, Pattern, ReadAt, Store,
};
use proptest::prelude::*;

use any_format::exercise_as;
use common::{qemu_img, scratch};

/// What unlocks the images that are encrypted.
const PASSPHRASE: &str = "secret";
/// The largest disk or file that is compared, in bytes.
const MOST: u64 = 64 << 20;

/// The files of a folder.
struct Folder<'a>(&'a Path);

impl Files for Folder<'_> {
    fn file(&self, name: &[u8]) -> Option<Arc<dyn ReadAt>> {
        let name = std::str::from_utf8(name).ok()?;
        Some(Arc::new(fs::read(self.0.join(name)).ok()?))
    }
}

/// Writes files into a folder, sparse where they are.
fn write(folder: &Path, files: &[BuiltFile]) {
    for file in files {
        let mut out = fs::File::create(folder.join(&file.name)).unwrap();
        file.bytes.copy_to(&mut out).unwrap();
    }
}

/// The whole disk in the file `name`, as this crate reads it.
fn disk(folder: &Path, name: &str, format: Format) -> Vec<u8> {
    let bytes = fs::read(folder.join(name)).unwrap();
    let image = AnyImage::open(Arc::new(bytes), format).unwrap();
    let files = Folder(folder);
    let access = Access::to(&files).unlocked_by(PASSPHRASE.as_bytes());
    let mut disk = image.disk(access).unwrap();
    assert!(disk.size() <= MOST, "a disk of {} bytes", disk.size());
    let mut data = vec![0x55; disk.size() as usize];
    disk.read(0, &mut data).unwrap();
    // Read in odd pieces it is the same.
    let mut piece = vec![0; 1000];
    for at in (0..disk.size()).step_by(77_777) {
        let len = piece.len().min(data.len() - at as usize);
        disk.read(at, &mut piece[..len]).unwrap();
        assert!(piece[..len] == data[at as usize..][..len], "at {at}");
    }
    data
}

/// The same, as `qemu-img convert` reads it.
fn disk_of_qemu(folder: &Path, name: &str, format: Format) -> Vec<u8> {
    let out = folder.join("out.raw");
    let source = source(folder, name, format);
    let mut words = vec!["convert", "-O", "raw"];
    words.extend(source.iter().map(String::as_str));
    let ran = qemu_img(&words, &[&out]);
    assert!(ran.status.success(), "{name}: {ran:?}");
    fs::read(out).unwrap()
}

/// The same, as 7-Zip reads it, whose name for the format is `kind`; an error is what it says.
/// `None` where it is not installed.
fn disk_of_7zip(folder: &Path, name: &str, kind: &str) -> Option<Result<Vec<u8>, String>> {
    let mut names = ["7zz", "7z"].into_iter();
    let ran = names.find_map(|program| {
        Command::new(program)
            .current_dir(folder)
            .args(["e", "-y", "-so", &format!("-t{kind}"), name])
            .output()
            .ok()
    });
    let Some(ran) = ran else {
        eprintln!("not run: 7-Zip is not in PATH");
        return None;
    };
    Some(match ran.status.success() {
        true => Ok(ran.stdout),
        false => Err(String::from_utf8_lossy(&ran.stderr).into_owned()),
    })
}

/// The words that name an image for `qemu-img`.
fn source(folder: &Path, name: &str, format: Format) -> Vec<String> {
    let path = folder.join(name).to_str().unwrap().to_owned();
    match format {
        Format::Luks => luks::source(folder, &path),
        _ => vec!["-f".to_owned(), format.name().to_owned(), path],
    }
}

/// What QEMU does with an image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Qemu {
    /// It reads it.
    Reads,
    /// It reads it, and `qemu-img check` finds nothing.
    Checks,
    /// It refuses it, though it is valid.
    Refuses,
    /// It reads other data, and is wrong.
    Differs,
    /// It opens it, and does not read its data, though it is valid.
    FailsToRead,
}

/// Builds `spec` in an empty folder with the files of `others`, and holds it against all that
/// a valid image must be.
fn assert_valid(spec: &AnySpec, others: &[(&str, Vec<u8>)], qemu: Qemu) {
    let format = spec.format();
    let name = format!("test.{format}");
    let files = spec.build(&name).unwrap();
    let again = spec.build(&name).unwrap();
    let bytes = |file: &BuiltFile| file.bytes.to_vec(MOST).unwrap();
    assert_eq!(files[0].name, name);
    assert!(files.iter().map(bytes).eq(again.iter().map(bytes)));
    let image = AnyImage::open(Arc::new(files[0].bytes.clone()), format).unwrap();
    assert_eq!(image.defects().unwrap(), [], "{spec:?}");
    assert_eq!(Format::probe(&files[0].bytes).unwrap(), Some(format));
    for feature in spec.features() {
        let known = AnySpec::all_features(format);
        assert!(known.iter().any(|known| known.name == feature), "{feature}");
    }
    let Some(folder) = scratch() else {
        return;
    };
    let folder = folder.path();
    write(folder, &files);
    for (name, bytes) in others {
        fs::write(folder.join(name), bytes).unwrap();
    }
    let ours = disk(folder, &name, format);
    assert_eq!(ours.len() as u64, spec.virtual_size());
    if qemu == Qemu::Refuses {
        let source = source(folder, &name, format);
        let mut words = vec!["info"];
        words.extend(source.iter().map(String::as_str));
        let ran = qemu_img(&words, &[]);
        assert!(!ran.status.success(), "read after all: {spec:?}");
        return;
    }
    if qemu == Qemu::FailsToRead {
        let words = ["convert", "-f", format.name(), "-O", "raw"];
        let ran = qemu_img(&words, &[&folder.join(&name), &folder.join("out.raw")]);
        assert!(!ran.status.success(), "read after all: {spec:?}");
        return;
    }
    let theirs = disk_of_qemu(folder, &name, format);
    assert_eq!(theirs.len(), ours.len());
    assert_eq!(ours == theirs, qemu != Qemu::Differs, "data of {spec:?}");
    if qemu == Qemu::Checks {
        let ran = qemu_img(&["check", "-f", format.name()], &[&folder.join(&name)]);
        assert!(ran.status.success(), "{spec:?}: {ran:?}");
    }
}

/// Each feature of a format is one that some of `specs` has.
fn assert_all_features(specs: &[AnySpec]) {
    let format = specs[0].format();
    for feature in AnySpec::all_features(format) {
        let has = |spec: &AnySpec| spec.features().contains(&feature.name);
        assert!(specs.iter().any(has), "no image has '{}'", feature.name);
    }
}

/// Any value in any field of an image, and any bytes at its places: no panic, the same bytes
/// back, every field found by its path.
fn assert_robust(spec: &AnySpec) {
    let format = spec.format();
    let mut files = spec.build("i").unwrap();
    files.retain(|file| Format::probe(&file.bytes).unwrap() == Some(format));
    for file in files {
        let image = AnyImage::open(Arc::new(file.bytes), format).unwrap();
        assert_robust_image(&image);
    }
}

fn assert_robust_image(image: &AnyImage) {
    let open = |bytes: Store| AnyImage::open(Arc::new(bytes), image.format()).unwrap();
    let around = image_formats::Surroundings {
        file_len: image.bytes().len(),
        cluster_size: image.unit(),
        offsets: &[0, 4096, 65536],
    };
    for field in image.used_fields().take(400) {
        let found = image.field(&field.path).unwrap();
        assert_eq!(found, field);
        for value in field.boundaries(around).into_iter().step_by(5) {
            let mut changed = image.clone();
            changed.set(&field.path, value).unwrap();
            assert_eq!(changed.field(&field.path).unwrap().value, value.into());
            let changed = open(changed.bytes().clone());
            changed.defects().unwrap();
            assert!(changed.used_fields().take(2000).count() > 0);
            if let Ok(mut disk) = changed.disk(Access::to(&())) {
                for at in [0, 4000, disk.size().saturating_sub(600), u64::MAX - 5] {
                    let _ = disk.read(at, &mut [0; 1024]);
                }
            }
        }
    }
}

/// The contents of a disk: `blocks`, of `unit` bytes each, over those of `below`.
fn laid_over(mut below: Vec<u8>, blocks: &[Block], unit: usize) -> Vec<u8> {
    for block in blocks {
        let at = block.index as usize * unit;
        let end = below.len().min(at + unit);
        let data = match &block.content {
            Content::Zero => vec![0; unit],
            Content::Data(pattern) | Content::Compressed(pattern) => pattern.bytes(unit),
        };
        below[at..end].copy_from_slice(&data[..end - at]);
    }
    below
}

/// An image that another program wrote: without defects, and with the data that was put into it.
fn assert_foreign(folder: &Path, name: &str, format: Format, data: &[u8]) -> AnyImage {
    let bytes = fs::read(folder.join(name)).unwrap();
    assert_eq!(Format::probe(&bytes).unwrap(), Some(format), "{name}");
    let image = AnyImage::open(Arc::new(bytes), format).unwrap();
    assert_eq!(image.defects().unwrap(), [], "{name}");
    assert!(disk(folder, name, format) == data, "{name}: other data");
    image
}

/// Whether a program that a test needs is installed; says so where it is not.
fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).exists());
    if !found {
        eprintln!("not run: {program} is not in PATH");
    }
    found
}

/// A disk of `size` bytes with some data and a lot of zeros.
fn some_data(size: usize) -> Vec<u8> {
    let mut data = vec![0; size];
    for (at, pattern) in [
        (0, Pattern::Count(1)),
        (size / 2, Pattern::Noise(2)),
        (size - 5000, Pattern::Fill(3)),
    ] {
        data[at..at + 5000].copy_from_slice(&pattern.bytes(5000));
    }
    data
}

/// Converts `data` to an image called `name` with `options` by
/// `qemu-img`.
fn convert(folder: &Path, data: &[u8], name: &str, format: Format, options: &[&str]) {
    let raw = folder.join("in.raw");
    fs::write(&raw, data).unwrap();
    let mut words = vec!["convert", "-f", "raw", "-O", format.name()];
    words.extend(options);
    let ran = qemu_img(&words, &[&raw, &folder.join(name)]);
    assert!(ran.status.success(), "{words:?}: {ran:?}");
}

/// Files that end early, and bytes that are not those of the format: no panic, and the same
/// bytes back.
fn assert_robust_when_damaged(spec: &AnySpec) {
    let format = spec.format();
    let file = spec.build("i").unwrap().swap_remove(0);
    let bytes = file.bytes.to_vec(MOST).unwrap();
    let exercise = |bytes: Vec<u8>| exercise_as(&bytes, format);
    for len in (0..600)
        .step_by(13)
        .chain([bytes.len() / 2, bytes.len() - 1])
    {
        exercise(bytes[..len.min(bytes.len())].to_vec());
    }
    for seed in 0..100 {
        let noise = Pattern::Noise(seed).bytes(32);
        let mut damaged = bytes.clone();
        for pair in noise.chunks_exact(4) {
            // Most of it where the structures are.
            let place = usize::from(pair[0]) << (pair[1] % 6);
            if let Some(byte) = damaged.get_mut(place) {
                *byte = pair[2];
            }
        }
        exercise(damaged);
    }
}

/// Up to 8 of `count` blocks: data, and zeros where the format has them.
fn any_blocks(zeros: bool, count: u64) -> impl Strategy<Value = Vec<Block>> {
    let content = prop_oneof![
        any::<u64>().prop_map(|seed| Content::Data(Pattern::Noise(seed))),
        any::<u8>().prop_map(move |byte| match zeros {
            true => Content::Zero,
            false => Content::Data(Pattern::Fill(byte)),
        }),
    ];
    let blocks = prop::collection::btree_map(0..count, content, 0..8);
    blocks.prop_map(|blocks| {
        let blocks = blocks.into_iter();
        blocks
            .map(|(index, content)| Block { index, content })
            .collect()
    })
}

/// Sort keys of a placement.
fn any_order() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0..9_u32, 0..4)
}

/// What is built is without defects, and reads as `blocks` of `unit` bytes describe.
fn assert_reads_as_described(spec: &AnySpec, blocks: &[Block], unit: usize) {
    let file = spec.build("i").unwrap().swap_remove(0);
    let image = AnyImage::open(Arc::new(file.bytes), spec.format()).unwrap();
    assert_eq!(image.defects().unwrap(), []);
    let mut disk = image.disk(Access::to(&())).unwrap();
    let mut data = vec![1; disk.size() as usize];
    disk.read(0, &mut data).unwrap();
    assert!(data == laid_over(vec![0; spec.virtual_size() as usize], blocks, unit));
}
/// Mutations one after the other, each of which says which field gets which of its boundary
/// values, and all that can be done with the image then. Every second one is repaired.
fn mutate(spec: &AnySpec, steps: &[(u16, u16)]) {
    let format = spec.format();
    let open = |bytes: Store| AnyImage::open(Arc::new(bytes), format).unwrap();
    let mut image = open(spec.build("i").unwrap().swap_remove(0).bytes);
    for (index, (field, value)) in steps.iter().enumerate() {
        let fields: Vec<_> = image.used_fields().take(1000).collect();
        let field = &fields[usize::from(*field) % fields.len()];
        let around = image_formats::Surroundings {
            file_len: image.bytes().len(),
            cluster_size: image.unit(),
            offsets: &[0, 512, 1 << 20, u64::MAX - 511],
        };
        let values = field.boundaries(around);
        if values.is_empty() {
            continue;
        }
        let value = values[usize::from(*value) % values.len()];
        image.set(&field.path, value).unwrap();
        if index % 2 == 1 {
            use image_formats::Derivation::{Checksum, Copy, Value};
            image.recompute(&[Value, Copy, Checksum]);
        }
        image.defects().unwrap();
        let _ = image.references();
        if let Ok(mut disk) = image.disk(Access::to(&())) {
            for at in [0, 4000, disk.size() / 2, disk.size().saturating_sub(600)] {
                let _ = disk.read(at, &mut [0; 1024]);
            }
        }
        image = open(image.bytes().clone());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bytes changed where metadata is, and the end cut off.
    #[test]
    fn damaged_images_do_no_harm(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        text in prop::collection::vec((any::<prop::sample::Index>(), "[<>/{}\\[\\]:,\"0-9=A]"), 0..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let all = [luks::smallest(), dmg::smallest()].concat();
        let spec = which.get(&all);
        let mut bytes = spec.build("i").unwrap().swap_remove(0).bytes;
        // What is behind, but for the end, is data or key material.
        let len = bytes.len().min(30_000);
        let from = |index: prop::sample::Index| match index.index(2) {
            0 => index.index(len as usize) as u64,
            _ => bytes.len() - 1 - index.index(len as usize) as u64,
        };
        let edits = edits.into_iter().map(|(at, byte)| (from(at), byte));
        let text = text.into_iter().map(|(at, byte)| (from(at), byte.as_bytes()[0]));
        let places: Vec<(u64, u8)> = edits.chain(text).collect();
        for (at, byte) in places {
            bytes.write(at, &[byte]);
        }
        if let Some(cut) = cut {
            bytes.resize(cut.index(len as usize) as u64);
        }
        exercise_as(&bytes.to_vec(MOST).unwrap(), spec.format());
    }
}
