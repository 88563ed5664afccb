//! Past bugs in the code of QEMU for other formats than qcow2, and some of other readers.

use image_formats::AnySpec;
use image_formats::vmdk::Subformat;
use image_fuzzer::commands::{self, Command};
use image_mutations::base::{Base, Formats, OtherBase};
use image_mutations::case::Maker;
use image_mutations::edit::Edit;
use image_mutations::mutate::{self, Intensity};
use image_mutations::rng::Rng;

use super::{INT_MAX, assert_in_the_bytes, like};

type Drawn<'a> = super::Drawn<'a, OtherBase>;

const MIB: u64 = 1 << 20;
const I64_MAX: u64 = i64::MAX as u64;

impl Drawn<'_> {
    /// Whether one of two fields is changed, and both then hold such numbers.
    fn sets_two(&self, one: &str, other: &str, wanted: impl Fn(u64, u64) -> bool) -> bool {
        let is_changed = self.sets(one, |_| true) || self.sets(other, |_| true);
        is_changed && wanted(self.edited(one), self.edited(other))
    }

    /// The number in a field after the edits.
    fn edited(&self, wanted: &str) -> u64 {
        let last = self.edits.iter().rev().find_map(|edit| match edit {
            Edit::Set { path, value } if path == wanted => Some(value.0),
            _ => None,
        });
        last.unwrap_or_else(|| self.number(wanted))
    }

    /// Whether another field than the edited one, whose path is like `pattern` too, holds the
    /// value.
    fn repeats(&self, pattern: &str) -> bool {
        self.edits.iter().any(|edit| {
            let Edit::Set { path, value } = edit else {
                return false;
            };
            let same = |field: &&image_formats::Field| {
                like(&field.path, pattern)
                    && field.path != *path
                    && field.value.as_uint() == Some(value.0)
            };
            like(path, pattern)
                && value.0 != 0
                && self.map.fields().iter().any(|field| same(&field))
        })
    }

    /// Whether a raw disk begins so.
    fn begins(&self, wanted: impl Fn(&[u8]) -> bool) -> bool {
        match &self.base.spec {
            AnySpec::Raw(spec) => {
                let mut first = spec.parts.iter().filter(|part| part.at == 0);
                first.any(|part| part.bytes.len() >= 8 && wanted(&part.bytes))
            }
            _ => false,
        }
    }

    /// Whether the file gets such a length.
    fn resizes(&self, wanted: impl Fn(u64) -> bool) -> bool {
        self.edits.iter().any(|edit| match edit {
            Edit::Length { bytes } => wanted(bytes.0),
            _ => false,
        })
    }

    /// Whether bytes are written from the start of a field whose path is like `pattern`, or
    /// within it, that are such a text.
    fn rewrites(&self, pattern: &str, wanted: impl Fn(&str) -> bool) -> bool {
        self.edits.iter().any(|edit| {
            let Edit::Bytes { at, bytes } = edit else {
                return false;
            };
            let inside = |field: &image_formats::Field| {
                let end = field.offset + field.width_bits / 8;
                (field.offset..end).contains(&at.0) && like(&field.path, pattern)
            };
            self.map.fields().iter().any(inside) && wanted(&String::from_utf8_lossy(&bytes.0))
        })
    }

    /// Whether such a word is put in the place of one of a descriptor's.
    fn rewords(&self, pattern: &str, wanted: impl Fn(&str) -> bool) -> bool {
        self.edits.iter().any(|edit| {
            let Edit::Bytes { at, bytes } = edit else {
                return false;
            };
            let text = String::from_utf8_lossy(&bytes.0);
            let word = text
                .split(['"', ' ', '\n', '\r', '\0'])
                .next()
                .unwrap_or_default();
            let starts =
                |field: &image_formats::Field| field.offset == at.0 && like(&field.path, pattern);
            self.map.fields().iter().any(starts) && wanted(word)
        })
    }
}

