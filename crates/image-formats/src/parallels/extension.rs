//! The format extension: its features, and the dirty bitmaps among them.

use md5::{Digest as _, Md5};

use super::layout::Layout;
use super::rules::{CHECKSUM, sections};
use crate::field::Kind;
use crate::io::ReadAt as _;
use crate::row::{Row, bit_rows, rows};
use crate::store::Store;
use crate::structure::{Derivation, Structure, Table, number};
use crate::value::Endian::Little;
use crate::value::Value;

/// The magic number of the extension.
pub(super) const MAGIC: u64 = 0xab23_4cef_23dc_ea87;
/// The feature that a dirty bitmap is.
pub(super) const DIRTY_BITMAP: u64 = 0x2038_5fae_252c_b34a;
/// The feature that ends them.
pub(super) const END: u64 = 0;
/// Bytes before the features, which the checksum leaves out.
pub(super) const HEADER_LEN: u64 = 24;
/// Bytes before the data of a feature.
pub(super) const FEATURE_LEN: u64 = 24;
/// Bytes before the table of a bitmap.
pub(super) const BITMAP_LEN: u64 = 32;
/// The most features that are looked at.
const MOST_FEATURES: usize = 256;
/// The longest extension whose checksum is known, in bytes.
const LONGEST: u64 = 64 << 20;
/// The most bytes of an unknown feature that are a field.
const MOST_DATA: u64 = 1 << 16;

const EXTENSION: &[Row] = rows![
    "magic", 0, 8, Magic, "must be 0xab234cef23dcea87";
    "checksum", 8, 16, Bytes, "the MD5 of the rest of the cluster";
];

const FEATURE: &[Row] = rows![
    "magic", 0, 8, Choice, "0 ends them, 0x20385fae252cb34a is a dirty bitmap";
    "flags", 8, 8, Flags, "bits 0 and 1 only; QEMU knows none", bit_rows![
        "necessary", 0, 1, Flag, "";
        "transit", 1, 1, Flag, "";
    ];
    "data_size", 16, 4, Length, "within the extension";
    "unused", 20, 4, Reserved, "must be 0";
];

const BITMAP: &[Row] = rows![
    "size", 24, 8, Size, "sectors of the disk";
    "id", 32, 16, Bytes, "identifies it";
    "granularity", 48, 4, Count, "sectors for a bit, a power of two";
    "l1_size", 52, 4, Count, "clusters of the bitmap";
];

/// A feature, at byte `at`.
#[derive(Clone, Copy, Debug)]
pub(super) struct FeatureAt {
    pub(super) at: u64,
    pub(super) magic: u64,
    pub(super) data_size: u64,
    /// Whether all of its data is within the extension.
    pub(super) inside: bool,
}

/// The features of an image, up to the one that ends them or is damaged.
pub(super) fn features(source: &Store, layout: Layout) -> Vec<FeatureAt> {
    let mut all = Vec::new();
    let Some(extension) = layout.extension_at(source.len()) else {
        return all;
    };
    let end = extension + layout.cluster_size();
    let mut at = extension + HEADER_LEN;
    while at + FEATURE_LEN <= end && all.len() < MOST_FEATURES {
        let magic = number(source, at, 8, Little);
        let data_size = number(source, at + 16, 4, Little);
        let inside = at + FEATURE_LEN + data_size <= end;
        all.push(FeatureAt {
            at,
            magic,
            data_size,
            inside,
        });
        if magic == END || !inside {
            break;
        }
        at += (FEATURE_LEN + data_size).next_multiple_of(8);
    }
    all
}

/// Adds the extension, where there is one within the file.
pub(super) fn add(source: &Store, layout: Layout, structure: Structure) -> Structure {
    let Some(at) = layout.extension_at(source.len()) else {
        return structure;
    };
    let mut structure = structure
        .section(sections::EXTENSION)
        .record("ext", at, EXTENSION);
    for (index, feature) in features(source, layout).iter().enumerate() {
        let name = format!("ext.feature[{index}]");
        structure = structure
            .section(sections::EXTENSION)
            .record(&name, feature.at, FEATURE);
        let data = feature.at + FEATURE_LEN;
        match feature.magic {
            END => {}
            DIRTY_BITMAP if feature.data_size >= BITMAP_LEN => {
                let rule = "0 all zeros, 1 all ones, or where the cluster is, in sectors";
                let room = feature.data_size - BITMAP_LEN;
                let entries = number(source, feature.at + 52, 4, Little).min(room / 8);
                let place = (data + BITMAP_LEN, entries, 8);
                let table = Table::of_numbers(format!("{name}.l1"), place, Kind::Offset, rule);
                structure = structure
                    .section(sections::BITMAP)
                    .record(&name, feature.at, BITMAP)
                    .table(table);
            }
            _ => {
                let len = feature.data_size.min(MOST_DATA);
                let name = format!("{name}.data");
                structure = structure.run(&name, (data, len), Kind::Bytes, "");
            }
        }
    }
    if layout.cluster_size() > LONGEST {
        return structure;
    }
    structure.derived(
        "ext.checksum",
        Derivation::Checksum,
        CHECKSUM,
        move |bytes| {
            let len = layout.cluster_size() - HEADER_LEN;
            Value::Bytes(md5(bytes, at + HEADER_LEN, len))
        },
    )
}

/// The MD5 of `len` bytes from byte `at` on.
pub(super) fn md5(bytes: &Store, at: u64, len: u64) -> Vec<u8> {
    const CHUNK: u64 = 1 << 16;
    let mut sum = Md5::new();
    for from in (0..len).step_by(CHUNK as usize) {
        let count = (len - from).min(CHUNK) as usize;
        sum.update(bytes.read_vec(at + from, count));
    }
    sum.finalize().to_vec()
}
