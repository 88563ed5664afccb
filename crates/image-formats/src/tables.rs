//! Headers and tables of the formats other than qcow2, as far as they are flat.

use crate::checksum::{complement_sum, crc32c};
use crate::field::Endian::{Big, Little};
use crate::field::{Endian, Kind, Row, row};
use crate::fixed::{Array, Checksum, Record, Structure};
use crate::format::Format;
use crate::io::{ReadAt, read_vec};
use crate::luks;
use crate::value::Value;

/// Finds the structures of an image.
pub(crate) fn structure(source: &dyn ReadAt, format: Format) -> Structure {
    match format {
        Format::Qcow2 => Structure::default(),
        Format::Qcow => qcow(source),
        Format::Vmdk => vmdk(source),
        Format::Vhdx => vhdx(source),
        Format::Vdi => vdi(source),
        Format::Vpc => vpc(source),
        Format::Qed => qed(source),
        Format::Parallels => parallels(source),
        Format::Luks => luks_structure(),
        Format::Bochs => bochs(source),
        Format::Cloop => cloop(source),
        Format::Dmg => dmg(source),
    }
}

fn record(name: &str, at: u64, rows: &'static [Row], endian: Endian) -> Record {
    Record {
        name: name.to_owned(),
        at,
        rows,
        endian,
    }
}