/// A past bug in the code of a format.
struct Row {
    format: &'static str,
    reference: &'static str,
    trigger: &'static str,
    found: fn(&Drawn<'_>) -> bool,
}

const fn row(
    format: &'static str,
    reference: &'static str,
    trigger: &'static str,
    found: fn(&Drawn<'_>) -> bool,
) -> Row {
    Row {
        format,
        reference,
        trigger,
        found,
    }
}

/// The table.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("qcow", "CVE-2014-0222 42eb58179b", "l2_bits below 6",
        |d| d.sets("header.l2_bits", |v| v < 6)),
    row("qcow", "CVE-2014-0222 42eb58179b", "l2_bits above 13",
        |d| d.sets("header.l2_bits", |v| v > 13)),
    row("qcow", "CVE-2014-0223 46485de0cb", "size that overflows the L1 size",
        |d| d.sets("header.size", |v| v > I64_MAX)),
    row("qcow", "7159a45b2b", "cluster_bits below 9",
        |d| d.sets("header.cluster_bits", |v| v < 9)),
    row("qcow", "7159a45b2b", "cluster_bits above 16",
        |d| d.sets("header.cluster_bits", |v| v > 16)),
    row("qcow", "d66e5cee00", "backing_file_size over 1023",
        |d| d.sets("header.backing_file_size", |v| v > 1023)),
    row("qcow", "CVE-2015-5163", "backing file name that is a path",
        |d| d.writes(|name| name.starts_with("../")) && d.sets("header.backing_file_size", |_| true)),
    row("vmdk", "13c4941cdd", "grain directory of 0x20000000 entries",
        |d| d.sets_two("header.capacity", "header.granularity", |sectors, grain| {
            sectors / (grain.max(1) * 512) >= 0x2000_0000
        })),
    row("vmdk", "8aa1331c09", "granularity 0", |d| d.sets("header.granularity", |v| v == 0)),
    row("vmdk", "8aa1331c09", "granularity over 64 MiB",
        |d| d.sets("header.granularity", |v| v > 0x20_0000)),
    row("vmdk", "f8ce04036e", "num_gtes_per_gt over 512",
        |d| d.sets("header.num_gtes_per_gt", |v| v > 512)),
    row("vmdk", "f8ce04036e", "num_gtes_per_gt 0",
        |d| d.sets("header.num_gtes_per_gt", |v| v == 0)),
    row("vmdk", "2c43e43c8c", "capacity whose bytes overflow",
        |d| d.sets("header.capacity", |v| v > I64_MAX / 512)),
    row("vmdk", "03c3359dfc", "descriptor of no length",
        |d| d.sets("header.desc_size", |v| v == 0)),
    row("vmdk", "03c3359dfc", "NUL within the descriptor",
        |d| d.rewrites("descriptor.text", |text| text.trim_end_matches('\0').contains('\0'))),
    row("vmdk", "93897b9fd4", "extent line with a negative size",
        |d| d.rewords("descriptor.extent[*].size", |word| word.starts_with('-'))),
    row("vmdk", "b47053bd03", "extent line with a size beyond 64 bits",
        |d| d.rewords("descriptor.extent[*].size", |word| {
            word.len() > 19 && word.chars().all(|digit| digit.is_ascii_digit())
        })),
    row("vmdk", "93897b9fd4", "extent line of no size",
        |d| d.rewords("descriptor.extent[*].size", |word| word == "0")),
    row("vmdk", "b47053bd03", "extent of another type",
        |d| d.rewords("descriptor.extent[*].type", |word| matches!(word, "FLAT" | "SPARSE" | "ZERO"))),
    row("vmdk", "9fb7b350ba", "descriptor larger than readers allow",
        |d| d.sets("header.desc_size", |v| v > 20 * MIB / 512)),
    row("vmdk", "CVE-2022-47951 CVE-2015-5163", "extent name that is a path or a protocol",
        |d| d.rewords("descriptor.extent[*].file_name", |name| {
            name.starts_with("../") || name.starts_with("nbd:")
        })),
    row("vmdk", "2018", "a backing file that is no VMDK",
        |d| d.rewords("descriptor.parentFileNameHint", |name| {
            name.starts_with("json:") || name.ends_with(".raw")
        })),
    row("vmdk", "CVE-2026-2243", "a stream that fills twice the grain, and a marker",
        |d| match &d.base.spec {
            AnySpec::Vmdk(spec) => spec.subformat == Subformat::StreamOptimized
                && d.map.fields().iter().any(|field| like(&field.path, "grain[*].marker.size")
                    && field.value.as_uint() > Some(2 * u64::from(spec.grain_size) - 12)),
            _ => false,
        }),
    row("vmdk", "CVE-2026-2243", "a marker of up to twice the grain",
        |d| d.sets("grain[*].marker.size", |v| (2 * 65536 - 12..=2 * 65536).contains(&v))),
    row("vmdk", "issue 1923", "descriptor over 20 sectors",
        |d| d.map.get("descriptor.text").is_some_and(|text| text.width_bits / 8 > 20 * 512)),
    row("vdi", "CVE-2014-0144 63fa06dc97", "blocks_in_image whose map overflows",
        |d| d.sets("header.blocks_in_image", |v| v > 0x3fff_ffff)),
    row("vdi", "CVE-2014-0144 63fa06dc97", "disk_size over 2^50",
        |d| d.sets("header.disk_size", |v| v > 1 << 50)),
    row("vdi", "d20418ee51", "more disk than blocks",
        |d| d.sets_two("header.disk_size", "header.blocks_in_image", |size, blocks| size > blocks * MIB)),
    row("vdi", "CVE-2014-0144 63fa06dc97", "block_size other than 1 MiB",
        |d| d.sets("header.block_size", |v| v > MIB)),
    row("vdi", "2021", "block_size below that of the header",
        |d| d.sets("header.block_size", |v| v < 512)),
    row("vdi", "other readers", "two blocks in one place", |d| d.repeats("block_map[*]")),
    row("vhdx", "CVE-2014-0148 1d7678dec4", "block_size 0",
        |d| d.sets("file_parameters.block_size", |v| v == 0)),
    row("vhdx", "CVE-2014-0148 1d7678dec4", "block_size over 256 MiB",
        |d| d.sets("file_parameters.block_size", |v| v > 256 * MIB)),
    row("vhdx", "CVE-2014-0148 1d7678dec4", "logical_sector_size 0",
        |d| d.sets("virtual_disk.logical_sector_size", |v| v == 0)),
    row("vhdx", "83a6a90009", "sectors of 4 KiB",
        |d| d.sets("virtual_disk.logical_sector_size", |v| v == 4096)),
    row("vhdx", "27539ac531", "log of a file that was truncated",
        |d| d.map.number("log[0].flushed_file_offset").is_some_and(|len| d.resizes(|v| v < len))),
    row("vhdx", "27539ac531", "log that flushed more than the file",
        |d| d.sets("log[*].flushed_file_offset", |v| v > d.map.file_len)),
    row("vhdx", "27539ac531", "log entry of no length",
        |d| d.sets("log[*].entry_length", |v| v == 0)),
    row("vhdx", "27539ac531", "descriptors beyond the log entry",
        |d| d.sets("log[*].descriptor_count", |v| v > 126)),
    row("vhdx", "issue 727", "first entry of the BAT free, to be written through the log",
        |d| d.number("bat.payload[0]") == 0),
    row("vhdx", "2019", "file that ends within its last block",
        |d| d.map.number("bat.payload[0].offset").is_some_and(|at| at > 0 && d.resizes(|v| v < at + MIB))),
    row("vhdx", "other readers (2026)", "a region over another",
        |d| d.sets_two("region_table[0].bat.file_offset", "region_table[0].metadata.file_offset",
            |one, other| one == other)),
    row("vhdx", "other readers (2026)", "a region that wraps",
        |d| d.sets("region_table[*].bat.file_offset", |v| v.checked_add(MIB).is_none_or(|end| end > I64_MAX))),
    row("vhdx", "other readers (2026)", "BAT within the headers",
        |d| d.sets("region_table[*].bat.file_offset", |v| v < MIB)),
    row("vhdx", "other readers (2026)", "sequence number that overflows",
        |d| d.sets("header[*].sequence_number", |v| v == u64::MAX)),
    row("vhdx", "other readers (2026)", "log sequence number that overflows",
        |d| d.sets("log[*].sequence_number", |v| v == u64::MAX)),
    row("vpc", "CVE-2014-0144 97f1c45c6f", "max_table_entries 0x40000000 or more",
        |d| d.sets("dynamic.max_table_entries", |v| v >= 0x4000_0000)),
    row("vpc", "b15deac795", "fewer table entries than the disk needs",
        |d| d.sets("dynamic.max_table_entries", |v| v < d.number("dynamic.max_table_entries"))),
    row("vpc", "CVE-2014-0142 5e71dfad76", "block_size 0",
        |d| d.sets("dynamic.block_size", |v| v == 0)),
    row("vpc", "CVE-2014-0144 97f1c45c6f", "block_size of 2^31 or more",
        |d| d.sets("dynamic.block_size", |v| v > INT_MAX)),
    row("vpc", "7da9623cc0", "types that do not match",
        |d| d.sets("footer.type", |v| v != d.number("footer.type"))
            || d.sets("header.type", |v| v != d.number("header.type"))),
    row("vpc", "2015, 2021", "fixed image whose type is another",
        |d| d.number("footer.type") == 2 && d.sets("footer.type", |v| v != 2)),
    row("vpc", "other readers", "size beyond the file",
        |d| d.number("footer.type") == 2 && d.sets("footer.current_size", |v| v > d.map.file_len)),
    row("vpc", "other readers", "a wrong checksum",
        |d| d.sets("footer.checksum", |_| true) || d.sets("header.checksum", |_| true)),
    row("qed", "0adfa1ed65", "header_size that overflows",
        |d| d.sets_two("header.header_size", "header.cluster_size", |size, cluster| {
            size.saturating_mul(cluster) >= 1 << 32
        })),
    row("qed", "0adfa1ed65", "cluster_size that is no power of two",
        |d| d.sets("header.cluster_size", |v| !v.is_power_of_two())),
    row("qed", "0adfa1ed65", "table_size 0 or above 16",
        |d| d.sets("header.table_size", |v| v == 0 || v > 16)),
    row("qed", "0adfa1ed65", "image_size beyond the tables",
        |d| d.sets("header.image_size", |v| v > 1 << 60)),
    row("qed", "issue 2852 2ad638a3d1", "NEED_CHECK",
        |d| d.sets("header.features.need_check", |v| v == 1) || d.number("header.features.need_check") == 1),
    row("qed", "CVE-2015-5163", "backing file name that is a path",
        |d| d.writes(|name| name.starts_with("../")) && d.sets("header.backing_filename_size", |_| true)),
    row("parallels", "CVE-2014-0142", "tracks 0", |d| d.sets("header.tracks", |v| v == 0)),
    row("parallels", "CVE-2014-0142", "tracks whose bytes overflow",
        |d| d.sets("header.tracks", |v| v > INT_MAX / 513)),
    row("parallels", "CVE-2014-0143", "a BAT larger than an int",
        |d| d.sets("header.bat_entries", |v| v > INT_MAX / 4)),
    row("parallels", "CVE-2014-0143", "nb_sectors whose bytes overflow",
        |d| d.sets("header.nb_sectors", |v| v > I64_MAX / 512)),
    row("parallels", "58607752d1", "ext_off that overflows when shifted by 9",
        |d| d.sets("header.ext_off", |v| v >= 1 << 55)),
    row("parallels", "8cd19203f4", "data_off within the BAT",
        |d| d.sets("header.data_off", |v| v > 0 && v * 512 < 64 + 4 * d.number("header.bat_entries"))),
    row("parallels", "8cd19203f4", "data_off past the end",
        |d| d.sets("header.data_off", |v| v * 512 > d.map.file_len)),
    row("parallels", "da725d0b0e", "two clusters in one place", |d| d.repeats("bat[*]")),
    row("parallels", "b62e82be06 (2023 to 2025)", "BAT entry past the end",
        |d| d.sets("bat[*]", |v| v * 512 > d.map.file_len)),
    row("parallels", "2023 to 2025", "BAT entry past the end of a truncated file",
        |d| d.resizes(|len| d.map.fields().iter().any(|field| like(&field.path, "bat[*]")
            && field.value.as_uint().is_some_and(|at| at * 512 >= len)))),
    row("parallels", "2023 to 2025", "a disk larger than its BAT",
        |d| d.sets_two("header.nb_sectors", "header.bat_entries", |sectors, entries| {
            sectors > entries.saturating_mul(d.number("header.tracks"))
        })),
    row("parallels", "2023 to 2025", "l1_size of a bitmap that overflows",
        |d| d.sets("ext.feature[*].l1_size", |v| v >= 1 << 29)),
    row("cloop", "CVE-2014-0142", "block_size 0", |d| d.sets("header.block_size", |v| v == 0)),
    row("cloop", "CVE-2014-0142", "block_size that is no multiple of 512",
        |d| d.sets("header.block_size", |v| v % 512 != 0)),
    row("cloop", "CVE-2014-0142", "block_size over 64 MiB",
        |d| d.sets("header.block_size", |v| v > 64 * MIB)),
    row("cloop", "CVE-2014-0143", "n_blocks whose offsets overflow",
        |d| d.sets("header.n_blocks", |v| v > u64::from(u32::MAX) / 8)),
    row("cloop", "CVE-2014-0144", "offsets that do not rise",
        |d| d.edits.iter().any(|edit| match edit {
            Edit::Set { path, value } => {
                let index = path.strip_prefix("offset[").and_then(|rest| rest.strip_suffix(']'));
                let index: Option<u64> = index.and_then(|index| index.parse().ok());
                index.is_some_and(|index| index > 0
                    && value.0 < d.number(&format!("offset[{}]", index - 1)))
            }
            _ => false,
        })),
    row("cloop", "CVE-2014-0144", "a compressed block larger than readers allow",
        |d| d.sets("offset[*]", |v| v > 64 * MIB)),
    row("cloop", "42d43d35d9", "a block more than there are",
        |d| d.sets("header.n_blocks", |v| v == d.number("header.n_blocks") + 1)),
    row("dmg", "CVE-2014-0145", "length of a chunk over 64 MiB",
        |d| d.sets("blkx[*].chunk[*].length", |v| v > 64 * MIB)),
    row("dmg", "CVE-2014-0145", "sectors of a chunk beyond the buffer",
        |d| d.sets("blkx[*].chunk[*].sector_count", |v| v > 64 * MIB / 512)),
    row("dmg", "CVE-2014-0145", "sector_count off by one",
        |d| d.edits.iter().any(|edit| match edit {
            Edit::Set { path, value } => like(path, "blkx[*].chunk[*].sector_count")
                && value.0 == d.number(path) + 1,
            _ => false,
        })),
    row("dmg", "73ed27ec28", "more chunks than the table holds",
        |d| d.sets("blkx[*].table.chunk_count", |v| v > d.number("blkx[0].table.chunk_count"))),
    row("dmg", "f6e6652d7c", "resource fork past the end",
        |d| d.sets("trailer.rsrc_fork_offset", |v| v > d.map.file_len)),
    row("dmg", "f6e6652d7c", "resources that end before their start",
        |d| d.sets("resource_fork.map_offset", |v| v < d.number("resource_fork.data_offset"))),
    row("dmg", "2014, 2019", "a terminator in the place of a chunk",
        |d| d.sets("blkx[*].chunk[*].type", |v| v == 0xffff_ffff)),
    row("dmg", "2014, 2019", "chunks that overlap",
        |d| d.repeats("blkx[*].chunk[*].sector_number")),
    row("dmg", "dmg2img 11", "a table shorter than its header",
        |d| d.sets("resource[*].length", |v| v < 204)),
    row("bochs", "CVE-2014-0142 CVE-2014-0147", "catalog negative as int",
        |d| d.sets("header.catalog", |v| v > INT_MAX)),
    row("bochs", "CVE-2014-0143", "catalog whose bytes overflow",
        |d| d.sets("header.catalog", |v| v >= 1 << 30)),
    row("bochs", "CVE-2014-0143", "catalog too small for the disk",
        |d| d.sets("header.catalog", |v| v < d.number("header.catalog"))),
    row("bochs", "CVE-2014-0142", "extent 0", |d| d.sets("header.extent", |v| v == 0)),
    row("bochs", "715c3f60ef", "extent negative as int",
        |d| d.sets("header.extent", |v| v > INT_MAX)),
    row("bochs", "other readers", "two extents in one place", |d| d.repeats("catalog[*]")),
    row("luks", "e39e959e89", "payload past the end of the file",
        |d| d.sets("header.payload_offset", |v| v * 512 > d.map.file_len)),
    row("luks", "2022", "a string without NUL",
        |d| ["cipher_name", "cipher_mode", "hash_spec"].iter().any(|name| {
            d.rewrites(&format!("header.{name}"), |text| text.len() >= 32 && !text.contains('\0'))
        })),
    row("luks", "2022", "stripes other than 4000",
        |d| d.sets("key_slot[*].stripes", |v| v != 4000)),
    row("luks", "2022", "key material over the header",
        |d| d.sets("key_slot[*].key_material_offset", |v| v < 2)),
    row("luks", "2022", "payload over the key material",
        |d| d.sets("header.payload_offset", |v| v < d.number("key_slot[7].key_material_offset"))),
    row("luks", "2022", "PBKDF2 without iterations",
        |d| d.sets("key_slot[*].iterations", |v| v == 0)),
    row("luks", "2018", "iterations of the digest 0",
        |d| d.sets("header.mk_digest_iterations", |v| v == 0)),
    row("luks", "2018", "key whose stripes overflow",
        |d| d.sets_two("header.key_bytes", "key_slot[0].stripes", |bytes, stripes| {
            bytes.saturating_mul(stripes) >= 1 << 32
        })),
    row("vpc", "two formats", "the trailer of a DMG behind the footer",
        |d| d.edits.iter().any(|edit| matches!(edit, Edit::Bytes { at, bytes }
            if at.0 >= d.map.file_len && bytes.0.starts_with(b"koly")))),
    row("qed", "two formats", "the footer of a VHD in the last sector",
        |d| d.edits.iter().any(|edit| matches!(edit, Edit::Bytes { at, bytes }
            if at.0 + 512 == d.map.file_len && bytes.0.starts_with(b"conectix")))),
    row("vmdk", "two formats", "the signature of a VDI at byte 64",
        |d| d.edits.iter().any(|edit| matches!(edit, Edit::Bytes { at, bytes }
            if at.0 == 0x40 && bytes.0.starts_with(&[0x7f, 0x10, 0xda, 0xbe])))),
    row("raw", "CVE-2008-2004", "a disk that begins as an image which names a file",
        |d| d.begins(|start| start.starts_with(b"QFI\xfb") && start.windows(6).any(|w| w == b"canary"))),
    row("raw", "CVE-2008-2004", "a descriptor whose extent is another file",
        |d| d.begins(|start| start.starts_with(b"# Disk DescriptorFile")
            && start.windows(6).any(|w| w == b"canary"))),
    row("raw", "CVE-2008-2004", "a signature that lacks a byte",
        |d| d.begins(|start| start.iter().zip(b"QFI\xfb").filter(|(is, wanted)| is != wanted).count() == 1)),
    row("raw", "CVE-2008-2004", "the header of LUKS, written over the first sector",
        |d| d.edits.iter().any(|edit| matches!(edit, Edit::Bytes { at, bytes }
            if at.0 == 0 && bytes.0.starts_with(b"LUKS\xba\xbe")))),
    row("raw", "two formats", "a disk that ends as a VHD does",
        |d| match &d.base.spec {
            AnySpec::Raw(spec) => spec.parts.iter().any(|part| {
                let end = part.at + part.bytes.len() as u64;
                let last = part.bytes.len().checked_sub(512).map(|at| &part.bytes[at..]);
                end == spec.virtual_size && last.is_some_and(|last| last.starts_with(b"conectix"))
            }),
            _ => false,
        }),
];

