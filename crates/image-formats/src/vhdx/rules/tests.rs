//! Each rule, broken by one field.

use std::sync::Arc;

use super::table::RULES;
use crate::block::SectorRun;
use crate::format::{AnyImage, Format};
use crate::pattern::Pattern;
use crate::structure::Derivation;
use crate::value::Value;
use crate::vhdx::{Block, BlockState, Log, LogWrite, Parent, Spec, build};

fn block(index: u64, state: BlockState) -> Block {
    let run = SectorRun {
        first: 1,
        count: 2,
        data: Pattern::Fill(7),
    };
    let runs = match state {
        BlockState::FullyPresent | BlockState::PartiallyPresent => vec![run],
        _ => Vec::new(),
    };
    Block { index, state, runs }
}

/// A differencing file of 8 MiB: the log at 1 MiB, the BAT at 2, the metadata at 3, an unknown
/// region at 4, a sector bitmap at 5, and payload blocks at 6 and 7.
fn spec() -> Spec {
    Spec {
        blocks: vec![
            block(0, BlockState::FullyPresent),
            block(1, BlockState::PartiallyPresent),
            block(2, BlockState::Zero),
        ],
        parent: Some(Parent {
            relative_path: Some(".\\base.vhdx".into()),
            ..Parent::default()
        }),
        user_metadata: vec![b"of a user".to_vec()],
        unknown_region: true,
        ..Spec::default()
    }
}

fn open(spec: &Spec) -> AnyImage {
    let bytes = build(spec, "i").unwrap().swap_remove(0).bytes;
    AnyImage::open(Arc::new(bytes), Format::Vhdx).unwrap()
}

/// The names of the rules that are broken once the field has this value; checksums are right
/// again but where `sealed` is false.
fn broken(spec: &Spec, path: &str, value: Value, sealed: bool) -> Vec<&'static str> {
    let mut image = open(spec);
    assert_eq!(image.defects().unwrap(), []);
    image.set(path, value).unwrap();
    if sealed {
        image.recompute(&[Derivation::Checksum]);
    }
    let defects = image.defects().unwrap();
    defects.iter().map(|defect| defect.name).collect()
}

const MIB: u64 = 1 << 20;

/// Rule, path, value; of a file without a log to replay.
const FILE: &[(&str, &str, u64)] = &[
    ("header-sequence-numbers", "header[0].sequence_number", 2),
    ("version", "header[1].version", 2),
    ("log-version", "header[1].log_version", 1),
    ("log-aligned", "header[1].log_offset", MIB + 4096),
    ("log-aligned", "header[1].log_length", 4096),
    ("log-inside-file", "header[1].log_offset", 8 * MIB),
    ("overlap", "header[1].log_length", 2 << 20),
    ("region-count", "region_table[0].entry_count", 2048),
    ("region-missing", "region_table[0].entry_count", 1),
    ("region-table-reserved", "region_table[0].reserved", 1),
    ("region-table-copy", "region_table[1].reserved", 1),
    (
        "region-aligned",
        "region_table[0].bat.file_offset",
        2 * MIB + 512,
    ),
    ("region-aligned", "region_table[0].bat.file_offset", 0),
    ("region-length", "region_table[0].bat.length", MIB + 1),
    (
        "region-inside-file",
        "region_table[0].bat.file_offset",
        9 * MIB,
    ),
    (
        "region-inside-file",
        "region_table[0].bat.file_offset",
        u64::MAX - MIB + 1,
    ),
    ("overlap", "region_table[0].bat.file_offset", 3 * MIB),
    ("region-required-flag", "region_table[0].bat.required", 2),
    ("region-required", "region_table[0].entry[1].required", 1),
    ("bat-size", "region_table[0].bat.length", 0),
    ("metadata-count", "metadata.entry_count", 2048),
    ("metadata-reserved", "metadata.reserved", 1),
    ("item-missing", "metadata.entry_count", 4),
    ("item-inside-region", "metadata.virtual_disk_id.offset", 512),
    (
        "item-inside-region",
        "metadata.virtual_disk_id.length",
        2 << 20,
    ),
    ("item-overlap", "metadata.virtual_disk_id.offset", 65536),
    ("item-reserved", "metadata.virtual_disk_id.flags", 0x106),
    ("item-reserved", "metadata.virtual_disk_id.reserved2", 1),
    ("item-required", "metadata.entry[6].flags.is_required", 1),
    (
        "item-flags",
        "metadata.virtual_disk_id.flags.is_virtual_disk",
        0,
    ),
    ("item-length", "metadata.virtual_disk_id.length", 15),
    ("block-size", "file_parameters.block_size", MIB + 512),
    ("block-size", "file_parameters.block_size", 0),
    ("block-size", "file_parameters.block_size", 512 << 20),
    ("file-parameters-reserved", "file_parameters.flags", 0xff),
    ("virtual-disk-size-unit", "virtual_disk.size", 513),
    ("virtual-disk-size", "virtual_disk.size", 65 << 40),
    ("bat-size", "virtual_disk.size", 1 << 40),
    (
        "logical-sector-size",
        "virtual_disk.logical_sector_size",
        1024,
    ),
    ("logical-sector-size", "virtual_disk.logical_sector_size", 0),
    (
        "physical-sector-size",
        "virtual_disk.physical_sector_size",
        0,
    ),
    ("parent-locator", "file_parameters.flags.has_parent", 0),
    ("parent-locator-reserved", "parent_locator.reserved", 1),
    (
        "parent-locator-entry",
        "parent_locator.entry[0].key_offset",
        0,
    ),
    (
        "parent-locator-entry",
        "parent_locator.entry[1].value_length",
        4096,
    ),
    (
        "parent-locator-text",
        "parent_locator.entry[1].value_length",
        3,
    ),
    ("parent-path", "parent_locator.key_value_count", 1),
    ("parent-linkage", "parent_locator.key_value_count", 0),
    ("bat-entry-reserved", "bat.payload[0].reserved", 1),
    ("bat-entry-reserved", "bat.sector_bitmap[0].reserved", 1),
    ("payload-state", "bat.payload[0].state", 4),
    ("payload-state", "bat.payload[0].state", 5),
    ("partially-present", "file_parameters.flags.has_parent", 0),
    ("sector-bitmap-state", "bat.sector_bitmap[0].state", 7),
    ("sector-bitmap-missing", "bat.sector_bitmap[0].state", 0),
    ("block-inside-file", "bat.payload[0].offset", 8 * MIB),
    ("block-inside-file", "bat.payload[0].offset", 0),
    ("block-inside-file", "bat.sector_bitmap[0].offset", 9 * MIB),
    ("overlap", "bat.payload[0].offset", 7 * MIB),
    ("overlap", "bat.payload[0].offset", 2 * MIB),
];

