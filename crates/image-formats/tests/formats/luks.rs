//! LUKS, held against QEMU (version 1) and cryptsetup (both).

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use image_formats::luks::{Hash, Kdf, PAYLOAD_NAME, Slot, Spec};
use image_formats::{
    Access, AnyImage, AnySpec, Block, Content, DiskError, Files, Format, Pattern, Placement,
    ReadAt, Store,
};

use crate::common::{qemu_img, scratch};
use crate::{
    PASSPHRASE, Qemu, assert_all_features, assert_robust, assert_valid, disk, disk_of_qemu, write,
};

/// The words that name the volume at `path` for `qemu-img`, with its payload where that is in
/// a file of its own.
pub(crate) fn source(folder: &Path, path: &str) -> Vec<String> {
    let payload = folder.join(PAYLOAD_NAME);
    let files = match payload.to_str().filter(|_| payload.exists()) {
        Some(payload) => format!("header.filename={path},file.filename={payload}"),
        None => format!("file.filename={path}"),
    };
    vec![
        "--object".into(),
        format!("secret,id=s,data={PASSPHRASE}"),
        "--image-opts".into(),
        format!("driver=luks,key-secret=s,{files}"),
    ]
}

/// The payload of a detached header.
struct Payload(Store);

impl Files for Payload {
    fn file(&self, name: &[u8]) -> Option<Arc<dyn ReadAt>> {
        let named = name == PAYLOAD_NAME.as_bytes();
        named.then(|| Arc::new(self.0.clone()) as Arc<dyn ReadAt>)
    }
}

fn blocks() -> Vec<Block> {
    let block = |index, content| Block { index, content };
    vec![
        block(0, Content::Data(Pattern::Count(1))),
        block(3, Content::Zero),
        block(15, Content::Data(Pattern::Noise(9))),
    ]
}

fn slot(index: u8, passphrase: &str) -> Slot {
    Slot {
        index,
        passphrase: passphrase.into(),
        iterations: 2,
        kdf: Kdf::Pbkdf2,
    }
}

fn of(cipher: &str, mode: &str, key_bytes: u32, hash: Hash) -> Spec {
    Spec {
        cipher: cipher.into(),
        mode: mode.into(),
        key_bytes,
        hash,
        blocks: blocks(),
        ..Spec::default()
    }
}

/// Volumes of version 1, and what QEMU does with them.
fn version_1() -> Vec<(Spec, Qemu)> {
    let plain = of("aes", "xts-plain64", 32, Hash::Sha256);
    let mut all = vec![
        (Spec::default(), Qemu::Reads),
        (plain.clone(), Qemu::Reads),
        (of("aes", "xts-plain64", 64, Hash::Sha1), Qemu::Reads),
        (of("aes", "xts-plain64", 48, Hash::Sha256), Qemu::Reads),
        (of("aes", "xts-plain", 64, Hash::Sha512), Qemu::Reads),
        (of("aes", "cbc-plain64", 32, Hash::Sha224), Qemu::Reads),
        (of("aes", "cbc-plain", 32, Hash::Sha384), Qemu::Reads),
        (
            of("aes", "cbc-essiv:sha256", 32, Hash::Ripemd160),
            Qemu::Reads,
        ),
        (of("aes", "cbc-essiv:sha256", 16, Hash::Sha256), Qemu::Reads),
        (of("aes", "ecb-plain64", 16, Hash::Sha256), Qemu::Reads),
        // QEMU wants a generator of initial vectors, though none is used.
        (of("aes", "ecb", 16, Hash::Sha256), Qemu::Refuses),
        (of("aes", "ctr-plain64", 32, Hash::Sha256), Qemu::Reads),
        (of("serpent", "xts-plain64", 64, Hash::Sha256), Qemu::Reads),
        (of("serpent", "cbc-plain64", 16, Hash::Sha256), Qemu::Reads),
        (of("twofish", "xts-plain64", 64, Hash::Sha256), Qemu::Reads),
        (
            of("twofish", "cbc-essiv:sha256", 32, Hash::Sha256),
            Qemu::Reads,
        ),
    ];
    let others = [
        Spec {
            slots: vec![slot(7, PASSPHRASE), slot(2, "other")],
            placement: Placement {
                order: vec![3, 1, 2],
                gaps: vec![1, 0],
            },
            payload_alignment: 1 << 20,
            digest_iterations: 3,
            ..plain.clone()
        },
        Spec {
            virtual_size: (64 << 10) - 512,
            payload_alignment: 512,
            seed: 77,
            ..plain.clone()
        },
        Spec {
            detached: true,
            ..plain
        },
    ];
    all.extend(others.into_iter().map(|spec| (spec, Qemu::Reads)));
    all
}

