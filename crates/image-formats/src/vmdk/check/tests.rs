//! Each rule, broken by one field.

use std::sync::Arc;

use crate::block::{Block, Content};
use crate::format::{AnyImage, Format};
use crate::pattern::Pattern;
use crate::structure::Derivation;
use crate::value::Value;
use crate::vmdk::{Parent, RULES, Spec, Subformat, build};

/// The last file of an image: the extent where there is one.
fn image(spec: &Spec) -> AnyImage {
    let bytes = build(spec, "i.vmdk").unwrap().pop().unwrap().bytes;
    AnyImage::open(Arc::new(bytes), Format::Vmdk).unwrap()
}

/// The descriptor of an image.
fn descriptor(spec: &Spec) -> AnyImage {
    let bytes = build(spec, "i.vmdk").unwrap().swap_remove(0).bytes;
    AnyImage::open(Arc::new(bytes), Format::Vmdk).unwrap()
}

fn blocks(content: fn(Pattern) -> Content) -> Vec<Block> {
    let block = |index| Block {
        index,
        content: content(Pattern::Count(index)),
    };
    vec![block(0), block(5), block(6)]
}

fn sparse() -> Spec {
    Spec {
        blocks: blocks(Content::Data),
        redundant: true,
        ..Spec::default()
    }
}

fn stream() -> Spec {
    Spec {
        subformat: Subformat::StreamOptimized,
        version: 3,
        footer: true,
        blocks: blocks(Content::Compressed),
        ..Spec::default()
    }
}

fn esx(subformat: Subformat) -> Spec {
    Spec {
        subformat,
        grain_size: 4096,
        blocks: blocks(Content::Data),
        ..Spec::default()
    }
}

fn flat() -> Spec {
    Spec {
        subformat: Subformat::MonolithicFlat,
        parent: Some(Parent {
            name: "base.vmdk".into(),
            cid: 7,
        }),
        ..Spec::default()
    }
}

/// Changes one field, and looks for the defect.
fn breaks(image: &AnyImage, path: &str, value: impl Into<Value>, rule: &str) {
    assert_eq!(image.defects().unwrap(), []);
    let mut image = image.clone();
    let value = value.into();
    image.set(path, value.clone()).unwrap();
    let defects = image.defects().unwrap();
    let found = defects.iter().any(|defect| defect.name == rule);
    assert!(found, "{path} = {value}, {rule}: {defects:?}");
    let known = RULES.iter().any(|known| known.name == rule);
    assert!(known || rule == "signature", "{rule}");
}

#[test]
fn rules_of_descriptors_are_noticed() {
    let image = descriptor(&flat());
    for (path, text, rule) in [
        ("version", "4", "descriptor-version"),
        ("CID", "x", "cid"),
        ("parentCID", "", "parent-cid"),
        ("parentCID", "ffffffff", "parent-hint"),
        ("createType", "monolithicFla", "create-type"),
        ("createType", "streamOptimized", "extent-type-of-disk"),
        ("extent[0]", "# none", "extents"),
        (
            "extent[0]",
            "RW 1 FLAT \"a\" 0 \n RW 1 ZERO",
            "extent-count",
        ),
        ("extent[0].access", "rw", "extent-access"),
        ("extent[0].size", "0", "extent-size"),
        ("extent[0].size", "-1", "extent-size"),
        (
            "extent[0]",
            "RW 99999999999999999 FLAT \"a\" 0",
            "disk-size",
        ),
        ("extent[0].type", "FLOT", "extent-type"),
        ("extent[0].type", "VMFS", "extent-type-of-disk"),
        ("extent[0].file_name", "", "extent-file-name"),
        ("extent[0]", "RW 2048 FLAT \"i-flat.vmdk\"", "extent-offset"),
        ("extent[0].offset", "x", "extent-offset"),
        ("ddb.adapterType", "a\"\n b", "lines"),
        ("comment[1]", "\0", "text-end"),
    ] {
        // Where the new text is too long the whole of it is replaced.
        let path = format!("descriptor.{path}");
        match image.clone().set(&path, text) {
            Ok(()) => breaks(&image, &path, text, rule),
            Err(_) => {
                let old = image.field(&path).unwrap().value;
                let whole = image.field("descriptor.text").unwrap().value;
                let (old, whole) = (old.as_bytes().unwrap(), whole.as_bytes().unwrap());
                let at = whole.windows(old.len()).position(|part| part == old);
                let mut changed = whole.to_vec();
                changed.splice(at.unwrap()..at.unwrap() + old.len(), text.bytes());
                let mut longer = image.clone();
                longer.bytes_mut().write(0, &changed);
                let defects = longer.defects().unwrap();
                let found = defects.iter().any(|defect| defect.name == rule);
                assert!(found, "{path} = {text}, {rule}: {defects:?}");
            }
        }
    }
}

