//! A valid image, one corruption at a time: each broken rule is reported.

use image_formats::qcow2::{
    Backing, Bitmap, BitmapCluster, Cluster, Content, DataFile, Encryption, Extension, Image,
    Pattern, RULES, Snapshot, Spec, build,
};
use image_formats::{Requirement, Value};

fn cluster(index: u64, content: Content) -> Cluster {
    Cluster { index, content }
}

fn plain() -> Image {
    let bitmap = |name: &str| Bitmap {
        name: name.into(),
        granularity_bits: 16,
        enabled: true,
        in_use: false,
        clusters: vec![BitmapCluster::Data(Pattern::Fill(1))],
    };
    let snapshot = |id: &str| Snapshot {
        id: id.into(),
        ..Snapshot::default()
    };
    let spec = Spec {
        backing: Some(Backing {
            name: "base".into(),
            format: Some("raw".into()),
        }),
        feature_names: true,
        clusters: vec![
            cluster(0, Content::Data(Pattern::Fill(1))),
            cluster(1, Content::Compressed(Pattern::Fill(2))),
            cluster(2, Content::Zero),
        ],
        snapshots: vec![snapshot("1"), snapshot("2")],
        bitmaps: vec![bitmap("a"), bitmap("b")],
        ..Spec::default()
    };
    build(&spec).unwrap().image
}

fn extended() -> Image {
    let (allocated, zero, pattern) = (1, 2, Some(Pattern::Fill(1)));
    let spec = Spec {
        extended_l2: true,
        encryption: Some(Encryption::Header(b"LUKS\xba\xbe\0\x01".repeat(80))),
        clusters: vec![
            cluster(
                0,
                Content::Subclusters {
                    allocated,
                    zero,
                    pattern,
                },
            ),
            cluster(1, Content::Zero),
        ],
        ..Spec::default()
    };
    build(&spec).unwrap().image
}

fn external() -> Image {
    let spec = Spec {
        data_file: Some(DataFile {
            name: Some("data".into()),
            raw: true,
        }),
        clusters: vec![
            cluster(0, Content::Data(Pattern::Fill(1))),
            cluster(3, Content::Data(Pattern::Fill(1))),
            cluster(4, Content::Zero),
        ],
        ..Spec::default()
    };
    build(&spec).unwrap().image
}

/// Sets one field and expects a defect at `defect` whose text contains `words`.
fn expect(image: &Image, path: &str, value: impl Into<Value>, defect: &str, words: &str) {
    let mut image = image.clone();
    image
        .set(path, value)
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    let defects = image.defects().unwrap();
    let found = defects
        .iter()
        .any(|found| found.path == defect && found.rule.contains(words));
    assert!(found, "{path} -> {defect}, {words}: {defects:#?}");
}

#[test]
fn header_rules() {
    let image = plain();
    for (path, value, words) in [
        ("header.magic", 0, "must be 0x514649fb"),
        ("header.version", 4, "must be 2 or 3"),
        ("header.backing_file_size", 1024, "at most 1023"),
        ("header.backing_file_offset", 0x10000, "first cluster"),
        ("header.backing_file_offset", 50, "in the header"),
        ("header.cluster_bits", 8, "at least 9"),
        ("header.cluster_bits", 63, "not checked"),
        ("header.crypt_method", 3, "0, 1 or 2"),
        ("header.crypt_method", 2, "is missing"),
        ("header.l1_size", 0, "at least 1"),
        (
            "header.l1_table_offset",
            0x30200,
            "multiple of the cluster size",
        ),
        ("header.l1_table_offset", 1 << 40, "outside the file"),
        ("header.refcount_table_offset", 0, "must not be 0"),
        (
            "header.refcount_table_offset",
            7,
            "multiple of the cluster size",
        ),
        ("header.refcount_table_clusters", 0, "must not be 0"),
        ("header.nb_snapshots", 100_000, "within the file"),
        (
            "header.snapshots_offset",
            0x1001,
            "multiple of the cluster size",
        ),
        ("header.incompatible_features", 1 << 5, "unknown bits 0x20"),
        ("header.compatible_features", 2, "reserved bits 0x2"),
        ("header.autoclear_features", 4, "reserved bits 0x4"),
        ("header.refcount_order", 7, "at most 6"),
        ("header.header_length", 109, "multiple of 8"),
        ("header.header_length", 96, "at least 104"),
        ("header.header_length", 1 << 17, "first cluster"),
        ("header.compression_type", 1, "feature bit is not set"),
        ("header.compression_type", 2, "must be 0 or 1"),
    ] {
        expect(&image, path, value, path, words);
    }
    expect(&image, "header.padding", "x", "header.padding", "must be 0");
    let raw = "header.autoclear_features.raw_data_file";
    expect(&image, raw, 1, raw, "without an external data file");
    expect(
        &external(),
        "header.backing_file_offset",
        600,
        raw,
        "conflicts with the backing file",
    );
    let corrupt = "header.incompatible_features.corrupt";
    expect(&image, corrupt, 1, corrupt, "marked as corrupt");
}

