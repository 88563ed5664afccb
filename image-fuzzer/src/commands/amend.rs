//! `qemu-img amend`: other options for the image under test.

use super::Command;
use super::words::{Words, weighted};
use image_formats::qcow2::{Compression, Content};
use image_mutations::base::Qcow2Base;
use image_mutations::rng::Rng;

/// Other widths of refcounts.
const WIDTHS: [(u64, &str); 8] = [
    (1, "refcount_bits=1"),
    (1, "refcount_bits=2"),
    (1, "refcount_bits=4"),
    (1, "refcount_bits=8"),
    (1, "refcount_bits=16"),
    (1, "refcount_bits=32"),
    (1, "refcount_bits=64"),
    (1, "refcount_bits=3"),
];

/// The older version of the format.
const OLDER: [(u64, &str); 4] = [
    (1, "compat=0.10"),
    (4, "compat=0.10,refcount_bits=16"),
    (1, "compat=0.10,lazy_refcounts=off"),
    (1, "compat=0.10,lazy_refcounts=on"),
];

/// The newer one.
const NEWER: [(u64, &str); 4] = [
    (3, "compat=1.1"),
    (1, "compat=1.1,lazy_refcounts=on"),
    (1, "compat=1.1,refcount_bits=64"),
    (1, "compat=2.0"),
];

/// Lazy refcounts for an image without, and the other way round.
const LAZY: [(u64, &str); 2] = [(1, "lazy_refcounts=on"), (3, "lazy_refcounts=off")];

/// All else.
const OTHERS: [(u64, &str); 22] = [
    (1, "compat=1.1"),
    (1, "compat=2.0"),
    (1, "lazy_refcounts=on"),
    (1, "lazy_refcounts=off"),
    (1, "size=3M"),
    (1, "size=512"),
    (1, "size=1000"),
    (1, "backing_file=,backing_fmt="),
    (1, "backing_file=backing.img,backing_fmt=raw"),
    (1, "data_file=test.data"),
    (1, "data_file_raw=on"),
    (1, "data_file_raw=off"),
    (1, "cluster_size=512"),
    (1, "preallocation=full"),
    (1, "compression_type=zstd"),
    (1, "extended_l2=on"),
    (1, "encrypt.format=luks"),
    (1, "encrypt.state=inactive,encrypt.keyslot=0"),
    (1, "encrypt.state=active,encrypt.new-secret=none"),
    (1, "encrypt.keyslot=1"),
    (1, "encryption=on"),
    (1, "backing_file=missing.img"),
];

/// The command that sets `options`.
pub(super) fn to(options: &str) -> Command {
    Words::new("amend")
        .add(["-f", "qcow2", "-o", options])
        .image()
}

/// One command.
pub(super) fn amend(base: &Qcow2Base, rng: &mut Rng) -> Command {
    let image = &base.image;
    let is_new = image.version == 3;
    // Versions come with what the image has to lose or to gain.
    let to_lose = image.compression == Compression::Zstd
        || (image.clusters.iter()).any(|cluster| cluster.content == Content::Zero);
    let older = match (is_new, to_lose) {
        (true, true) => 70,
        (true, false) => 30,
        _ => 5,
    };
    let newer = if is_new { 5 } else { 60 };
    let lazy = if image.lazy_refcounts { 25 } else { 5 };
    let options: &[(u64, &str)] = match rng.weighted(&[30, older, newer, lazy, 30]) {
        Some(0) => &WIDTHS,
        Some(1) => &OLDER,
        Some(2) => &NEWER,
        Some(3) => &LAZY,
        _ => &OTHERS,
    };
    let option = weighted(options, rng);
    Words::new("amend")
        .format(rng)
        .maybe(5, rng, ["--force"])
        .add(["-o", option])
        .image()
}
