//! The crate against `qemu-img`: what it builds, what it reads, what it names.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use image_formats::Store;
use image_formats::luks::Volume;
use image_formats::qcow2::{
    Backing, Bitmap, BitmapCluster, Cluster, Compression, Content, DataFile, Disk, Encryption,
    Extension, GuestOffset, Image, Pattern, Placement, Snapshot, Spec, build,
};

use crate::common::{qemu_img, scratch};

/// `qemu-img check` must find neither errors nor leaks.
fn check(path: &Path, what: &str) {
    let out = qemu_img(&["check", "-f", "qcow2"], &[path]);
    let text =
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success() && text.contains("No errors were found"),
        "{what}: {text}"
    );
}

fn cluster(index: u64, content: Content) -> Cluster {
    Cluster { index, content }
}

/// Specifications that use every feature in many combinations.
fn specs() -> Vec<(String, Spec)> {
    let mut all = Vec::new();
    for cluster_bits in [9, 12, 14, 16] {
        for refcount_order in 0..=6 {
            // Each width meets two variants per cluster size, in turn all of them.
            let first = u64::from(cluster_bits + refcount_order) % 2;
            all.push(spec(cluster_bits, refcount_order, first));
            all.push(spec(cluster_bits, refcount_order, first + 2));
        }
    }
    all.extend([(4, 3), (6, 2)].map(|(order, variant)| spec(18, order, variant)));
    all.push(spec(21, 4, 1));
    all
}

fn spec(cluster_bits: u32, refcount_order: u32, variant: u64) -> (String, Spec) {
    let v2 = refcount_order == 4 && variant == 3;
    let roomy = cluster_bits >= 12;
    let extended_l2 = cluster_bits >= 14 && variant % 2 == 1 && !v2;
    let zstd = variant >= 2 && !v2;
    let mut clusters = vec![
        cluster(0, Content::Data(Pattern::Count(7))),
        cluster(1, Content::Compressed(Pattern::Fill(0x5a))),
        cluster(2, Content::Compressed(Pattern::Count(1))),
        cluster(3, Content::Compressed(Pattern::Noise(1))),
        cluster(5, Content::Data(Pattern::Noise(2))),
        cluster(
            7,
            Content::Compressed(Pattern::Bytes(b"the quick brown fox ".to_vec())),
        ),
    ];
    if !v2 {
        clusters.push(cluster(4, Content::Zero));
        clusters.push(cluster(8, Content::ZeroAllocated(Pattern::Fill(9))));
    }
    if extended_l2 {
        let pattern = Some(Pattern::Noise(3));
        clusters.push(cluster(
            9,
            Content::Subclusters {
                allocated: 0x0f0f_00ff,
                zero: 0x1000_ff00,
                pattern,
            },
        ));
        clusters.push(cluster(
            10,
            Content::Subclusters {
                allocated: 0,
                zero: 0xffff,
                pattern: None,
            },
        ));
    }
    let mut spec = Spec {
        version: if v2 { 2 } else { 3 },
        cluster_bits,
        refcount_order,
        virtual_size: (13 << cluster_bits) + 512,
        compression: if zstd {
            Compression::Zstd
        } else {
            Compression::Deflate
        },
        extended_l2,
        lazy_refcounts: !v2 && variant == 1,
        feature_names: roomy,
        clusters,
        placement: Placement {
            order: (0..variant as u32 * 5)
                .map(|i| i.wrapping_mul(2_654_435_761) >> 7)
                .collect(),
            gaps: if variant == 3 {
                vec![0, 1, 0, 2]
            } else {
                Vec::new()
            },
        },
        ..Spec::default()
    };
    if roomy {
        spec.extensions = vec![Extension {
            kind: 0x1234_5678,
            data: b"unknown".to_vec(),
        }];
        if !v2 && variant == 2 {
            spec.header_length = 136;
            spec.header_tail = vec![1, 2, 3];
        }
    }
    if variant >= 2 && refcount_order >= 2 {
        let own = vec![
            cluster(0, Content::Shared),
            cluster(3, Content::Data(Pattern::Fill(1))),
            cluster(6, Content::Compressed(Pattern::Fill(2))),
        ];
        spec.snapshots = vec![
            Snapshot {
                id: "1".into(),
                name: "all shared".into(),
                ..Snapshot::default()
            },
            Snapshot {
                id: "2".into(),
                name: "its own".into(),
                icount: Some(17),
                disk_size: Some(8 << cluster_bits),
                vm_state: vec![3; (1 << cluster_bits) + 1],
                clusters: Some(own),
                ..Snapshot::default()
            },
        ];
    }
    if !v2 && variant >= 1 {
        let bitmap = |name: &str, granularity_bits, clusters| Bitmap {
            name: name.to_owned(),
            granularity_bits,
            enabled: name == "b0",
            in_use: name == "b1",
            clusters,
        };
        spec.bitmaps = vec![
            bitmap("b0", 9, vec![BitmapCluster::Data(Pattern::Noise(4))]),
            bitmap("b1", 16, vec![BitmapCluster::Ones]),
            bitmap("b2", 16, vec![BitmapCluster::Zeros]),
        ];
    }
    (
        format!("cluster_bits={cluster_bits} refcount_order={refcount_order} variant={variant}"),
        spec,
    )
}