#[test]
fn extension_rules() {
    let image = plain();
    for (path, value, defect, words) in [
        (
            "ext[0].length",
            1 << 20,
            "ext[0].length",
            "are left in the extension area",
        ),
        (
            "ext[0].type",
            0x6803_f857,
            "ext[1].type",
            "duplicate feature name table extension",
        ),
        ("ext[1].length", 47, "ext[1].length", "multiple of 48"),
        (
            "ext[1].feature[2].type",
            3,
            "ext[1].feature[2].type",
            "0, 1 or 2",
        ),
        (
            "ext[1].feature[2].bit",
            64,
            "ext[1].feature[2].bit",
            "at most 63",
        ),
        ("ext[2].length", 16, "ext[2].length", "must be 24"),
        ("ext[2].nb_bitmaps", 0, "ext[2].nb_bitmaps", "at least 1"),
        ("ext[2].reserved", 1, "ext[2].reserved", "must be 0"),
        (
            "ext[2].bitmap_directory_size",
            1,
            "ext[2].bitmap_directory_size",
            "the entries take",
        ),
        (
            "ext[2].bitmap_directory_offset",
            8,
            "ext[2].bitmap_directory_offset",
            "multiple of the cluster",
        ),
        (
            "ext[2].type",
            1,
            "header.autoclear_features.bitmaps",
            "without the bitmaps extension",
        ),
        ("ext[3].length", 8, "ext[3].length", "end marker must be 0"),
    ] {
        expect(&image, path, value, defect, words);
    }
    let image = extended();
    for (path, value, defect, words) in [
        (
            "header.crypt_method",
            0,
            "header.crypt_method",
            "is present",
        ),
        ("ext[0].length", 8, "ext[0].length", "must be 16"),
        (
            "ext[0].encryption_offset",
            512,
            "ext[0].encryption_offset",
            "multiple of the cluster size",
        ),
        (
            "ext[0].encryption_length",
            1 << 40,
            "ext[0].encryption_length",
            "past the end of the file",
        ),
    ] {
        expect(&image, path, value, defect, words);
    }
    expect(&image, "luks.magic", "SKUL", "luks.magic", "must be LUKS");
}

