//! Each rule, broken by one field.

use std::sync::Arc;

use super::table::RULES;
use crate::block::SectorRun;
use crate::format::{AnyImage, Format};
use crate::pattern::Pattern;
use crate::structure::Derivation;
use crate::value::Value;
use crate::vpc::{Block, Locator, Parent, Platform, Spec, build};

fn block(index: u64) -> Block {
    Block {
        index,
        runs: vec![SectorRun {
            first: 1,
            count: 2,
            data: Pattern::Fill(7),
        }],
        all_sectors: false,
    }
}

/// A differencing image of three blocks of 64 KiB: dynamic header at 512, table at 1536, name of
/// the parent at 2048, blocks at 2560 and 68608, footer at 134656.
fn differencing() -> Spec {
    Spec {
        virtual_size: 192 << 10,
        block_size: 64 << 10,
        blocks: vec![block(0), block(2)],
        parent: Some(Parent {
            name: "base.vhd".into(),
            locators: vec![Locator {
                platform: Platform::W2ru,
                name: ".\\base.vhd".into(),
                space_in_sectors: false,
            }],
            seed: 3,
            timestamp: 0,
        }),
        ..Spec::default()
    }
}

fn fixed() -> Spec {
    Spec {
        virtual_size: 192 << 10,
        block_size: 64 << 10,
        fixed: true,
        blocks: vec![block(0)],
        ..Spec::default()
    }
}

fn open(spec: &Spec) -> AnyImage {
    let bytes = build(spec, "i").unwrap().swap_remove(0).bytes;
    AnyImage::open(Arc::new(bytes), Format::Vpc).unwrap()
}

fn names(image: &AnyImage) -> Vec<&'static str> {
    let defects = image.defects().unwrap();
    defects.iter().map(|defect| defect.name).collect()
}

/// The names of the rules that are broken once the field has this value; copy and checksums are
/// right again.
fn broken(spec: &Spec, path: &str, value: Value) -> Vec<&'static str> {
    let mut image = open(spec);
    assert_eq!(image.defects().unwrap(), []);
    image.set(path, value).unwrap();
    image.recompute(&[Derivation::Copy, Derivation::Checksum]);
    names(&image)
}

/// Rule, path, value.
type Case = (&'static str, &'static str, u64);

const DIFFERENCING: &[Case] = &[
    ("features", "footer.features", 0),
    ("features", "footer.features", 6),
    ("version", "footer.version", 0x2_0000),
    ("minor-version", "footer.version", 0x1_0001),
    ("data-offset", "footer.data_offset", u64::MAX),
    ("data-offset", "footer.data_offset", 200 << 10),
    ("type", "footer.type", 5),
    ("type", "footer.type", 0),
    ("footer-copy-there", "footer.type", 2),
    ("current-size-unit", "footer.current_size", 511),
    ("current-size", "footer.current_size", 1 << 62),
    ("geometry", "footer.cyls", 1000),
    ("geometry", "footer.heads", 17),
    ("geometry", "footer.heads", 0),
    ("geometry", "footer.secs_per_cyl", 0),
    ("saved-state", "footer.in_saved_state", 2),
    ("dynamic-data-offset", "dynamic.data_offset", 0),
    ("dynamic-version", "dynamic.version", 0),
    ("block-size", "dynamic.block_size", 0),
    ("block-size", "dynamic.block_size", 3 << 16),
    ("block-size", "dynamic.block_size", 256),
    ("max-table-entries", "dynamic.max_table_entries", 2),
    ("max-table-entries", "footer.current_size", 1 << 30),
    (
        "table-inside-file",
        "dynamic.max_table_entries",
        0x4000_0000,
    ),
    ("table-inside-file", "dynamic.table_offset", u64::MAX),
    ("table-aligned", "dynamic.table_offset", 1540),
    ("dynamic-reserved", "dynamic.reserved", 1),
    ("locator-reserved", "dynamic.parent_locator[0].reserved", 1),
    (
        "locator-inside-file",
        "dynamic.parent_locator[0].platform_data_offset",
        1 << 40,
    ),
    (
        "locator-inside-file",
        "dynamic.parent_locator[0].platform_data_length",
        513,
    ),
    (
        "locator-inside-file",
        "dynamic.parent_locator[0].platform_data_space",
        0,
    ),
    ("block-inside-file", "bat[0]", 1000),
    ("overlap", "bat[0]", 5 + 64),
    ("overlap", "bat[0]", 2),
    ("overlap", "dynamic.table_offset", 512),
    (
        "overlap",
        "dynamic.parent_locator[0].platform_data_offset",
        0,
    ),
    // The file has room, but the footer is there.
    ("overlap", "bat[2]", 135),
];

const FIXED: &[Case] = &[
    ("data-offset-unused", "footer.data_offset", 512),
    ("fixed-inside-file", "footer.current_size", 193 << 10),
    ("fixed-length", "footer.current_size", 191 << 10),
    ("data-offset", "footer.type", 3),
];

#[test]
fn rules_of_numbers_are_noticed() {
    for (spec, cases) in [(differencing(), DIFFERENCING), (fixed(), FIXED)] {
        for (rule, path, value) in cases {
            let found = broken(&spec, path, Value::Uint(*value));
            assert!(found.contains(rule), "{path} = {value}: {found:?}");
        }
    }
}

#[test]
fn rules_of_texts_are_noticed() {
    for (rule, path, value) in [
        ("footer-reserved", "footer.reserved", "x"),
        ("dynamic-reserved", "dynamic.reserved2", "x"),
        ("signature", "dynamic.magic", "cxsparsE"),
        (
            "locator-platform",
            "dynamic.parent_locator[0].platform_code",
            "what",
        ),
        ("parent-uuid", "dynamic.parent_uuid", ""),
    ] {
        let found = broken(&differencing(), path, value.into());
        assert!(found.contains(&rule), "{path}: {found:?}");
    }
    let found = broken(&fixed(), "footer.creator", "conectit".into());
    assert_eq!(found, ["footer", "signature"]);
}

/// What no single field does.
#[test]
fn the_other_rules_are_noticed() {
    // Without its footer a dynamic image is what the copy says.
    let mut image = open(&differencing());
    image.set("footer.creator", "lost").unwrap();
    assert_eq!(names(&image), ["signature"]);
    assert!(image.binding_defects().unwrap().is_empty());
    let mut image = open(&differencing());
    image.set("header.timestamp", 77).unwrap();
    assert_eq!(names(&image), ["footer-copy", "footer-checksum"]);
    image.set("footer.timestamp", 78).unwrap();
    assert!(names(&image).contains(&"footer"));
    image.recompute(&[Derivation::Copy, Derivation::Checksum]);
    assert_eq!(names(&image), [""; 0]);
    assert_eq!(
        image.field("header.timestamp").unwrap().value,
        Value::Uint(78)
    );
    let mut image = open(&differencing());
    image.set("dynamic.parent_timestamp", 1).unwrap();
    assert_eq!(names(&image), ["dynamic-checksum"]);
    // Neither name.
    image.set("dynamic.parent_name", "").unwrap();
    image
        .set("dynamic.parent_locator[0].platform_code", "")
        .unwrap();
    image.recompute(&[Derivation::Checksum]);
    assert_eq!(names(&image), ["parent-name"]);
    // The size of another creator's images follows from the geometry.
    let mut image = open(&fixed());
    image.set("footer.creator_app", "qemu").unwrap();
    image.set("footer.cyls", 100).unwrap();
    image.recompute(&[Derivation::Checksum]);
    assert!(names(&image).contains(&"fixed-inside-file"));
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