fn write(store: &Store, path: &Path) {
    std::fs::write(path, store.to_vec(1 << 30).unwrap()).unwrap();
}

fn guest(image: &Image, disk: Disk, data_file: Option<&Store>) -> Vec<u8> {
    let mut view = image
        .guest(disk, data_file.map(|file| file as _), None)
        .unwrap();
    let mut data = vec![0; view.size() as usize];
    view.read(GuestOffset(0), &mut data).unwrap();
    data
}

#[test]
fn built_images_are_valid_and_read_the_same() {
    let Some(tmp) = scratch() else { return };
    let (path, raw) = (tmp.path().join("built.qcow2"), tmp.path().join("raw"));
    for (name, spec) in specs() {
        let built = build(&spec).unwrap_or_else(|error| panic!("{name}: {error}"));
        write(built.image.bytes(), &path);
        check(&path, &name);
        assert_eq!(built.image.defects().unwrap(), [], "{name}");
        let out = qemu_img(&["convert", "-f", "qcow2", "-O", "raw"], &[&path, &raw]);
        assert!(out.status.success(), "{name}: {out:?}");
        assert!(
            std::fs::read(&raw).unwrap() == guest(&built.image, Disk::Active, None),
            "{name}: data"
        );
        for index in 0..spec.snapshots.len() {
            let id = format!("snapshot.id={}", spec.snapshots[index].id);
            let out = qemu_img(
                &["convert", "-f", "qcow2", "-O", "raw", "-l", &id],
                &[&path, &raw],
            );
            assert!(out.status.success(), "{name} snapshot {index}: {out:?}");
            let theirs = std::fs::read(&raw).unwrap();
            let ours = guest(&built.image, Disk::Snapshot(index), None);
            // Reading a snapshot, QEMU keeps the size of the image.
            let common = ours.len().min(theirs.len());
            assert!(
                theirs[..common] == ours[..common],
                "{name}: data of snapshot {index}"
            );
        }
    }
}

#[test]
fn data_files_and_backing_files_work() {
    let Some(tmp) = scratch() else { return };
    let (path, raw) = (tmp.path().join("image.qcow2"), tmp.path().join("raw"));
    let name = tmp.path().join("data.raw");
    for raw_file in [false, true] {
        for extended_l2 in [false, true] {
            let spec = Spec {
                extended_l2,
                virtual_size: 10 << 16,
                data_file: Some(DataFile {
                    name: Some(name.display().to_string()),
                    raw: raw_file,
                }),
                clusters: vec![
                    cluster(0, Content::Data(Pattern::Noise(1))),
                    cluster(3, Content::Data(Pattern::Noise(2))),
                    cluster(4, Content::Zero),
                ],
                ..Spec::default()
            };
            let built = build(&spec).unwrap();
            write(built.image.bytes(), &path);
            let data_file = built.data_file.unwrap();
            write(&data_file, &name);
            check(&path, "data file");
            assert_eq!(built.image.defects().unwrap(), []);
            let out = qemu_img(&["convert", "-f", "qcow2", "-O", "raw"], &[&path, &raw]);
            assert!(out.status.success(), "{out:?}");
            assert!(
                std::fs::read(&raw).unwrap() == guest(&built.image, Disk::Active, Some(&data_file))
            );
        }
    }
    let base = Pattern::Noise(5).bytes(1 << 20);
    std::fs::write(tmp.path().join("base.raw"), &base).unwrap();
    for version in [2, 3] {
        let spec = Spec {
            version,
            backing: Some(Backing {
                name: "base.raw".into(),
                format: Some("raw".into()),
            }),
            clusters: vec![cluster(3, Content::Compressed(Pattern::Fill(1)))],
            ..Spec::default()
        };
        let built = build(&spec).unwrap();
        write(built.image.bytes(), &path);
        check(&path, "backing file");
        assert_eq!(built.image.defects().unwrap(), []);
        let out = qemu_img(&["convert", "-f", "qcow2", "-O", "raw"], &[&path, &raw]);
        assert!(out.status.success(), "{out:?}");
        let mut data = vec![0; 1 << 20];
        let mut view = built.image.guest(Disk::Active, None, Some(&base)).unwrap();
        view.read(GuestOffset(0), &mut data).unwrap();
        assert!(std::fs::read(&raw).unwrap() == data);
    }
}