#[test]
fn mapping_rules() {
    let image = plain();
    let data = image.get_uint("l2[0].entry[0].offset").unwrap();
    let end = 1_u64 << 40;
    for (path, value, defect, words) in [
        ("l1[0]", 0x1ff, "l1[0]", "reserved bits 0x1ff"),
        ("l1[0].offset", 0x200, "l1[0]", "not cluster aligned"),
        ("l1[0].offset", end, "l1[0]", "past the end"),
        ("l1[0]", 1 << 63, "l1[0]", "without an L2 table"),
        (
            "l2[0].entry[0].reserved_low",
            1,
            "l2[0].entry[0]",
            "reserved bits 0x2",
        ),
        (
            "l2[0].entry[0].reserved_high",
            1,
            "l2[0].entry[0]",
            "reserved bits",
        ),
        (
            "l2[0].entry[0].offset",
            data + 512,
            "l2[0].entry[0]",
            "not cluster aligned",
        ),
        (
            "l2[0].entry[0].offset",
            end,
            "l2[0].entry[0]",
            "past the end",
        ),
        (
            "l2[0].entry[0]",
            1 << 63,
            "l2[0].entry[0]",
            "without a cluster",
        ),
        (
            "l2[0].entry[0].copied",
            1,
            "l2[0].entry[0]",
            "the refcount is not one",
        ),
        (
            "l2[0].entry[1].copied",
            1,
            "l2[0].entry[1]",
            "on a compressed cluster",
        ),
        (
            "l2[0].entry[1].compressed_offset",
            end,
            "l2[0].entry[1]",
            "past the end",
        ),
        (
            "snapshot[0].l2[0].entry[1].compressed_offset",
            0,
            "l2[0].entry[1]",
            "the compressed data",
        ),
        (
            "snapshot[0].l1[0].reserved_high",
            1,
            "snapshot[0].l1[0]",
            "reserved bits",
        ),
    ] {
        expect(&image, path, value, defect, words);
    }
    let image = extended();
    for (path, value, words) in [
        ("l2[0].entry[0].zero", 1, "reserved bits 0x1"),
        (
            "l2[0].entry[0].subclusters_zero",
            3,
            "both allocated and zero",
        ),
        (
            "l2[0].entry[1].subclusters_allocated",
            3,
            "without a cluster",
        ),
        ("l2[0].entry[0].compressed", 1, "must be 0"),
    ] {
        expect(&image, path, value, path.rsplit_once('.').unwrap().0, words);
    }
    let image = external();
    let path = "l2[0].entry[3]";
    expect(
        &image,
        &format!("{path}.offset"),
        0x10000,
        path,
        "must be the guest offset 0x30000",
    );
    expect(
        &image,
        &format!("{path}.compressed"),
        1,
        path,
        "external data file",
    );
}

#[test]
fn record_rules() {
    let image = plain();
    for (path, value, defect, words) in [
        (
            "snapshot[0].l1_table_offset",
            8,
            "snapshot[0].l1_table_offset",
            "multiple of the cluster size",
        ),
        (
            "snapshot[0].l1_size",
            0,
            "snapshot[0].l1_size",
            "at least 1",
        ),
        (
            "snapshot[0].l1_size",
            1 << 30,
            "snapshot[0].l1_table_offset",
            "are outside the file",
        ),
        (
            "snapshot[0].extra_data_size",
            8,
            "snapshot[0].extra_data_size",
            "at least 16",
        ),
        (
            "snapshot[1].extra_data_size",
            1 << 31,
            "snapshot[1].name",
            "past the end of the file",
        ),
        (
            "bitmap[0].table_offset",
            8,
            "bitmap[0].table_offset",
            "multiple of the cluster size",
        ),
        ("bitmap[0].flags", 8, "bitmap[0].flags", "reserved bits 0x8"),
        ("bitmap[0].type", 2, "bitmap[0].type", "must be 1"),
        (
            "bitmap[0].granularity_bits",
            64,
            "bitmap[0].granularity_bits",
            "at most 63",
        ),
        (
            "bitmap[0].name_size",
            0,
            "bitmap[0].name_size",
            "must not be 0",
        ),
        (
            "bitmap[0].extra_data_size",
            8,
            "bitmap[0].extra_data_size",
            "should be 0",
        ),
        (
            "bitmap[0].table_size",
            0,
            "bitmap[0].table_size",
            "at least 1",
        ),
        (
            "bitmap[0].table[0].all_ones",
            1,
            "bitmap[0].table[0]",
            "reserved bits 0x1",
        ),
        (
            "bitmap[0].table[0].offset",
            1 << 40,
            "bitmap[0].table[0]",
            "past the end",
        ),
    ] {
        expect(&image, path, value, defect, words);
    }
    expect(&image, "snapshot[1].id", "1", "snapshot[1].id", "same ID");
    expect(&image, "bitmap[1].name", "a", "bitmap[1].name", "same name");
}