/// A volume of version 1 whose key material does not end with a sector: QEMU fails an
/// assertion when it opens one.
fn partial_sector() -> Spec {
    of("aes", "cbc-plain64", 24, Hash::Sha256)
}

/// Volumes of version 2, which QEMU does not have.
fn version_2() -> Vec<Spec> {
    let plain = Spec {
        version: 2,
        ..of("aes", "xts-plain64", 64, Hash::Sha256)
    };
    let with = |kdf| Spec {
        slots: vec![Slot {
            kdf,
            ..slot(0, PASSPHRASE)
        }],
        ..plain.clone()
    };
    vec![
        plain.clone(),
        Spec {
            slots: vec![slot(30, "other"), slot(4, PASSPHRASE)],
            sector_size: 4096,
            header_size: 0x8000,
            label: "a label".into(),
            subsystem: "tests".into(),
            sequence: 9,
            placement: Placement {
                order: vec![2, 1],
                gaps: vec![3],
            },
            payload_alignment: 1 << 20,
            ..plain.clone()
        },
        with(Kdf::Argon2id {
            memory_kib: 32,
            threads: 2,
        }),
        with(Kdf::Argon2i {
            memory_kib: 32,
            threads: 1,
        }),
        Spec {
            detached: true,
            sector_size: 1024,
            ..plain.clone()
        },
        Spec {
            version: 2,
            ..of("serpent", "cbc-essiv:sha256", 32, Hash::Ripemd160)
        },
    ]
}

/// Small volumes of each version, to be damaged.
pub(crate) fn smallest() -> Vec<AnySpec> {
    let second = Spec {
        version: 2,
        ..Spec::default()
    };
    vec![AnySpec::Luks(Spec::default()), AnySpec::Luks(second)]
}

fn specs() -> Vec<AnySpec> {
    let first = version_1().into_iter().map(|(spec, _)| spec);
    let first = first.chain([partial_sector()]);
    first.chain(version_2()).map(AnySpec::Luks).collect()
}

#[test]
fn volumes_are_valid() {
    assert_all_features(&specs());
    for (spec, qemu) in version_1() {
        assert_valid(&AnySpec::Luks(spec), &[], qemu);
    }
    for spec in version_2() {
        assert_valid(&AnySpec::Luks(spec), &[], Qemu::Refuses);
    }
}

#[test]
fn a_volume_reads_as_it_was_described() {
    for spec in specs() {
        let AnySpec::Luks(luks) = &spec else { continue };
        let files = spec.build("i").unwrap();
        let payload = files[files.len() - 1].bytes.clone();
        let others = Payload(payload);
        let image = AnyImage::open(Arc::new(files[0].bytes.clone()), Format::Luks).unwrap();
        for slot in &luks.slots {
            let access = Access::to(&others).unlocked_by(slot.passphrase.as_bytes());
            let mut disk = image.disk(access).unwrap();
            assert_eq!(disk.size(), luks.virtual_size);
            for block in &luks.blocks {
                let expected = match &block.content {
                    Content::Data(pattern) => pattern.bytes(4096),
                    _ => vec![0; 4096],
                };
                let len = (luks.virtual_size - block.index * 4096).min(4096) as usize;
                let mut data = vec![1; len];
                disk.read(block.index * 4096, &mut data).unwrap();
                assert!(data == expected[..len], "{spec:?}");
            }
        }
        for wrong in [Access::to(&()), Access::to(&()).unlocked_by(b"wrong")] {
            assert_eq!(image.disk(wrong).err(), Some(DiskError::Locked));
        }
        let wanted = if luks.detached { 1 } else { 0 };
        assert_eq!(image.references().len(), wanted);
    }
}

