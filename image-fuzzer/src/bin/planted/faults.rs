//! A reader that validates an image step by step, and in which each validation can be missing.
//!
//! `planted fault NAME VERB ... IMAGE` stands in for `qemu-img`, and with options in place of
//! the verb for `qemu-io`. It refuses what breaks a rule and says which, except for the rule
//! NAME: that one it does not know.

use std::fs;
use std::process::ExitCode;

use image_formats::qcow2::records::{
    EXT_BACKING_FORMAT, EXT_BITMAPS, EXT_DATA_FILE, EXT_ENCRYPTION,
};
use nix::sys::signal::Signal;

use super::consequences::Consequence::{
    self, Aborts, Accepts, Allocates, ChangesData, DamagesTables, Floods, Grows, OverReads,
    OverWrites, Panics, Prints, PrintsUnwritten, ReadsFreed, RepairsNothing, Spins,
};
use super::reader::Stage::{Allocate, Bitmap, Check, Data, Open, Repair, Snapshot, Tables};
use super::reader::{Opened, Stage};

/// A validation, and what happens without it.
struct Validation {
    name: &'static str,
    stage: Stage,
    broken: fn(&Opened) -> bool,
    consequence: Consequence,
}

const fn rule(
    name: &'static str,
    stage: Stage,
    broken: fn(&Opened) -> bool,
    consequence: Consequence,
) -> Validation {
    Validation {
        name,
        stage,
        broken,
        consequence,
    }
}

const SEGV: Consequence = Consequence::Signal(Signal::SIGSEGV);
const BUS: Consequence = Consequence::Signal(Signal::SIGBUS);
const DIVIDES: Consequence = Consequence::Signal(Signal::SIGFPE);
const ASAN_HEAP: Consequence = Prints(
    "==1==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x1 at pc 0x2\n\
     READ of size 8 at 0x1 thread T0\n    #0 0x55d2 in copy_header ../reader.c:40\n",
    1,
);
const ASAN_STACK: Consequence = Prints(
    "==1==ERROR: AddressSanitizer: stack-buffer-overflow on address 0x1 at pc 0x2\n\
     WRITE of size 8 at 0x1 thread T0\n    #0 0x55d2 in read_extension ../reader.c:90\n",
    1,
);
const UBSAN: Consequence = Prints(
    "../reader.c:71:9: runtime error: signed integer overflow: \
     8 * 9223372036854775807 cannot be represented in type 'long int'",
    0,
);
const GO: Consequence = Prints(
    "panic: runtime error: index out of range [9] with length 3\n\n\
     goroutine 1 [running]:\nmain.readTable({0x1, 0x2})\n\t/src/reader/table.go:31 +0x9d\n\
     exit status 2",
    2,
);
const PYTHON: Consequence = Prints(
    "Traceback (most recent call last):\n  File \"/src/reader.py\", line 4, in decompress\n    \
     return CODECS[kind]\nKeyError: 7",
    1,
);
const CPP: Consequence = Aborts(
    "terminate called after throwing an instance of 'std::out_of_range'\n  what():  map::at",
);

const MIB: u64 = 1 << 20;