#[test]
fn rules_of_sparse_extents_are_noticed() {
    let image = image(&sparse());
    let sectors = crate::io::ReadAt::len(image.bytes()) / 512;
    for (path, value, rule) in [
        ("header.version", 0, "version"),
        ("header.version", 4, "version"),
        ("header.flags", 0x13, "flags"),
        ("header.flags", 7, "zeroed-grains-version"),
        ("header.flags", 0x10003, "compression"),
        ("header.compress_algorithm", 2, "compress-algorithm"),
        ("header.compress_algorithm", 1, "compression"),
        ("header.capacity", 1 << 60, "capacity"),
        ("header.capacity", 4096, "extent-capacity"),
        ("header.capacity", 1 << 40, "grain-directory-inside-file"),
        ("header.granularity", 24, "granularity"),
        ("header.granularity", 0, "granularity"),
        ("header.granularity", 1 << 32, "granularity"),
        ("header.granularity", 8, "small-grain"),
        ("header.desc_offset", sectors, "descriptor-inside-file"),
        ("header.desc_offset", 0, "descriptor-inside-file"),
        ("header.desc_size", 1 << 40, "descriptor-inside-file"),
        ("header.num_gtes_per_gt", 511, "num-gtes-per-gt"),
        ("header.num_gtes_per_gt", 0, "num-gtes-per-gt"),
        (
            "header.rgd_offset",
            sectors,
            "redundant-directory-inside-file",
        ),
        ("header.gd_offset", sectors, "grain-directory-inside-file"),
        ("header.gd_offset", 0, "grain-directory-inside-file"),
        ("header.grain_offset", sectors + 1, "overhead-inside-file"),
        ("header.grain_offset", sectors, "grain-behind-metadata"),
        ("header.unclean_shutdown", 2, "unclean-shutdown"),
        ("grain_directory[0]", sectors, "grain-table-inside-file"),
        (
            "redundant_grain_directory[0]",
            0,
            "redundant-directory-entry",
        ),
        ("redundant_grain_table[0].entry[0]", 0, "redundant-copy"),
        ("grain_table[0].entry[0]", sectors, "grain-inside-file"),
        ("grain_table[0].entry[0]", 1, "grain-behind-metadata"),
        ("grain_table[0].entry[1]", sectors - 16, "referenced-once"),
    ] {
        breaks(&image, path, value, rule);
    }
    breaks(&image, "header.magic", "KDMW", "signature");
    breaks(&image, "header.check_bytes", "\n \n\n", "signature");
    breaks(&image, "header.padding", "x", "padding");
}

#[test]
fn rules_of_streams_are_noticed() {
    let image = image(&stream());
    for (path, value, rule) in [
        ("footer.capacity", 1, "footer-copy"),
        ("footer.grain_offset", 1, "footer-copy"),
        ("footer.gd_offset", 1 << 32, "grain-directory-inside-file"),
        ("footer_marker.type", 2, "footer-marker"),
        ("footer_marker.size", 1, "marker"),
        ("footer_marker.sectors", 2, "marker"),
        ("end_marker.type", 1, "end-of-stream-marker"),
        ("grain_directory_marker.sectors", 2, "marker"),
        ("grain_table[0].marker.sectors", 3, "marker"),
        ("grain[5].marker.lba", 81, "marker-lba"),
        ("grain[5].marker.size", 0, "compressed-grain"),
        ("grain[5].marker.size", 16385, "compressed-grain"),
        ("grain[5].marker.size", 20, "compressed-grain"),
    ] {
        breaks(&image, path, value, rule);
    }
    let mut short = image.clone();
    short.bytes_mut().resize(1024);
    let defects = short.defects().unwrap();
    assert!(defects.iter().any(|defect| defect.name == "footer"));
}