#[test]
fn hostile_volumes_do_no_harm() {
    for spec in [&version_1()[0].0, &version_2()[1]] {
        assert_robust(&AnySpec::Luks(spec.clone()));
    }
    // With the passphrase, but for what only takes long.
    for spec in [&version_1()[0].0, &version_2()[2]] {
        let spec = AnySpec::Luks(spec.clone());
        let bytes = spec.build("i").unwrap().swap_remove(0).bytes;
        let image = AnyImage::open(Arc::new(bytes), Format::Luks).unwrap();
        let around = image_formats::Surroundings {
            file_len: 1 << 20,
            cluster_size: 512,
            offsets: &[],
        };
        for field in image.used_fields() {
            let slow = ["iterations", "time", "memory"];
            if slow.iter().any(|name| field.path.ends_with(name)) {
                continue;
            }
            for value in field.boundaries(around).into_iter().step_by(9) {
                let mut changed = image.clone();
                changed.set(&field.path, value).unwrap();
                changed.recompute(&[image_formats::Derivation::Checksum]);
                let access = Access::to(&()).unlocked_by(PASSPHRASE.as_bytes());
                if let Ok(mut disk) = changed.disk(access) {
                    for at in [0, 4000, disk.size().saturating_sub(600), u64::MAX - 5] {
                        let _ = disk.read(at, &mut [0; 1024]);
                    }
                }
            }
        }
    }
}

#[test]
fn impossible_descriptions_are_refused() {
    let plain = Spec::default();
    let wrong = |spec: Spec| AnySpec::Luks(spec).build("i").err().map(|e| e.to_string());
    for (spec, text) in [
        (
            Spec {
                version: 3,
                ..plain.clone()
            },
            "version 3",
        ),
        (
            Spec {
                key_bytes: 17,
                ..plain.clone()
            },
            "17 bytes",
        ),
        (
            Spec {
                mode: "xyz".into(),
                ..plain.clone()
            },
            "'aes-xyz'",
        ),
        (
            Spec {
                virtual_size: 100,
                ..plain.clone()
            },
            "disk size 100",
        ),
        (
            Spec {
                slots: Vec::new(),
                ..plain.clone()
            },
            "no key slot",
        ),
        (
            Spec {
                slots: vec![slot(8, "a")],
                ..plain.clone()
            },
            "key slot 8",
        ),
        (
            Spec {
                slots: vec![slot(1, "a"), slot(1, "b")],
                ..plain.clone()
            },
            "twice",
        ),
        (
            Spec {
                sector_size: 4096,
                ..plain.clone()
            },
            "in version 1",
        ),
        (
            Spec {
                label: "x".into(),
                ..plain.clone()
            },
            "no label",
        ),
        (
            Spec {
                version: 2,
                header_size: 5,
                ..plain.clone()
            },
            "header size 5",
        ),
        (
            Spec {
                payload_alignment: 3,
                ..plain
            },
            "payload alignment 3",
        ),
    ] {
        let error = wrong(spec).unwrap();
        assert!(error.contains(text), "{error}");
    }
}

/// Every cipher, mode and hash that QEMU creates volumes with.
#[test]
fn volumes_of_qemu_img_are_read() {
    let Some(folder) = scratch() else { return };
    let folder = folder.path();
    let data = Pattern::Noise(5).bytes(300 << 10);
    fs::write(folder.join("data.raw"), &data).unwrap();
    // To make a header takes seconds on purpose, so there are few. With a cipher key of 192 bits
    // in a mode other than XTS QEMU fails an assertion.
    for options in [
        "",
        ",cipher-alg=aes-192,hash-alg=sha1",
        ",cipher-alg=aes-256,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=sha512",
        ",cipher-alg=serpent-128,cipher-mode=cbc,ivgen-alg=plain",
        ",cipher-alg=twofish-256,hash-alg=ripemd160",
    ] {
        let options = format!("key-secret=s,iter-time=10{options}");
        let secret = format!("secret,id=s,data={PASSPHRASE}");
        let words = ["convert", "-O", "luks", "--object", &secret, "-o", &options];
        let (from, to) = (folder.join("data.raw"), folder.join("theirs.luks"));
        let ran = qemu_img(&words, &[&from, &to]);
        let error = String::from_utf8_lossy(&ran.stderr);
        if error.contains("not supported") {
            eprintln!("not run: this qemu-img has no '{options}': {error}");
            continue;
        }
        assert!(ran.status.success(), "{options}: {error}");
        let image = AnyImage::open(Arc::new(fs::read(&to).unwrap()), Format::Luks).unwrap();
        assert_eq!(image.defects().unwrap(), [], "{options}");
        let text = |path: &str| image.field(path).unwrap().value.to_string();
        assert!(text("header.uuid").len() > 36, "{options}");
        assert!(
            disk(folder, "theirs.luks", Format::Luks) == data,
            "{options}"
        );
    }
}