/// In the order in which the reader looks.
#[rustfmt::skip]
const VALIDATIONS: &[Validation] = &[
    rule("version", Open, |i| !(2..=3).contains(&i.n("header.version")), CPP),
    rule("cluster-size", Open, |i| !(9..=21).contains(&i.n("header.cluster_bits")), Floods),
    rule("header-length-short", Open, |i| (1..104).contains(&i.n("header.header_length")), PrintsUnwritten),
    rule("header-length-long", Open, |i| i.n("header.header_length") > i.cluster, ASAN_HEAP),
    rule("refcount-order", Open, |i| i.n("header.refcount_order") > 6, SEGV),
    rule("encryption-method", Open, |i| i.n("header.crypt_method") > 2, Consequence::Signal(Signal::SIGILL)),
    rule("compression-type", Open, |i| i.n("header.compression_type") > 1, PYTHON),
    rule("backing-name-length", Open, |i| i.n("header.backing_file_size") > 1023, OverWrites),
    rule("backing-name-place", Open, |i| i.n("header.backing_file_offset") >= i.cluster, ReadsFreed),
    rule("backing-name-empty", Open, |i| i.n("header.backing_file_offset") != 0 && i.n("header.backing_file_size") == 0, Panics),
    rule("disk-size-overflow", Open, |i| i.n("header.size") >= 1 << 61, UBSAN),
    rule("l1-length", Open, |i| i.n("header.l1_size") * 8 > 32 * MIB, Allocates),
    rule("l1-short", Open, |i| (i.n("header.l1_size") as u128) * u128::from(per_table(i)) < i.n("header.size").into(), Panics),
    rule("l1-unaligned", Open, |i| i.is_unaligned("header.l1_table_offset"), BUS),
    rule("l1-past-the-end", Open, |i| i.n("header.l1_size") > 0 && i.is_past_end("header.l1_table_offset"), GO),
    rule("refcount-table-empty", Open, |i| i.n("header.refcount_table_clusters") == 0, DIVIDES),
    rule("refcount-table-length", Open, |i| i.n("header.refcount_table_clusters") * i.cluster > 8 * MIB, Allocates),
    rule("refcount-table-unaligned", Open, |i| i.is_unaligned("header.refcount_table_offset"), BUS),
    rule("refcount-table-place", Open, |i| i.is_past_end("header.refcount_table_offset"), SEGV),
    rule("extension-length", Open, |i| (0..16).any(|at| i.n(&format!("ext[{at}].length")) > i.cluster), Spins),
    rule("incompatible-features", Open, |i| i.n("header.incompatible_features.reserved") != 0, Accepts),
    rule("backing-format-length", Open, |i| i.ext(EXT_BACKING_FORMAT, "length").is_some_and(|length| length > 15), OverWrites),
    rule("data-file-name-length", Open, |i| i.ext(EXT_DATA_FILE, "length").is_some_and(|length| length > 1022), ASAN_STACK),
    rule("data-file-name-empty", Open, |i| i.ext(EXT_DATA_FILE, "length") == Some(0), OverReads),
    rule("bitmaps-extension-length", Open, |i| i.ext(EXT_BITMAPS, "length").is_some_and(|length| length != 24), ASAN_STACK),
    rule("bitmaps-none", Open, |i| i.ext(EXT_BITMAPS, "nb_bitmaps") == Some(0), DIVIDES),
    rule("bitmaps-many", Open, |i| i.ext(EXT_BITMAPS, "nb_bitmaps").is_some_and(|count| count > 65535), Allocates),
    rule("bitmap-directory-tiny", Open, |i| i.ext(EXT_BITMAPS, "bitmap_directory_size").is_some_and(|size| size < 32), OverReads),
    rule("bitmap-directory-long", Open, |i| i.ext(EXT_BITMAPS, "bitmap_directory_size").is_some_and(|size| size > 64 * MIB), Allocates),
    rule("bitmap-directory-unaligned", Open, |i| i.ext(EXT_BITMAPS, "bitmap_directory_offset").is_some_and(|at| at % i.cluster != 0),
        Aborts("planted: ../reader.c:12: read_directory: Assertion `is_aligned(offset)' failed.")),
    rule("encryption-extension-length", Open, |i| i.ext(EXT_ENCRYPTION, "length").is_some_and(|length| length != 16), SEGV),
    rule("encryption-header-unaligned", Open, |i| i.ext(EXT_ENCRYPTION, "encryption_offset").is_some_and(|at| at % i.cluster != 0), OverReads),
    rule("encryption-header-length", Open, |i| i.ext(EXT_ENCRYPTION, "encryption_length").is_some_and(|length| length < 592), PrintsUnwritten),
    rule("luks-key-length", Open, |i| i.image.get_uint("luks.key_bytes").is_some_and(|bytes| bytes == 0 || bytes > 64), OverWrites),
    rule("snapshot-count", Open, |i| i.n("header.nb_snapshots") > 65536, Aborts("planted: ../reader.c:31: read_snapshots: Assertion `count <= MAX' failed.")),
    rule("snapshot-table-unaligned", Open, |i| i.n("header.nb_snapshots") > 0 && i.n("header.snapshots_offset") % 8 != 0, SEGV),
    rule("snapshot-extra-data", Open, |i| i.n("snapshot[0].extra_data_size") > 1024, Allocates),
    rule("snapshot-name-length", Open, |i| i.n("snapshot[0].name_size") > 255, ReadsFreed),
    rule("bitmap-granularity", Open, |i| i.n("bitmap[0].table_size") > 0 && !(9..=31).contains(&i.n("bitmap[0].granularity_bits")), Panics),
    rule("bitmap-name-length", Open, |i| i.n("bitmap[0].name_size") > 1023, OverWrites),
    rule("bitmap-table-length", Bitmap, |i| i.n("bitmap[0].table_size") > MIB, Grows),
    rule("bitmap-entry-unaligned", Bitmap, |i| i.n("bitmap[0].table[0].offset") % i.cluster != 0, BUS),

    rule("refcount-block-to-itself", Tables, |i| i.n("refcount_table[0].offset") == i.n("header.refcount_table_offset"), Spins),
    rule("refcount-block-unaligned", Tables, |i| i.is_unaligned("refcount_table[0].offset"), SEGV),
    rule("refcount-block-past-the-end", Tables, |i| i.is_past_end("refcount_table[0].offset"), GO),
    rule("l2-table-to-itself", Tables, |i| i.n("header.l1_size") > 0 && i.n("l1[0].offset") == i.n("header.l1_table_offset"), Spins),
    rule("l2-table-unaligned", Tables, |i| i.is_unaligned("l1[0].offset"), SEGV),
    rule("l2-table-past-the-end", Tables, |i| i.is_past_end("l1[0].offset"), Panics),
    rule("snapshot-l1-unaligned", Snapshot, |i| i.is_unaligned("snapshot[0].l1_table_offset"), SEGV),
    rule("snapshot-l1-length", Snapshot, |i| i.n("snapshot[0].l1_size") * 8 > 32 * MIB, Allocates),
    rule("snapshot-disk-size", Snapshot, |i| i.n("snapshot[0].disk_size") > 1 << 40, Grows),
    rule("data-cluster-unaligned", Data, |i| i.n("l2[0].entry[0].compressed") == 0 && i.is_unaligned("l2[0].entry[0].offset"), OverReads),
    rule("compressed-past-the-end", Data, |i| i.n("l2[0].entry[0].compressed_offset") > i.len, Floods),
    rule("reserved-bit-of-l2", Check, |i| i.n("l2[0].entry[0].reserved_low") != 0, RepairsNothing),
    rule("reserved-bit-of-l1", Check, |i| i.n("l1[0].reserved_low") != 0, PYTHON),
    rule("refcount-of-the-header", Allocate, |i| i.n("refcount_block[0].entry[0]") == 0, DamagesTables),
    rule("not-copied", Repair, |i| i.n("l2[0].entry[0].compressed") == 0 && i.n("l2[0].entry[0].copied") == 0 && i.refcount("l2[0].entry[0].offset") == 1, ChangesData),
];