#[test]
fn refcount_rules() {
    let image = plain();
    let l1 = image.get_uint("header.l1_table_offset").unwrap();
    let l1_count = format!("refcount_block[0].entry[{}]", l1 >> 16);
    for (path, value, defect, words) in [
        (
            "refcount_table[0].reserved",
            1,
            "refcount_table[0]",
            "reserved bits 0x1",
        ),
        (
            "refcount_table[0].offset",
            0x200,
            "refcount_table[0]",
            "not cluster aligned",
        ),
        (
            "refcount_table[0].offset",
            1 << 40,
            "refcount_table[0]",
            "past the end",
        ),
        (&l1_count, 0, &l1_count, "has refcount 0, but 1 references"),
        (&l1_count, 2, &l1_count, "has refcount 2, but 1 references"),
        (
            "refcount_block[0].entry[4000]",
            1,
            "refcount_block[0].entry[4000]",
            "but no references",
        ),
        (
            "l2[0].entry[0].offset",
            l1,
            &format!("cluster[{}]", l1 >> 16),
            "as active_l1, data",
        ),
        (
            "l1[0].offset",
            l1,
            &format!("cluster[{}]", l1 >> 16),
            "as active_l1, l2",
        ),
        (
            "refcount_table[1].offset",
            l1,
            &format!("cluster[{}]", l1 >> 16),
            "as refcount_block, active_l1",
        ),
    ] {
        expect(&image, path, value, defect, words);
    }
}

/// Each rule says whether a reader must enforce it, which may depend on what else the image
/// says: what is to be ignored must not be refused.
#[test]
fn rules_say_how_binding_they_are() {
    use Requirement::{Must, Should};
    let binding = |image: &Image, name: &str| {
        let defects = image.defects().unwrap();
        let found = defects.iter().find(|defect| defect.name == name);
        found.map(|defect| defect.requirement)
    };
    let mut image = plain();
    for (path, value) in [
        ("header.header_length", 103),
        ("bitmap[0].type", 2),
        ("bitmap[1].flags.in_use", 1),
        ("bitmap[1].table[0].offset", 512),
    ] {
        image.set(path, value).unwrap();
    }
    assert_eq!(binding(&image, "header-length"), Some(Must));
    assert_eq!(binding(&image, "header-length-unit"), Some(Must));
    let mut image = plain();
    image.set("l1[0].reserved_low", 1).unwrap();
    image.set("bitmap[0].type", 2).unwrap();
    image.set("bitmap[1].table[0].offset", 512).unwrap();
    assert_eq!(binding(&image, "l1-reserved"), Some(Should));
    assert_eq!(binding(&image, "bitmap-type"), Some(Must));
    assert_eq!(binding(&image, "bitmap-cluster-aligned"), Some(Must));
    // The data of a bitmap in use are inconsistent, and not read.
    image.set("bitmap[1].flags.in_use", 1).unwrap();
    assert_eq!(binding(&image, "bitmap-cluster-aligned"), Some(Should));
    // Neither is any bitmap without its feature bit.
    image.set("header.autoclear_features.bitmaps", 0).unwrap();
    assert_eq!(binding(&image, "bitmap-type"), Some(Should));
    // A name in the header leaves open where the extensions end.
    let mut image = plain();
    image.set("ext[0].length", 1 << 20).unwrap();
    assert_eq!(binding(&image, "extension-length"), Some(Must));
    image.set("header.backing_file_offset", 50).unwrap();
    assert_eq!(binding(&image, "extension-length"), Some(Should));
}

