//! Options of the qcow2 driver with which an image is opened, or opened again.

use super::words::weighted;
use image_mutations::base::Qcow2Base;
use image_mutations::rng::Rng;

/// Options that change what the driver does, each with its weight. Those that contradict each
/// other or the image must be refused.
const OPTIONS: [(u64, &str); 48] = [
    (3, "backing=null-co://"),
    (1, "backing.driver=null-co"),
    (2, "data-file.driver=file,data-file.filename=test.data"),
    (2, "data-file.driver=null-co,data-file.size=1M"),
    (2, "cache-size=512"),
    (1, "cache-size=64k"),
    (1, "cache-size=7E"),
    (1, "cache-size=7E,refcount-cache-size=1M"),
    (1, "cache-size=1M,l2-cache-size=512k"),
    (1, "cache-size=1M,l2-cache-size=2M"),
    (1, "cache-size=1M,refcount-cache-size=512k"),
    (1, "cache-size=1M,refcount-cache-size=2M"),
    (1, "l2-cache-size=1M,refcount-cache-size=1M,cache-size=2M"),
    (1, "l2-cache-size=512"),
    (1, "l2-cache-size=8E"),
    (2, "refcount-cache-size=7E"),
    (1, "refcount-cache-size=2048"),
    (1, "l2-cache-entry-size=100"),
    (1, "l2-cache-entry-size=512"),
    (1, "l2-cache-entry-size=4096"),
    (2, "l2-cache-size=4096,l2-cache-entry-size=512"),
    (
        2,
        "l2-cache-size=1024,l2-cache-entry-size=512,refcount-cache-size=512",
    ),
    (1, "cache-clean-interval=1"),
    (1, "cache-clean-interval=99999999999"),
    (3, "lazy-refcounts=on"),
    (1, "lazy-refcounts=off"),
    (3, "overlap-check=all"),
    (1, "overlap-check=none"),
    (1, "overlap-check=constant"),
    (1, "overlap-check=some"),
    (2, "overlap-check=all,overlap-check.template=none"),
    (
        1,
        "overlap-check.template=none,overlap-check.inactive-l2=on",
    ),
    (
        1,
        "overlap-check.template=cached,overlap-check.bitmap-directory=off",
    ),
    (1, "overlap-check.template=some"),
    (2, "discard-no-unref=on"),
    (3, "discard=unmap"),
    (8, "discard=unmap,discard-no-unref=on"),
    (
        3,
        "discard=unmap,discard-no-unref=on,pass-discard-request=on",
    ),
    (
        2,
        "discard=unmap,pass-discard-other=on,pass-discard-snapshot=off",
    ),
    (2, "discard=unmap,pass-discard-request=off"),
    (2, "discard=unmap,detect-zeroes=unmap"),
    (1, "detect-zeroes=on"),
    (1, "encrypt.format=aes,encrypt.key-secret=none"),
    (1, "encrypt.format=luks,encrypt.key-secret=none"),
    (2, "encrypt.format=luks"),
    (2, "encrypt.format=aes"),
    (1, "encrypt.format=qcow"),
    (2, "discard=unmap,cache.no-flush=on,lazy-refcounts=on"),
];

/// The image with one or two of them.
pub(super) fn one(base: &Qcow2Base, rng: &mut Rng) -> String {
    // Small tables fit into the smallest cache; large ones make it write them as it goes on.
    let option = match base.image.encryption {
        Some(_) if rng.chance(20) => "encrypt.format=aes",
        _ => weighted(&OPTIONS, rng),
    };
    format!("driver=qcow2,file.filename=$test_img,{option}")
}

/// Options with which an image is opened again.
const REOPEN: [(u64, &str); 24] = [
    (8, "-r"),
    (10, "-w"),
    (3, "-o lazy-refcounts=on"),
    (3, "-o lazy-refcounts=off"),
    (3, "-o overlap-check=all"),
    (1, "-o overlap-check.template=none"),
    (1, "-o overlap-check=some"),
    (2, "-o cache-size=1M"),
    (1, "-o cache-size=1M,l2-cache-size=2M"),
    (2, "-o l2-cache-size=4096,l2-cache-entry-size=512"),
    (1, "-o refcount-cache-size=2048"),
    (2, "-o cache-clean-interval=1"),
    (2, "-o discard=unmap,discard-no-unref=on"),
    (1, "-o discard=unmap,pass-discard-request=off"),
    (1, "-o detect-zeroes=on"),
    (2, "-o file.filename=other.img"),
    (1, "-o file.locking=off"),
    (1, "-o backing="),
    (1, "-o backing.filename=other.img"),
    (1, "-o encrypt.format=luks"),
    (1, "-o driver=raw"),
    (1, "-c writethrough"),
    (1, "-c unsafe"),
    (1, "-c none -r"),
];

/// The operation of `qemu-io` that opens the image again.
pub(super) fn reopen(rng: &mut Rng) -> String {
    format!("reopen {}", weighted(&REOPEN, rng))
}