/// Bytes of the disk that an L2 table maps.
fn per_table(opened: &Opened) -> u64 {
    let extended = opened.n("header.incompatible_features.extended_l2");
    opened.cluster / (8 << extended) * opened.cluster
}

/// Prints the name of each fault and the class of findings that it shows as.
pub(crate) fn list() -> ExitCode {
    for Validation {
        name, consequence, ..
    } in VALIDATIONS
    {
        println!("{name}\t{}", consequence.class());
    }
    ExitCode::SUCCESS
}

/// Does the command of these words without the validation of that name.
pub(crate) fn run(missing: &str, words: &[&str]) -> std::io::Result<ExitCode> {
    let mut opened = Opened::new(words)?;
    for broken in VALIDATIONS {
        if !(opened.reaches(broken.stage) && (broken.broken)(&opened)) {
            continue;
        }
        if broken.name != missing {
            eprintln!("planted: the image breaks the rule {}", broken.name);
            let is_damage = opened.reaches(Check) && broken.stage != Open;
            return Ok(ExitCode::from(if is_damage { 2 } else { 1 }));
        }
        if let Some(ended) = broken.consequence.happen(&mut opened)? {
            return Ok(ended);
        }
    }
    let last = words.last().copied().unwrap_or_default();
    match opened.verb.as_str() {
        "convert" if !last.ends_with(".qcow2") => fs::write(last, opened.data())?,
        "compare" if fs::read("before.raw")? != opened.data() => return Ok(ExitCode::from(1)),
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}