/// A qcow2 image with LUKS, as `qemu-img` writes it.
#[test]
fn encrypted_qcow2_images_are_read() {
    let Some(folder) = scratch() else { return };
    let folder = folder.path();
    let data = Pattern::Noise(6).bytes(300 << 10);
    fs::write(folder.join("data.raw"), &data).unwrap();
    let secret = format!("secret,id=s,data={PASSPHRASE}");
    let options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10";
    let words = ["convert", "-O", "qcow2", "--object", &secret, "-o", options];
    let (from, to) = (folder.join("data.raw"), folder.join("i.qcow2"));
    let ran = qemu_img(&words, &[&from, &to]);
    assert!(ran.status.success(), "{ran:?}");
    assert!(disk(folder, "i.qcow2", Format::Qcow2) == data);
    let image = AnyImage::open(Arc::new(fs::read(&to).unwrap()), Format::Qcow2).unwrap();
    for wrong in [Access::to(&()), Access::to(&()).unlocked_by(b"wrong")] {
        assert_eq!(image.disk(wrong).err(), Some(DiskError::Locked));
    }
}

/// Runs `cryptsetup` in `folder`, where there is a file `passphrase`; `None` where it is not
/// installed.
fn cryptsetup(folder: &Path, words: &str) -> Option<Output> {
    fs::write(folder.join("passphrase"), PASSPHRASE).unwrap();
    let mut command = Command::new("cryptsetup");
    // A user's PATH need not have the folder that Debian puts it in.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    let ran = command
        .args(["--disable-locks", "--batch-mode"])
        .args(words.split(' '))
        .current_dir(folder)
        .output();
    match ran {
        Ok(ran) => Some(ran),
        Err(why) => {
            eprintln!("not run: cryptsetup: {why}");
            None
        }
    }
}

/// Whether what the program printed says that the kernel lacks a cipher.
fn lacks_cipher(ran: &Output) -> bool {
    let error = String::from_utf8_lossy(&ran.stderr);
    let texts = ["device-mapper", "dm-crypt", "cipher for keyslot encryption"];
    texts.iter().any(|text| error.contains(text))
}

/// Whether `cryptsetup` finds the key of `volume` with the passphrase, if it can tell.
fn cryptsetup_opens(folder: &Path, volume: &str) -> Option<bool> {
    let words = format!("luksDump --dump-volume-key --key-file passphrase {volume}");
    let ran = cryptsetup(folder, &words)?;
    if lacks_cipher(&ran) {
        return None;
    }
    let text = String::from_utf8_lossy(&ran.stdout);
    Some(ran.status.success() && text.contains("MK dump"))
}

#[test]
fn cryptsetup_opens_what_is_built() {
    for spec in specs() {
        let AnySpec::Luks(luks) = &spec else { continue };
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        write(folder, &spec.build("i").unwrap());
        if let Some(opens) = cryptsetup_opens(folder, "i") {
            assert!(opens, "{luks:?}");
        }
    }
}

#[test]
fn volumes_of_cryptsetup_have_no_defects_and_open() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for words in [
        "--type luks1 --pbkdf-force-iterations 1000",
        "--type luks1 --pbkdf-force-iterations 1000 --cipher aes-cbc-essiv:sha256 --key-size 256",
        "--type luks1 --pbkdf-force-iterations 1000 --hash ripemd160 --cipher serpent-xts-plain64",
        "--type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --luks2-keyslots-size 288k",
        "--type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --luks2-keyslots-size 288k \
         --label l --subsystem s --sector-size 512 --luks2-metadata-size 32k --hash sha512",
        "--type luks2 --pbkdf argon2id --pbkdf-force-iterations 4 --pbkdf-memory 32 \
         --luks2-keyslots-size 288k --cipher twofish-xts-plain64",
        "--type luks2 --pbkdf argon2i --pbkdf-force-iterations 4 --pbkdf-memory 64 \
         --luks2-keyslots-size 576k --key-slot 7 --offset 8192",
    ] {
        fs::write(folder.join("i"), vec![0; 6 << 20]).unwrap();
        let words = format!("luksFormat {words} --key-file passphrase i");
        let Some(ran) = cryptsetup(folder, &words) else {
            return;
        };
        if lacks_cipher(&ran) {
            eprintln!("not run: the kernel has no such cipher: {words}");
            continue;
        }
        assert!(ran.status.success(), "{words}: {ran:?}");
        let image = AnyImage::open(Arc::new(fs::read(folder.join("i")).unwrap()), Format::Luks);
        let image = image.unwrap();
        assert_eq!(image.defects().unwrap(), [], "{words}");
        for field in image.used_fields() {
            assert_eq!(image.field(&field.path).unwrap(), field);
        }
        assert!(disk(folder, "i", Format::Luks).len() > 1 << 20, "{words}");
    }
}