#[test]
fn rules_of_files_are_noticed() {
    for (rule, path, value) in FILE {
        let found = broken(&spec(), path, Value::Uint(*value), true);
        assert!(found.contains(rule), "{path} = {value}: {found:?}");
    }
}

#[test]
fn rules_of_signatures_and_texts_are_noticed() {
    let spec = spec();
    let linkage = "utf16le:relative_patx".parse::<Value>().unwrap();
    for (rule, path, value, sealed) in [
        ("signature", "identifier.signature", "vhdxfool".into(), true),
        (
            "header-signature",
            "header[1].signature",
            "heat".into(),
            true,
        ),
        ("header-checksum", "header[1].log_guid", "x".into(), false),
        (
            "region-table-signature",
            "region_table[1].signature",
            "x".into(),
            true,
        ),
        (
            "region-table-checksum",
            "region_table[0].bat.guid",
            "x".into(),
            false,
        ),
        (
            "region-missing",
            "region_table[0].bat.guid",
            "x".into(),
            true,
        ),
        (
            "metadata-signature",
            "metadata.signature",
            "metadate".into(),
            true,
        ),
        (
            "item-missing",
            "metadata.virtual_disk_id.item_id",
            "x".into(),
            true,
        ),
        (
            "parent-locator-type",
            "parent_locator.locator_type",
            "x".into(),
            true,
        ),
        (
            "parent-linkage",
            "parent_locator.entry[0].key",
            "x".into(),
            true,
        ),
        ("parent-path", "parent_locator.entry[1].key", linkage, true),
        ("metadata-reserved", "metadata.reserved2", "x".into(), true),
    ] {
        let found = broken(&spec, path, value, sealed);
        assert!(found.contains(&rule), "{path}: {found:?}");
    }
}