#[test]
fn rules_of_copy_on_write_extents_are_noticed() {
    let image = image(&esx(Subformat::VmfsSparse));
    let sectors = crate::io::ReadAt::len(image.bytes()) / 512;
    for (path, value, rule) in [
        ("header.version", 2, "cowd-version"),
        ("header.flags", 1, "cowd-flags"),
        ("header.capacity", 0, "capacity"),
        ("header.granularity", 0, "cowd-granularity"),
        ("header.num_gd_entries", 2, "cowd-directory-entries"),
        ("header.gd_offset", sectors, "grain-directory-inside-file"),
        ("header.free_sector", sectors + 1, "cowd-free-sector"),
        ("header.unclean_shutdown", 2, "unclean-shutdown"),
        ("grain_directory[0]", sectors, "grain-table-inside-file"),
        ("grain_table[0].entry[0]", sectors, "grain-inside-file"),
        ("grain_table[0].entry[1]", sectors - 8, "referenced-once"),
    ] {
        breaks(&image, path, value, rule);
    }
    breaks(&image, "header.magic", "COWX", "signature");
    breaks(&image, "header.unused", "x", "padding");
    breaks(&image, "header.reserved", "x", "padding");
}

#[test]
fn rules_of_space_efficient_extents_are_noticed() {
    let image = image(&esx(Subformat::SeSparse));
    let sectors = crate::io::ReadAt::len(image.bytes()) / 512;
    for (path, value, rule) in [
        ("header.granularity", 16, "se-grain-size"),
        ("header.grain_table_size", 63, "se-grain-table-size"),
        ("header.flags", 1, "se-reserved"),
        ("header.reserved3", 1, "se-reserved"),
        ("header.capacity", 0, "capacity"),
        ("header.capacity", 1 << 40, "se-directory-size"),
        (
            "header.volatile_header_offset",
            sectors,
            "se-region-inside-file",
        ),
        ("header.backmap_size", sectors, "se-region-inside-file"),
        (
            "header.grain_dir_offset",
            sectors,
            "grain-directory-inside-file",
        ),
        ("header.grain_dir_size", 0, "se-directory-size"),
        ("header.grains_size", 8, "se-number-in-region"),
        ("volatile_header.magic", 0, "signature"),
        ("volatile_header.replay_journal", 1, "se-journal"),
        ("volatile_header.free_gt_number", 0, "se-free-table"),
        ("grain_directory[0].type", 2, "se-entry"),
        ("grain_directory[0].reserved", 1, "se-entry"),
        ("grain_directory[0].table", 1, "se-number-in-region"),
        (
            "grain_directory[0].table",
            1 << 30,
            "grain-table-inside-file",
        ),
        ("grain_table[0].entry[0].type", 4, "se-entry"),
        ("grain_table[0].entry[0].low", 4000, "grain-inside-file"),
        ("grain_table[0].entry[1]", 3 << 60, "referenced-once"),
    ] {
        breaks(&image, path, value, rule);
    }
    breaks(&image, "header.padding", "x", "padding");
    // Without magic and version it is no extent of this kind any more.
    breaks(&image, "header.magic", 1, "signature");
    breaks(&image, "header.version", 1, "signature");
}

/// What follows from other fields is put right.
#[test]
fn recomputing_repairs() {
    let all = [Derivation::Value, Derivation::Copy, Derivation::Checksum];
    for (spec, path, value) in [
        (
            sparse(),
            "redundant_grain_table[0].entry[5]",
            Value::Uint(9),
        ),
        (sparse(), "descriptor.extent[0].size", "7".into()),
        (stream(), "footer.granularity", 99.into()),
        (stream(), "grain[6].marker.lba", 99.into()),
    ] {
        let whole = image(&spec);
        let mut image = whole.clone();
        image.set(path, value).unwrap();
        assert_ne!(image.defects().unwrap(), [], "{path}");
        image.recompute(&all);
        assert_eq!(image.defects().unwrap(), [], "{path}");
        let bytes = |image: &AnyImage| image.bytes().to_vec(1 << 30).unwrap();
        assert_eq!(bytes(&image), bytes(&whole), "{path}");
    }
}
