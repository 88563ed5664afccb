//! Options of new images, for the commands that make one or say how large it would be.

use super::Command;
use super::words::{Words, weighted};
use image_mutations::base::Qcow2Base;
use image_mutations::rng::Rng;

/// What a new qcow2 image is to be like.
const OPTIONS: [(u64, &str); 26] = [
    (1, "preallocation=metadata"),
    (1, "preallocation=falloc"),
    (1, "preallocation=full"),
    (1, "preallocation=metadata,extended_l2=on"),
    (1, "preallocation=falloc,extended_l2=on,cluster_size=16k"),
    (1, "preallocation=metadata,cluster_size=512"),
    (1, "extended_l2=on"),
    (1, "cluster_size=512"),
    (1, "cluster_size=2M"),
    (2, "compression_type=zstd"),
    (1, "compression_type=zlib,encryption=off"),
    (1, "compat=0.10"),
    (1, "compat=0.10,cluster_size=4k"),
    (1, "compat=1.1"),
    (1, "compat=v3,lazy_refcounts=on"),
    (1, "lazy_refcounts=on"),
    (1, "refcount_bits=1"),
    (1, "refcount_bits=64"),
    (1, "refcount_bits=64,cluster_size=512"),
    (1, "data_file=out.data"),
    (1, "data_file=out.data,data_file_raw=on"),
    (
        1,
        "data_file=out.data,data_file_raw=on,preallocation=metadata",
    ),
    (
        1,
        "data_file=out.data,data_file_raw=on,preallocation=falloc",
    ),
    (1, "encrypt.format=aes"),
    (1, "size=0"),
    (1, "size=513"),
];

/// Options that must be refused, each for another reason.
const CONTRADICTIONS: [&str; 28] = [
    "compat=0.10,lazy_refcounts=on",
    "compat=0.10,refcount_bits=1",
    "compat=0.10,extended_l2=on",
    "compat=0.10,compression_type=zstd",
    "compat=0.10,data_file=out.data",
    "compat=2.0",
    "compression_type=lzo",
    "refcount_bits=3",
    "refcount_bits=128",
    "data_file_raw=on",
    "data_file=missing/out.data",
    "extended_l2=on,cluster_size=4k",
    "cluster_size=513",
    "cluster_size=4M",
    "backing_fmt=raw",
    "backing_file=backing.img,backing_fmt=raw,data_file=out.data,data_file_raw=on",
    "backing_file=backing.img,backing_fmt=raw,preallocation=full",
    "backing_file=backing.img,backing_fmt=raw,preallocation=metadata",
    "backing_file=missing.img,backing_fmt=raw",
    "encrypt.format=luks",
    "encrypt.format=luks,encrypt.key-secret=none",
    "encrypt.format=qcow,encrypt.format=aes",
    "encrypt.format=none",
    "encryption=on",
    "encryption=on,encrypt.format=luks",
    "preallocation=none",
    "size=1T,cluster_size=512",
    "size=4E",
];

/// Options of a new qcow2 image, some of which must be refused.
pub(super) fn options(rng: &mut Rng) -> &'static str {
    if rng.chance(30) {
        return rng.pick(&CONTRADICTIONS).copied().unwrap_or("size=4E");
    }
    weighted(&OPTIONS, rng)
}

/// A new image over the one under test.
pub(super) fn create(rng: &mut Rng) -> Command {
    let option = options(rng);
    Words::new("create")
        .add(["-f", "qcow2", "-F", "qcow2", "-b", "$test_img"])
        .maybe(60, rng, ["-o", option])
        .add(["out.img"])
        .done()
}

/// A new image that has nothing to do with the one under test, or how large it would be.
pub(super) fn alone(rng: &mut Rng) -> Command {
    if rng.chance(20) {
        const SIZES: [&str; 4] = ["0", "1G", "1P", "7E"];
        let size = rng.pick(&SIZES).copied().unwrap_or("1G");
        let option = weighted(&MEASURED, rng);
        return Words::new("measure")
            .add(["-O", "qcow2", "-o", option, "--size", size])
            .done();
    }
    const SIZES: [&str; 4] = ["64k", "1M", "1000k", "9M"];
    let option = options(rng);
    let output = if rng.chance(8) {
        "missing/out.img"
    } else {
        "out.img"
    };
    let words = Words::new("create").add(["-f", "qcow2", "-o", option, output]);
    // A size among the options is not given twice.
    if option.starts_with("size=") {
        return words.done();
    }
    let size = rng.pick(&SIZES).copied().unwrap_or("1M");
    words.add([size]).done()
}

/// Options of the image that is measured.
const MEASURED: [(u64, &str); 15] = [
    (2, "cluster_size=512"),
    (1, "cluster_size=513"),
    (2, "extended_l2=on"),
    (1, "refcount_bits=1"),
    (1, "refcount_bits=3"),
    (1, "compat=0.10"),
    (1, "compat=1.1"),
    (1, "compat=2.0"),
    (1, "compat=0.10,refcount_bits=1"),
    (1, "preallocation=full"),
    (1, "preallocation=none"),
    (1, "backing_file=backing.img,backing_fmt=raw"),
    // To measure a LUKS header is to make one, which takes long on purpose; without a
    // key it is refused at once.
    (1, "encrypt.format=luks,encrypt.key-secret=none"),
    (1, "encrypt.format=luks"),
    (1, "encrypt.format=luks,encrypt.cipher-alg=none"),
];

/// How large a copy of the image would be.
pub(super) fn measure(base: &Qcow2Base, rng: &mut Rng) -> Command {
    let option = weighted(&MEASURED, rng);
    let words = Words::new("measure")
        .format(rng)
        .maybe(80, rng, ["-O", "qcow2"])
        .maybe(40, rng, ["-o", option]);
    match rng.pick(&base.image.snapshots) {
        Some(snapshot) if rng.chance(40) => words.add(["-l", &snapshot.name]).image(),
        _ => words.image(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_and_contradictions_refused() {
        let folder = tempfile::tempdir().unwrap();
        let create = |option: &str| {
            let mut program = std::process::Command::new("qemu-img");
            let words = ["create", "-f", "qcow2", "-o", option, "out.img"];
            program.args(words).current_dir(&folder);
            if !option.starts_with("size=") {
                program.arg("1M");
            }
            program.output()
        };
        if create("compat=1.1").is_err() {
            println!("not run: qemu-img is not installed");
            return;
        }
        for (_, option) in OPTIONS {
            let done = create(option).unwrap();
            // Those of encryption need a key, which only the commands on such images have.
            let is_taken = !option.starts_with("encrypt.");
            assert_eq!(done.status.success(), is_taken, "{option}: {done:?}");
        }
        for option in CONTRADICTIONS {
            let done = create(option).unwrap();
            assert!(!done.status.success(), "{option}: {done:?}");
        }
    }
}