/// What no single field does.
#[test]
fn the_other_rules_are_noticed() {
    let names = |image: &AnyImage| -> Vec<&'static str> {
        let defects = image.defects().unwrap();
        defects.iter().map(|defect| defect.name).collect()
    };
    // Bytes that have no field.
    let mut image = open(&spec());
    image.bytes_mut().write((128 << 10) + 100, &[1]);
    image.recompute(&[Derivation::Checksum]);
    assert_eq!(names(&image), ["header-reserved"]);
    // Two headers of one age that differ.
    let mut image = open(&spec());
    image.set("header[0].sequence_number", 2).unwrap();
    image.set("header[0].file_write_guid", "x").unwrap();
    image.recompute(&[Derivation::Checksum]);
    assert!(names(&image).contains(&"current-header"));
    // Both region tables.
    let mut image = open(&spec());
    for index in [0, 1] {
        let path = format!("region_table[{index}].checksum");
        image.set(&path, 7).unwrap();
    }
    assert!(names(&image).contains(&"region-table"));
    // The same twice.
    let mut image = open(&spec());
    let guid = image.field("region_table[0].bat.guid").unwrap().value;
    image.set("region_table[0].entry[1].guid", guid).unwrap();
    image.recompute(&[Derivation::Checksum]);
    assert!(names(&image).contains(&"region-once"));
    let mut image = open(&spec());
    let id = image
        .field("metadata.virtual_disk_size.item_id")
        .unwrap()
        .value;
    image.set("metadata.virtual_disk_id.item_id", id).unwrap();
    assert!(names(&image).contains(&"item-once"));
    let mut image = open(&spec());
    let key = image
        .field("parent_locator.entry[0].key_offset")
        .unwrap()
        .value;
    let length = image
        .field("parent_locator.entry[0].key_length")
        .unwrap()
        .value;
    image
        .set("parent_locator.entry[1].key_offset", key)
        .unwrap();
    image
        .set("parent_locator.entry[1].key_length", length)
        .unwrap();
    assert!(names(&image).contains(&"parent-locator-key-once"));
    // A file without a parent that has a sector bitmap all the same: the disk has 4096 blocks
    // in a chunk.
    let mut image = open(&Spec {
        virtual_size: 5 << 30,
        ..Spec::default()
    });
    image.set("bat.sector_bitmap[0]", (9 << 20) | 6).unwrap();
    assert_eq!(names(&image), ["sector-bitmap-unneeded"]);
    // More items of users than there may be.
    let mut image = open(&Spec {
        user_metadata: vec![vec![1]; 1024],
        ..Spec::default()
    });
    assert_eq!(names(&image), [""; 0]);
    image
        .set("metadata.physical_sector_size.flags.is_user", 1)
        .unwrap();
    assert!(names(&image).contains(&"item-user-count"));
}

/// Rule, path, value; of a log to be replayed.
const LOGGED: &[(&str, &str, u64)] = &[
    ("log-version", "header[1].log_version", 1),
    ("log-sequence", "log[0].tail", 4096),
    ("log-entry", "log[0].tail", 1),
    ("log-entry", "log[0].entry_length", 4096),
    ("log-entry", "log[0].sequence_number", 0),
    ("log-entry", "log[0].descriptor_count", 1),
    ("log-reserved", "log[0].reserved", 1),
    ("log-file-size-unit", "log[0].flushed_file_offset", 512),
    ("log-file-size-unit", "log[0].last_file_offset", 512),
    ("log-file-size", "log[0].flushed_file_offset", 64 << 20),
    (
        "log-sequence-numbers",
        "log[0].descriptor[0].sequence_number",
        1,
    ),
    ("log-sequence-numbers", "log[0].data[0].sequence_high", 1),
    ("log-sequence-numbers", "log[0].data[0].sequence_low", 1),
    ("log-sequence", "log[0].descriptor[0].sequence_number", 1),
    ("log-descriptor", "log[0].descriptor[0].file_offset", 1),
    ("log-descriptor", "log[0].descriptor[1].zero_length", 5),
    ("log-target", "log[0].descriptor[0].file_offset", 0),
    ("log-target", "log[0].descriptor[0].file_offset", MIB),
    ("log-target", "log[0].descriptor[1].file_offset", MIB - 4096),
];

#[test]
fn rules_of_logs_are_noticed() {
    let spec = Spec {
        log: Some(Log::default()),
        ..spec()
    };
    for (rule, path, value) in LOGGED {
        let found = broken(&spec, path, Value::Uint(*value), true);
        assert!(found.contains(rule), "{path} = {value}: {found:?}");
    }
    let found = broken(&spec, "log[0].checksum", Value::Uint(1), false);
    assert_eq!(found[0], "log-sequence");
    assert!(found.contains(&"log-checksum"), "{found:?}");
    let found = broken(&spec, "log[0].descriptor[0].signature", "nope".into(), true);
    assert!(found.contains(&"log-descriptor"), "{found:?}");
}

/// The sequence number of an entry is in many places: all are put right.
#[test]
fn a_log_entry_is_repaired() {
    let mut image = open(&Spec {
        log: Some(Log {
            writes: vec![LogWrite::Bat, LogWrite::Metadata],
            sector: 250,
            ..Log::default()
        }),
        ..spec()
    });
    image.set("log[1].sequence_number", u64::MAX - 1).unwrap();
    assert_ne!(image.defects().unwrap(), []);
    image.recompute(&[Derivation::Value, Derivation::Checksum]);
    // It no longer follows the other one, which is a sequence of its own.
    image.set("log[1].tail", 250 * 4096).unwrap();
    image.recompute(&[Derivation::Checksum]);
    let defects = image.defects().unwrap();
    let names: Vec<&str> = defects.iter().map(|defect| defect.name).collect();
    assert!(!names.contains(&"log-checksum"), "{defects:?}");
    assert!(!names.contains(&"log-sequence-numbers"), "{defects:?}");
}

/// Every rule is broken by some test here.
#[test]
fn no_rule_is_left_out() {
    let tests = include_str!("tests.rs");
    for rule in RULES {
        let named = tests.contains(&format!("\"{}\"", rule.name));
        assert!(named, "no test breaks '{}'", rule.name);
    }
    let names: std::collections::BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), RULES.len());
}