#[test]
fn a_built_image_is_decoded_from_its_bytes() {
    let (_, spec) = spec(16, 4, 2);
    let bytes = build(&spec).unwrap().image.bytes().to_vec(1 << 30).unwrap();
    let (image, defects) = Image::decode(Arc::new(bytes.clone())).unwrap();
    assert_eq!(defects, []);
    let mut again = Cursor::new(Vec::new());
    image.encode(&mut again).unwrap();
    assert!(again.into_inner() == bytes);
    assert_eq!(
        bytes,
        build(&spec).unwrap().image.bytes().to_vec(1 << 30).unwrap()
    );
}

#[test]
fn encrypted_images_open_with_their_passphrase() {
    let Some(tmp) = scratch() else { return };
    let (path, raw) = (tmp.path().join("image.qcow2"), tmp.path().join("raw"));
    let name = tmp.path().join("data.raw");
    let volume = Volume {
        passphrase: "open sesame".into(),
        iterations: 3,
        seed: 8,
    };
    for (cluster_bits, extended_l2, external) in [
        (9, false, false),
        (12, false, false),
        (16, true, false),
        (16, false, true),
    ] {
        let spec = Spec {
            cluster_bits,
            extended_l2,
            virtual_size: 10 << cluster_bits,
            encryption: Some(Encryption::Volume(volume.clone())),
            data_file: external.then(|| DataFile {
                name: Some(name.display().to_string()),
                raw: false,
            }),
            clusters: vec![
                cluster(0, Content::Data(Pattern::Noise(1))),
                cluster(3, Content::Data(Pattern::Fill(2))),
                cluster(4, Content::Zero),
                cluster(9, Content::Data(Pattern::Count(5))),
            ],
            ..Spec::default()
        };
        let what = format!("{cluster_bits} {extended_l2} {external}");
        let built = build(&spec).unwrap();
        assert_eq!(built.image.defects().unwrap(), [], "{what}");
        write(built.image.bytes(), &path);
        if let Some(file) = &built.data_file {
            write(file, &name);
        }
        let options = format!(
            "driver=qcow2,encrypt.key-secret=key,file.filename={}",
            path.display()
        );
        let secret = "secret,id=key,data=open sesame";
        let out = qemu_img(
            &["check", "--object", secret, "--image-opts", &options],
            &[],
        );
        assert!(out.status.success(), "{what}: {out:?}");
        let words = [
            "convert",
            "--object",
            secret,
            "--image-opts",
            "-O",
            "raw",
            &options,
        ];
        let out = qemu_img(&words, &[&raw]);
        assert!(out.status.success(), "{what}: {out:?}");
        let file = built.data_file.as_ref().map(|file| file as _);
        let mut view = built.image.guest(Disk::Active, file, None).unwrap();
        view.unlock(volume.cipher());
        let mut data = vec![0; view.size() as usize];
        view.read(GuestOffset(0), &mut data).unwrap();
        assert!(std::fs::read(&raw).unwrap() == data, "{what}");
        let noise = Pattern::Noise(1).bytes(1 << cluster_bits);
        assert!(data.starts_with(&noise), "{what}");
        // From any byte on, not only from where a sector starts.
        let mut part = vec![0; 300];
        view.read(GuestOffset(499), &mut part).unwrap();
        assert_eq!(part, data[499..799], "{what}");
    }
}