/// A number of `bytes` bytes in the file.
fn number(source: &dyn ReadAt, at: u64, bytes: usize, endian: Endian) -> u64 {
    let mut raw = read_vec(source, at, bytes);
    if endian == Little {
        raw.reverse();
    }
    raw.iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn text(bytes: &[u8]) -> Value {
    bytes.into()
}

const QCOW: &[Row] = &[
    row("magic", 0, 4, Kind::Magic, "must be 0x514649fb"),
    row("version", 4, 4, Kind::Version, "must be 1"),
    row(
        "backing_file_offset",
        8,
        8,
        Kind::Offset,
        "0 without backing file",
    ),
    row(
        "backing_file_size",
        16,
        4,
        Kind::Length,
        "at most 1023 bytes",
    ),
    row("mtime", 20, 4, Kind::Number, ""),
    row("size", 24, 8, Kind::Size, "more than 1"),
    row("cluster_bits", 32, 1, Kind::Log2, "9 to 16"),
    row("l2_bits", 33, 1, Kind::Log2, "6 to 13"),
    row("padding", 34, 2, Kind::Reserved, ""),
    row("crypt_method", 36, 4, Kind::Choice, "0 none, 1 AES"),
    row("l1_table_offset", 40, 8, Kind::Offset, "within the file"),
];

fn qcow(source: &dyn ReadAt) -> Structure {
    let at = |offset, bytes| number(source, offset, bytes, Big);
    // Size over what one L1 entry covers; hostile widths give no table.
    let shift = (at(32, 1) + at(33, 1)).min(63) as u32;
    let l1 = Array {
        name: "l1",
        at: at(40, 8),
        entries: at(24, 8).div_ceil(1 << shift),
        bytes: 8,
        endian: Big,
    };
    Structure {
        records: vec![record("header", 0, QCOW, Big)],
        arrays: vec![l1.within(source.len())],
        marks: vec![
            ("header.magic", Value::Uint(0x5146_49fb)),
            ("header.version", Value::Uint(1)),
        ],
        ..Structure::default()
    }
}

const VMDK: &[Row] = &[
    row("magic", 0, 4, Kind::Bytes, "must be KDMV"),
    row("version", 4, 4, Kind::Version, "1 to 3"),
    row("flags", 8, 4, Kind::Flags, ""),
    row(
        "capacity",
        12,
        8,
        Kind::Size,
        "in sectors, a multiple of the granularity",
    ),
    row(
        "granularity",
        20,
        8,
        Kind::Count,
        "sectors in a grain, a power of two, at least 8",
    ),
    row("desc_offset", 28, 8, Kind::Offset, "in sectors"),
    row("desc_size", 36, 8, Kind::Length, "in sectors"),
    row("num_gtes_per_gt", 44, 4, Kind::Count, "512"),
    row("rgd_offset", 48, 8, Kind::Offset, "in sectors"),
    row(
        "gd_offset",
        56,
        8,
        Kind::Offset,
        "in sectors; all ones with a footer",
    ),
    row("grain_offset", 64, 8, Kind::Offset, "in sectors"),
    row("unclean_shutdown", 72, 1, Kind::Flag, ""),
    row(
        "check_bytes",
        73,
        4,
        Kind::Bytes,
        "must be LF, space, CR, LF",
    ),
    row(
        "compress_algorithm",
        77,
        2,
        Kind::Choice,
        "0 none, 1 deflate",
    ),
];

fn vmdk(source: &dyn ReadAt) -> Structure {
    let at = |offset, bytes| number(source, offset, bytes, Little);
    let per_table = at(20, 8).saturating_mul(at(44, 4));
    let entries = at(12, 8)
        .checked_div(per_table)
        .map_or(0, |tables| tables + 1);
    let directory = |name, offset: u64| {
        let at = offset.saturating_mul(512);
        Array {
            name,
            at,
            entries,
            bytes: 4,
            endian: Little,
        }
        .within(source.len())
    };
    Structure {
        records: vec![record("header", 0, VMDK, Little)],
        arrays: vec![
            directory("grain_directory", at(56, 8)),
            directory("redundant_grain_directory", at(48, 8)),
        ],
        marks: vec![
            ("header.magic", text(b"KDMV")),
            ("header.check_bytes", text(b"\n \r\n")),
        ],
        ..Structure::default()
    }
}

const VHDX_IDENTIFIER: &[Row] = &[
    row("signature", 0, 8, Kind::Bytes, "must be vhdxfile"),
    row("creator", 8, 512, Kind::Bytes, "UTF-16"),
];

const VHDX_HEADER: &[Row] = &[
    row("signature", 0, 4, Kind::Bytes, "must be head"),
    row(
        "checksum",
        4,
        4,
        Kind::Checksum,
        "CRC-32C of 4 KiB with this field 0",
    ),
    row(
        "sequence_number",
        8,
        8,
        Kind::Number,
        "the larger one is current",
    ),
    row("file_write_guid", 16, 16, Kind::Bytes, ""),
    row("data_write_guid", 32, 16, Kind::Bytes, ""),
    row(
        "log_guid",
        48,
        16,
        Kind::Bytes,
        "all zeros without a log to replay",
    ),
    row("log_version", 64, 2, Kind::Version, "must be 0"),
    row("version", 66, 2, Kind::Version, "must be 1"),
    row("log_length", 68, 4, Kind::Length, "a multiple of 1 MiB"),
    row("log_offset", 72, 8, Kind::Offset, "a multiple of 1 MiB"),
];

const VHDX_REGIONS: &[Row] = &[
    row("signature", 0, 4, Kind::Bytes, "must be regi"),
    row(
        "checksum",
        4,
        4,
        Kind::Checksum,
        "CRC-32C of 64 KiB with this field 0",
    ),
    row("entry_count", 8, 4, Kind::Count, "at most 2047"),
    row("reserved", 12, 4, Kind::Reserved, "must be 0"),
];

const VHDX_REGION: &[Row] = &[
    row("guid", 0, 16, Kind::Bytes, "BAT or metadata"),
    row("file_offset", 16, 8, Kind::Offset, "a multiple of 1 MiB"),
    row("length", 24, 4, Kind::Length, "a multiple of 1 MiB"),
    row("required", 28, 4, Kind::Flags, "bit 0 only"),
];

fn vhdx(source: &dyn ReadAt) -> Structure {
    const REGIONS: [(&str, u64); 2] = [
        ("region_table[0]", 192 << 10),
        ("region_table[1]", 256 << 10),
    ];
    let mut records = vec![
        record("identifier", 0, VHDX_IDENTIFIER, Little),
        record("header[0]", 64 << 10, VHDX_HEADER, Little),
        record("header[1]", 128 << 10, VHDX_HEADER, Little),
    ];
    for (name, at) in REGIONS {
        records.push(record(name, at, VHDX_REGIONS, Little));
        let entries = number(source, at + 8, 4, Little).min(64);
        for index in 0..entries {
            records.push(record(
                &format!("{name}.entry[{index}]"),
                at + 16 + index * 32,
                VHDX_REGION,
                Little,
            ));
        }
    }
    Structure {
        records,
        arrays: Vec::new(),
        checksums: vhdx_checksums(source),
        marks: vec![
            ("identifier.signature", text(b"vhdxfile")),
            ("region_table[0].signature", text(b"regi")),
        ],
    }
}

/// Headers and region tables; those without their signature are not there.
fn vhdx_checksums(source: &dyn ReadAt) -> Vec<Checksum> {
    const ALL: [(&str, u64, usize, &[u8; 4]); 4] = [
        ("header[0].checksum", 64 << 10, 4 << 10, b"head"),
        ("header[1].checksum", 128 << 10, 4 << 10, b"head"),
        ("region_table[0].checksum", 192 << 10, 64 << 10, b"regi"),
        ("region_table[1].checksum", 256 << 10, 64 << 10, b"regi"),
    ];
    let there = ALL
        .into_iter()
        .filter(|(_, at, _, signature)| read_vec(source, *at, 4) == *signature);
    there
        .map(|(path, at, len, _)| Checksum {
            path,
            at,
            len,
            sum: crc32c,
        })
        .collect()
}

const VDI: &[Row] = &[
    row("text", 0, 64, Kind::Text, ""),
    row("signature", 64, 4, Kind::Magic, "must be 0xbeda107f"),
    row("version", 68, 4, Kind::Version, "must be 0x00010001"),
    row("header_size", 72, 4, Kind::Length, "at least 384"),
    row("image_type", 76, 4, Kind::Choice, "1 dynamic, 2 static"),
    row("image_flags", 80, 4, Kind::Flags, ""),
    row("description", 84, 256, Kind::Text, ""),
    row("offset_bmap", 340, 4, Kind::Offset, "a multiple of 512"),
    row("offset_data", 344, 4, Kind::Offset, "a multiple of 512"),
    row("cylinders", 348, 4, Kind::Count, ""),
    row("heads", 352, 4, Kind::Count, ""),
    row("sectors", 356, 4, Kind::Count, ""),
    row("sector_size", 360, 4, Kind::Count, "must be 512"),
    row("unused1", 364, 4, Kind::Reserved, ""),
    row(
        "disk_size",
        368,
        8,
        Kind::Size,
        "at most blocks_in_image blocks",
    ),
    row(
        "block_size",
        376,
        4,
        Kind::Size,
        "1 MiB in images QEMU reads",
    ),
    row("block_extra", 380, 4, Kind::Size, ""),
    row(
        "blocks_in_image",
        384,
        4,
        Kind::Count,
        "QEMU reads up to 0x1fffffff",
    ),
    row("blocks_allocated", 388, 4, Kind::Count, ""),
    row("uuid_image", 392, 16, Kind::Bytes, ""),
    row("uuid_last_snap", 408, 16, Kind::Bytes, ""),
    row("uuid_link", 424, 16, Kind::Bytes, "all zeros"),
    row("uuid_parent", 440, 16, Kind::Bytes, "all zeros"),
];

fn vdi(source: &dyn ReadAt) -> Structure {
    let at = |offset| number(source, offset, 4, Little);
    let map = Array {
        name: "block_map",
        at: at(340),
        entries: at(384),
        bytes: 4,
        endian: Little,
    };
    Structure {
        records: vec![record("header", 0, VDI, Little)],
        arrays: vec![map.within(source.len())],
        marks: vec![("header.signature", Value::Uint(0xbeda_107f))],
        ..Structure::default()
    }
}

const VPC_FOOTER: &[Row] = &[
    row("creator", 0, 8, Kind::Bytes, "must be conectix"),
    row("features", 8, 4, Kind::Flags, ""),
    row("version", 12, 4, Kind::Version, "must be 0x00010000"),
    row(
        "data_offset",
        16,
        8,
        Kind::Offset,
        "of the dynamic header; all ones for fixed disks",
    ),
    row("timestamp", 24, 4, Kind::Number, ""),
    row("creator_app", 28, 4, Kind::Bytes, ""),
    row("major", 32, 2, Kind::Number, ""),
    row("minor", 34, 2, Kind::Number, ""),
    row("creator_os", 36, 4, Kind::Bytes, ""),
    row("orig_size", 40, 8, Kind::Size, ""),
    row("current_size", 48, 8, Kind::Size, ""),
    row("cyls", 56, 2, Kind::Count, ""),
    row("heads", 58, 1, Kind::Count, ""),
    row("secs_per_cyl", 59, 1, Kind::Count, ""),
    row(
        "type",
        60,
        4,
        Kind::Choice,
        "2 fixed, 3 dynamic, 4 differencing",
    ),
    row(
        "checksum",
        64,
        4,
        Kind::Checksum,
        "complement of the sum of all bytes but these",
    ),
    row("uuid", 68, 16, Kind::Bytes, ""),
    row("in_saved_state", 84, 1, Kind::Flag, ""),
];

const VPC_DYNAMIC: &[Row] = &[
    row("magic", 0, 8, Kind::Bytes, "must be cxsparse"),
    row("data_offset", 8, 8, Kind::Offset, "all ones"),
    row(
        "table_offset",
        16,
        8,
        Kind::Offset,
        "of the block allocation table",
    ),
    row("version", 24, 4, Kind::Version, "must be 0x00010000"),
    row(
        "max_table_entries",
        28,
        4,
        Kind::Count,
        "enough for the size",
    ),
    row(
        "block_size",
        32,
        4,
        Kind::Size,
        "a power of two, a multiple of 512",
    ),
    row(
        "checksum",
        36,
        4,
        Kind::Checksum,
        "complement of the sum of all bytes but these",
    ),
    row("parent_uuid", 40, 16, Kind::Bytes, ""),
    row("parent_timestamp", 56, 4, Kind::Number, ""),
    row("reserved", 60, 4, Kind::Reserved, "must be 0"),
    row("parent_name", 64, 512, Kind::Bytes, "UTF-16"),
];

fn vpc(source: &dyn ReadAt) -> Structure {
    let at = |offset, bytes| number(source, offset, bytes, Big);
    let footer_at = source.len().saturating_sub(512);
    let mut structure = Structure {
        records: vec![record("footer", footer_at, VPC_FOOTER, Big)],
        marks: vec![("footer.creator", text(b"conectix"))],
        checksums: vec![vpc_checksum("footer.checksum", footer_at, 512)],
        ..Structure::default()
    };
    if read_vec(source, 0, 8) == b"conectix" {
        structure
            .records
            .insert(0, record("header", 0, VPC_FOOTER, Big));
        structure
            .checksums
            .push(vpc_checksum("header.checksum", 0, 512));
        let dynamic = at(16, 8);
        if dynamic < source.len() {
            structure
                .records
                .push(record("dynamic", dynamic, VPC_DYNAMIC, Big));
            structure
                .checksums
                .push(vpc_checksum("dynamic.checksum", dynamic, 1024));
            let (table, entries) = (
                at(dynamic.saturating_add(16), 8),
                at(dynamic.saturating_add(28), 4),
            );
            let bat = Array {
                name: "bat",
                at: table,
                entries,
                bytes: 4,
                endian: Big,
            };
            structure.arrays.push(bat.within(source.len()));
        }
    }
    structure
}

fn vpc_checksum(path: &'static str, at: u64, len: usize) -> Checksum {
    Checksum {
        path,
        at,
        len,
        sum: complement_sum,
    }
}

const QED: &[Row] = &[
    row("magic", 0, 4, Kind::Bytes, "must be QED, 0"),
    row(
        "cluster_size",
        4,
        4,
        Kind::Size,
        "a power of two, 4 KiB to 64 MiB",
    ),
    row(
        "table_size",
        8,
        4,
        Kind::Count,
        "clusters in a table, a power of two, 1 to 16",
    ),
    row("header_size", 12, 4, Kind::Count, "clusters in the header"),
    row("features", 16, 8, Kind::Flags, "bits 0 to 2 only"),
    row("compat_features", 24, 8, Kind::Flags, ""),
    row("autoclear_features", 32, 8, Kind::Flags, ""),
    row(
        "l1_table_offset",
        40,
        8,
        Kind::Offset,
        "cluster aligned, within the file",
    ),
    row("image_size", 48, 8, Kind::Size, "a multiple of 512"),
    row(
        "backing_filename_offset",
        56,
        4,
        Kind::Offset,
        "within the header",
    ),
    row(
        "backing_filename_size",
        60,
        4,
        Kind::Length,
        "within the header",
    ),
];

fn qed(source: &dyn ReadAt) -> Structure {
    let at = |offset, bytes| number(source, offset, bytes, Little);
    let entries = at(4, 4).saturating_mul(at(8, 4)) / 8;
    let l1 = Array {
        name: "l1",
        at: at(40, 8),
        entries,
        bytes: 8,
        endian: Little,
    };
    Structure {
        records: vec![record("header", 0, QED, Little)],
        arrays: vec![l1.within(source.len())],
        marks: vec![("header.magic", text(b"QED\0"))],
        ..Structure::default()
    }
}

const PARALLELS: &[Row] = &[
    row(
        "magic",
        0,
        16,
        Kind::Bytes,
        "WithoutFreeSpace or WithouFreSpacExt",
    ),
    row("version", 16, 4, Kind::Version, "must be 2"),
    row("heads", 20, 4, Kind::Count, ""),
    row("cylinders", 24, 4, Kind::Count, ""),
    row("tracks", 28, 4, Kind::Count, "sectors in a cluster, not 0"),
    row("bat_entries", 32, 4, Kind::Count, "enough for the sectors"),
    row(
        "nb_sectors",
        36,
        8,
        Kind::Size,
        "32 bits with the older magic",
    ),
    row("inuse", 44, 4, Kind::Magic, "0x746f6e59 while open"),
    row(
        "data_off",
        48,
        4,
        Kind::Offset,
        "in sectors, behind the table",
    ),
    row("flags", 52, 4, Kind::Flags, ""),
    row("ext_off", 56, 8, Kind::Offset, "in sectors"),
];

fn parallels(source: &dyn ReadAt) -> Structure {
    let entries = number(source, 32, 4, Little);
    let bat = Array {
        name: "bat",
        at: 64,
        entries,
        bytes: 4,
        endian: Little,
    };
    Structure {
        records: vec![record("header", 0, PARALLELS, Little)],
        arrays: vec![bat.within(source.len())],
        marks: vec![("header.version", Value::Uint(2))],
        ..Structure::default()
    }
}

fn luks_structure() -> Structure {
    let slot = |index| {
        let at = luks::SLOTS_AT + index * luks::SLOT_LENGTH;
        record(&format!("key_slot[{index}]"), at, luks::SLOT_ROWS, Big)
    };
    let mut records = vec![record("header", 0, luks::ROWS, Big)];
    records.extend((0..luks::SLOTS).map(slot));
    Structure {
        records,
        arrays: Vec::new(),
        marks: vec![
            ("header.magic", text(luks::MAGIC)),
            ("header.version", Value::Uint(1)),
        ],
        ..Structure::default()
    }
}

const BOCHS: &[Row] = &[
    row("magic", 0, 32, Kind::Text, "must be Bochs Virtual HD Image"),
    row("type", 32, 16, Kind::Text, "must be Redolog"),
    row("subtype", 48, 16, Kind::Text, "must be Growing"),
    row("version", 64, 4, Kind::Version, "0x00010000 or 0x00020000"),
    row("header", 68, 4, Kind::Length, "bytes in the header, 512"),
    row("catalog", 72, 4, Kind::Count, "entries in the catalog"),
    row("bitmap", 76, 4, Kind::Length, "bytes in a bitmap"),
    row(
        "extent",
        80,
        4,
        Kind::Size,
        "bytes in an extent, a power of two, 512 to 8 MiB",
    ),
    row("timestamp", 84, 4, Kind::Number, "in version 2"),
    row(
        "disk",
        88,
        8,
        Kind::Size,
        "in version 2; at byte 84 in version 1",
    ),
];

fn bochs(source: &dyn ReadAt) -> Structure {
    let at = |offset| number(source, offset, 4, Little);
    let catalog = Array {
        name: "catalog",
        at: at(68),
        entries: at(72),
        bytes: 4,
        endian: Little,
    };
    Structure {
        records: vec![record("header", 0, BOCHS, Little)],
        arrays: vec![catalog.within(source.len())],
        marks: Vec::new(),
        ..Structure::default()
    }
}

const CLOOP: &[Row] = &[
    row(
        "script",
        0,
        128,
        Kind::Text,
        "starts with the marks of the format",
    ),
    row(
        "block_size",
        128,
        4,
        Kind::Size,
        "a multiple of 512, not 0, up to 64 MiB",
    ),
    row("n_blocks", 132, 4, Kind::Count, "one less than the offsets"),
];

fn cloop(source: &dyn ReadAt) -> Structure {
    let entries = number(source, 132, 4, Big) + 1;
    let offsets = Array {
        name: "offset",
        at: 136,
        entries,
        bytes: 8,
        endian: Big,
    };
    Structure {
        records: vec![record("header", 0, CLOOP, Big)],
        arrays: vec![offsets.within(source.len())],
        marks: Vec::new(),
        ..Structure::default()
    }
}

const DMG: &[Row] = &[
    row("signature", 0, 4, Kind::Bytes, "must be koly"),
    row("version", 4, 4, Kind::Version, "must be 4"),
    row("header_size", 8, 4, Kind::Length, "must be 512"),
    row("flags", 12, 4, Kind::Flags, ""),
    row("running_data_fork_offset", 16, 8, Kind::Offset, ""),
    row("data_fork_offset", 24, 8, Kind::Offset, "within the file"),
    row("data_fork_length", 32, 8, Kind::Length, "within the file"),
    row("rsrc_fork_offset", 40, 8, Kind::Offset, "within the file"),
    row("rsrc_fork_length", 48, 8, Kind::Length, "within the file"),
    row("segment_number", 56, 4, Kind::Number, ""),
    row("segment_count", 60, 4, Kind::Count, ""),
    row("segment_id", 64, 16, Kind::Bytes, ""),
    row("data_checksum_type", 80, 4, Kind::Choice, ""),
    row("data_checksum_bits", 84, 4, Kind::Length, ""),
    row("data_checksum", 88, 128, Kind::Bytes, ""),
    row("xml_offset", 216, 8, Kind::Offset, "within the file"),
    row(
        "xml_length",
        224,
        8,
        Kind::Length,
        "within the file, up to 16 MiB",
    ),
    row("sector_count", 492, 8, Kind::Size, ""),
];

fn dmg(source: &dyn ReadAt) -> Structure {
    let at = source.len().saturating_sub(512);
    Structure {
        records: vec![record("trailer", at, DMG, Big)],
        arrays: Vec::new(),
        marks: vec![
            ("trailer.signature", text(b"koly")),
            ("trailer.version", Value::Uint(4)),
        ],
        ..Structure::default()
    }
}