/// How many base images of a format are drawn at most, and how many tests of each.
const BASES: usize = 240;
const TESTS: usize = 150;

#[test]
fn every_trigger_of_other_formats_can_be_drawn() {
    let mut missing = Vec::new();
    for word in Formats::words_of_one() {
        let mut open: Vec<&Row> = ROWS.iter().filter(|row| row.format == word).collect();
        draw_until_found(word, &mut open);
        let of_format = open.iter();
        missing.extend(of_format.map(|row| format!("{word}: {}: {}", row.reference, row.trigger)));
    }
    assert!(missing.is_empty(), "never drawn:\n{}", missing.join("\n"));
}

/// Draws tests of a format and takes from `open` what they trigger.
fn draw_until_found(word: &str, open: &mut Vec<&Row>) {
    let formats = Formats::named(word).expect("the format is known");
    let mut maker = Maker::default();
    let mut rng = Rng::from_text(word);
    let weights = mutate::first_weights();
    for _ in 0..BASES {
        if open.is_empty() {
            return;
        }
        let base = formats.draw(&mut rng);
        let prepared = maker
            .prepared(&base)
            .expect("a drawn base image can be made");
        let Base::Other(of_format) = &base else {
            panic!("{word} is not qcow2");
        };
        let map = &prepared.map;
        for _ in 0..TESTS {
            let intensity = Intensity::Mutations(1, 2);
            let mut mutations = mutate::draw(map, None, intensity, &weights, &mut rng);
            mutate::recompute(&mut mutations, &mut rng);
            let edits: Vec<Edit> = mutations.into_iter().map(|drawn| drawn.edit).collect();
            let drawn = Drawn {
                base: of_format,
                map: &prepared.map,
                edits: &edits,
            };
            open.retain(|row| {
                let found = (row.found)(&drawn);
                if found {
                    assert_in_the_bytes(row.reference, &prepared.image, &edits);
                }
                !found
            });
        }
    }
}