#[test]
fn the_binding_rules_can_be_checked_alone() {
    let mut image = plain();
    for (path, value) in [
        ("header.refcount_order", 7),
        ("l1[0].reserved_low", 1),
        ("l2[0].entry[0].offset", 0x200),
        ("refcount_table[0].offset", 0x200),
        ("snapshot[0].l1_table_offset", 8),
        ("bitmap[0].type", 2),
    ] {
        image.set(path, value).unwrap();
    }
    let mut all = image.defects().unwrap();
    let count = all.len();
    all.retain(|defect| defect.requirement == Requirement::Must);
    assert!(all.len() < count);
    assert_eq!(image.binding_defects().unwrap(), all);
    assert_eq!(plain().binding_defects().unwrap(), []);
}

/// QEMU reads it as zero, and was once said to accept what must be refused.
#[test]
fn a_zero_cluster_needs_no_place_in_the_data_file() {
    let mut image = external();
    image.set("l2[0].entry[4].copied", 1_u64).unwrap();
    assert_eq!(image.defects().unwrap(), []);
    image.set("l2[0].entry[4].zero", 0_u64).unwrap();
    let defects = image.defects().unwrap();
    assert_eq!(defects[0].name, "cluster-in-data-file", "{defects:?}");
}

#[test]
fn version_2_has_no_zero_flag() {
    let spec = Spec {
        version: 2,
        clusters: vec![cluster(0, Content::Data(Pattern::Fill(1)))],
        ..Spec::default()
    };
    let image = build(&spec).unwrap().image;
    let path = "l2[0].entry[0]";
    expect(&image, &format!("{path}.zero"), 1, path, "zero flag");
}

#[test]
fn defects_name_rules_of_the_table() {
    let mut image = plain();
    image.set("header.crypt_method", 9).unwrap();
    image.set("l2[0].entry[0].reserved_low", 1).unwrap();
    let defects = image.defects().unwrap();
    assert!(!defects.is_empty());
    for defect in defects {
        let rule = RULES.iter().find(|rule| rule.name == defect.name);
        let rule = rule.unwrap_or_else(|| panic!("{defect}"));
        assert_eq!(rule.section, defect.section);
        assert_eq!(rule.requirement, defect.requirement);
    }
}

#[test]
fn refcounts_are_put_right() {
    let valid = plain();
    let mut image = valid.clone();
    for (path, value) in [
        ("refcount_block[0].entry[1]", 9),
        ("refcount_block[0].entry[99]", 1),
        ("l2[0].entry[0].copied", 1),
    ] {
        image.set(path, value).unwrap();
    }
    assert_ne!(image.defects().unwrap(), []);
    image.recompute_refcounts().unwrap();
    assert_eq!(image.defects().unwrap(), []);
    assert!(image.bytes().to_vec(1 << 24).unwrap() == valid.bytes().to_vec(1 << 24).unwrap());
}

/// Readers differ in which of two bitmaps extensions they use.
#[test]
fn of_two_bitmaps_extensions_neither_directory_is_the_right_one() {
    let image = |extensions: Vec<Extension>| {
        let spec = Spec {
            bitmaps: vec![Bitmap {
                name: "a".into(),
                granularity_bits: 16,
                enabled: true,
                in_use: false,
                clusters: vec![BitmapCluster::Data(Pattern::Fill(1))],
            }],
            extensions,
            ..Spec::default()
        };
        let mut image = build(&spec).unwrap().image;
        for path in ["ext[0].bitmap_directory_size", "bitmap[0].type"] {
            image.set(path, 64).unwrap();
        }
        image
    };
    let names = |image: Image| {
        let defects = image.binding_defects().unwrap();
        defects.iter().map(|it| it.name).collect::<Vec<_>>()
    };
    let one = names(image(Vec::new()));
    assert!(one.contains(&"bitmap-directory-size") && one.contains(&"bitmap-type"));
    let mut data = vec![0; 24];
    (data[3], data[15], data[21]) = (1, 32, 4);
    let kind = 0x2385_2875;
    assert_eq!(names(image(vec![Extension { kind, data }])), [""; 0]);
}