/// The payload of a volume that QEMU wrote, behind a header of version 2 with the same key.
#[test]
fn data_under_a_header_of_version_2_is_that_which_qemu_wrote() {
    let Some(folder) = scratch() else { return };
    let folder = folder.path();
    let of_version = |version| Spec {
        version,
        virtual_size: 1 << 20,
        blocks: Vec::new(),
        ..of("aes", "xts-plain64", 64, Hash::Sha256)
    };
    let old = AnySpec::Luks(of_version(1)).build("old.luks").unwrap();
    write(folder, &old);
    let data = Pattern::Noise(8).bytes(1 << 20);
    fs::write(folder.join("data.raw"), &data).unwrap();
    let old_words = source(folder, folder.join("old.luks").to_str().unwrap());
    let mut words = vec!["convert", "-n", "--target-image-opts"];
    words.extend(["-f", "raw"]);
    let (secret, target) = (&old_words[1], &old_words[3]);
    words.extend(["--object", secret, "data.raw", target]);
    let ran = Command::new(crate::common::program("qemu-img"))
        .args(&words)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert!(disk_of_qemu(folder, "old.luks", Format::Luks) == data);
    let bytes = fs::read(folder.join("old.luks")).unwrap();
    let payload = &bytes[bytes.len() - (1 << 20)..];
    let mut new = AnySpec::Luks(of_version(2)).build("new.luks").unwrap();
    let at = new[0].bytes.len() - (1 << 20);
    new[0].bytes.write(at, payload);
    write(folder, &new);
    assert!(disk(folder, "new.luks", Format::Luks) == data);
}

/// Setting a field of the JSON area keeps its length, and checksums and second header follow.
#[test]
fn changed_headers_of_version_2_are_made_whole() {
    let spec = AnySpec::Luks(version_2().swap_remove(0));
    let bytes = spec.build("i").unwrap().swap_remove(0).bytes;
    let mut image = AnyImage::open(Arc::new(bytes), Format::Luks).unwrap();
    let path = "header[0].json.keyslots.0.area.size";
    assert_eq!(image.field(path).unwrap().value.as_uint(), Some(258_048));
    image.set(path, 4096).unwrap();
    let names = |image: &AnyImage| {
        let defects = image.defects().unwrap();
        let names = defects.iter().map(|defect| defect.name);
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&image), "area-size second-header checksum");
    image.recompute(&[
        image_formats::Derivation::Value,
        image_formats::Derivation::Copy,
        image_formats::Derivation::Checksum,
    ]);
    assert_eq!(names(&image), "area-size");
    let copy = path.replace("[0]", "[1]");
    assert_eq!(image.field(&copy).unwrap().value.as_uint(), Some(4096));
    let salt = "header[0].json.digests.0.salt";
    image.set(salt, &[7; 32][..]).unwrap();
    assert_eq!(
        image.field(salt).unwrap().value.as_bytes(),
        Some(&[7; 32][..])
    );
    let text = image.field("header[0].json").unwrap().value;
    let text = String::from_utf8(text.as_bytes().unwrap().to_vec()).unwrap();
    assert!(text.contains(r#""size":"004096""#), "{text}");
    assert!(text.contains(&"BwcH".repeat(10)), "{text}");
}

/// With one header destroyed the other one opens the volume.
#[test]
fn either_header_of_version_2_opens_the_volume() {
    let spec = AnySpec::Luks(version_2().swap_remove(0));
    let bytes = spec.build("i").unwrap().swap_remove(0).bytes;
    for broken in [0_u64, 0x4000] {
        let mut bytes = bytes.clone();
        bytes.write(broken, &[0xff; 4096]);
        let image = AnyImage::open(Arc::new(bytes), Format::Luks).unwrap();
        assert!(!image.defects().unwrap().is_empty());
        let access = Access::to(&()).unlocked_by(PASSPHRASE.as_bytes());
        let mut disk = image.disk(access).unwrap();
        let mut data = [0; 16];
        disk.read(0, &mut data).unwrap();
        assert!(data[..] == Pattern::Count(1).bytes(16), "{broken}");
    }
}