/// Whether a command is like the one that showed a bug.
type IsSuch = fn(&Command) -> bool;

/// Past bugs whose trigger is a command: the formats, and what the command is like.
const COMMANDS: &[(&str, &str, IsSuch)] = &[
    (
        "qcow",
        "issue 2851: a snapshot of a probed file",
        applies_snapshot,
    ),
    ("vmdk", "issue 2853 b75c5f9879: the same", applies_snapshot),
    ("qed", "issue 2852 2ad638a3d1: the same", applies_snapshot),
    ("vpc", "2b689db0be: the same", applies_snapshot),
    ("vdi", "2b689db0be: the same", applies_snapshot),
    ("parallels", "6b36a57831: bench", |command| {
        command.verb() == "qemu-img bench"
    }),
    ("vdi", "2021: a write", |command| {
        command.verb().starts_with("qemu-io write")
    }),
    ("parallels", "2023: a check", |command| {
        command.verb() == "qemu-img check"
    }),
    ("dmg", "ff2ab634e4: probing", |command| {
        command.verb() == "qemu-img convert" && !command.0.iter().any(|word| word == "-f")
    }),
];

fn applies_snapshot(command: &Command) -> bool {
    command.verb() == "qemu-img snapshot -a" && !command.0.iter().any(|word| word == "-f")
}

#[test]
fn every_command_of_other_formats_can_be_drawn() {
    for (word, trigger, found) in COMMANDS {
        let formats = Formats::named(word).expect("the format is known");
        let mut rng = Rng::from_text(word);
        let base = formats.plain();
        let drawn = (0..5000).any(|_| commands::sequence(&base, &mut rng).iter().any(found));
        assert!(drawn, "{word}: {trigger}");
    }
}
