use image_formats::qcow2::records::{EXT_BACKING_FORMAT, EXT_DATA_FILE, EXT_END};
use image_formats::qcow2::{Backing, Cluster, Content, Pattern, Spec};

use super::*;
use crate::finding::test_examples::{edited, recipe};
use crate::input::recipe::Recipe;
use image_mutations::base::{BackingFile, Base, Qcow2Base};
use image_mutations::edit::{Extension, Hex, Number};

/// A valid image of clusters of 64 KiB, with one that is allocated.
fn plain() -> Base {
    Base::Qcow2(Qcow2Base {
        image: Spec {
            clusters: vec![Cluster {
                index: 0,
                content: Content::Data(Pattern::Fill(0x55)),
            }],
            ..Spec::default()
        },
        backing: None,
    })
}

/// A valid image with a backing file of the format raw.
fn with_backing() -> Base {
    Base::Qcow2(Qcow2Base {
        image: Spec {
            backing: Some(Backing {
                name: "backing.img".into(),
                format: Some("raw".into()),
            }),
            ..Spec::default()
        },
        backing: Some(BackingFile {
            qcow2: false,
            virtual_size: 1 << 20,
        }),
    })
}

/// What these edits of `base` changed.
fn changed(base: Base, edits: Vec<Edit>) -> Vec<Change> {
    let mut recipe = recipe(&["qemu-img", "info", "$test_img"]);
    recipe.base = base;
    changes(&edited(recipe, edits))
}

/// The words on the only change that an edit made.
fn words(base: Base, edit: Edit) -> String {
    let [change] = changed(base, vec![edit]).try_into().unwrap();
    change.words
}

fn set(path: &str, value: u64) -> Edit {
    Edit::Set {
        path: path.into(),
        value: Number(value),
    }
}

fn bytes(at: u64, bytes: &[u8]) -> Edit {
    Edit::Bytes {
        at: Number(at),
        bytes: Hex(bytes.to_vec()),
    }
}

fn extension(magic: u32, length: u64, data: &[u8]) -> Extension {
    Extension {
        magic: Number(magic.into()),
        length: Number(length),
        data: Hex(data.to_vec()),
    }
}

/// The words on each change of the extensions of an image with a backing file.
fn extensions(list: &[Extension]) -> Vec<String> {
    let end = extension(EXT_END, 0, b"");
    let list = list.iter().cloned().chain([end]).collect();
    let changes = changed(with_backing(), vec![Edit::Extensions { list }]);
    changes.into_iter().map(|change| change.words).collect()
}

#[test]
fn a_field_is_told_with_its_bytes() {
    let [change] = changed(plain(), vec![set("header.cluster_bits", 63)])
        .try_into()
        .unwrap();
    assert_eq!(
        change.words,
        "`header.cluster_bits` (at byte 0x14) is 63, where the valid image has 16"
    );
    assert_eq!(
        (change.before.as_str(), change.after.as_str()),
        ("16", "63")
    );
    assert_eq!((change.offset, change.len), (0x14, 4));
    assert!(change.rule.starts_with("at least 9"), "{}", change.rule);
    assert_eq!(change.section, "Header");
    let excerpt = change.excerpt.unwrap();
    assert_eq!((excerpt.offset, excerpt.before.0.len()), (0, 48));
    assert_eq!(excerpt.before.0[0x14..0x18], [0, 0, 0, 16]);
    assert_eq!(excerpt.after.0[0x14..0x18], [0, 0, 0, 63]);
    let part = excerpt.fields.iter().find(|it| it.offset == 0x14).unwrap();
    assert_eq!((part.path.as_str(), part.len), ("header.cluster_bits", 4));
}

#[test]
fn an_offset_says_what_it_points_at() {
    let l2 = plain_offset("l1[0].offset");
    let told = |path: &str, value| words(plain(), set(path, value));
    let own = told("l2[0].entry[0].offset", l2);
    assert!(
        own.contains(&format!(
            "is {l2:#x}, the cluster of `l2[0]`, which it is in, where the valid image has 0x"
        )),
        "{own}"
    );
    let past = told("header.l1_table_offset", 1 << 40);
    assert!(past.contains(", past the end of the file (0x"), "{past}");
    let odd = told("header.l1_table_offset", l2 + 8);
    let expected = "not cluster aligned, in the cluster of `l2[0]`,";
    assert!(odd.contains(expected), "{odd}");
    let zero = told("header.l1_table_offset", 0);
    assert!(zero.contains("is 0, the cluster of the header,"), "{zero}");
    let none = told("l1[0].offset", 0);
    assert!(none.contains("is 0, where the valid image"), "{none}");
    let data = plain_offset("l2[0].entry[0].offset");
    let data = told("header.l1_table_offset", data);
    let expected = "the cluster that `l2[0].entry[0].offset` has too,";
    assert!(data.contains(expected), "{data}");
}

/// An offset in the plain image.
fn plain_offset(path: &str) -> u64 {
    let example = edited(
        Recipe {
            base: plain(),
            ..recipe(&["x"])
        },
        Vec::new(),
    );
    example.prepared.map.number(path).unwrap()
}

#[test]
fn of_flags_and_entries_the_bits_are_told() {
    let told = words(plain(), set("header.incompatible_features", 2));
    assert!(
        told.ends_with("where the valid image has 0: `corrupt` is 1 and not 0"),
        "{told}"
    );
}

#[test]
fn bytes_are_told_by_the_field_they_are_in() {
    let l1 = plain_offset("header.l1_table_offset");
    let told = words(plain(), bytes(l1 + 5, &[0xff]));
    assert!(told.starts_with("`l1[0]` (at byte 0x"), "{told}");
    assert!(told.contains("`offset` is 0xff"), "{told}");
    let two = words(plain(), bytes(20, &[0, 0, 0, 9, 0, 0, 0, 1]));
    assert!(
        two.contains("`header.cluster_bits` (at byte 0x14) is 9,"),
        "{two}"
    );
    assert!(two.contains("; `header.size` (at byte 0x18) is "), "{two}");
    let none = words(plain(), bytes(0xfff0, b"some text"));
    assert_eq!(
        none,
        "9 bytes at 0xfff0, in no field, in the cluster of the header: \
         'some text', where the valid image has 9 zero bytes"
    );
    let past = words(plain(), bytes(1 << 24, &[1, 2]));
    assert_eq!(
        past,
        "2 bytes at 0x1000000, past the end of the valid image: \
         hex 0102, where the valid image has nothing"
    );
}

/// Bytes that other edits make a name were once told as bytes of no field.
#[test]
fn a_name_that_edits_make_is_told_as_text() {
    let edits = vec![
        set("header.backing_file_offset", 0x200),
        set("header.backing_file_size", 9),
        bytes(0x200, b"other.img"),
    ];
    let changes = changed(plain(), edits);
    assert_eq!(
        changes[0].words,
        "`header.backing_file_offset` (at byte 0x8) is 0x200, where the valid image has 0"
    );
    assert_eq!(
        changes[2].words,
        "`backing_file_name` (9 bytes at 0x200) says 'other.img'; \
         the valid image has 9 zero bytes there"
    );
    let edit = Edit::Text {
        path: "backing_file_name".into(),
        text: "json:x".into(),
    };
    let told = words(with_backing(), edit);
    let expected = "says 'json:x'; the valid image says 'backing.img'";
    assert!(told.ends_with(expected), "{told}");
}

#[test]
fn of_extensions_what_differs_is_told() {
    let raw = extension(EXT_BACKING_FORMAT, 3, b"raw");
    let other = extension(EXT_BACKING_FORMAT, 8, b"blkdebug");
    assert_eq!(
        extensions(std::slice::from_ref(&other)),
        [
            "the backing file format extension (0xe2792aca) says 'blkdebug'; \
          the valid image says 'raw'"
        ]
    );
    assert_eq!(
        extensions(&[]),
        [
            "the backing file format extension (0xe2792aca) is missing; \
          in the valid image it says 'raw'"
        ]
    );
    let twice = extensions(&[raw.clone(), other]);
    assert_eq!(twice.len(), 1, "{twice:?}");
    assert!(
        twice[0].ends_with("says 'blkdebug'; the valid image has only 1 of that type"),
        "{twice:?}"
    );
    let long = extension(EXT_BACKING_FORMAT, 0xffff_ffff, b"raw");
    assert_eq!(
        extensions(&[long]),
        [
            "the backing file format extension (0xe2792aca) claims a length of \
          0xffffffff (4294967295), where the valid image has 3; its data is 'raw'"
        ]
    );
    let typed = extension(EXT_DATA_FILE, 3, b"raw");
    let typed = extensions(&[typed]);
    assert!(
        typed[0].contains("which says 'raw', is the external data file name extension"),
        "{typed:?}"
    );
    let unknown = extensions(&[raw.clone(), extension(0x7e57_0001, 2, &[1, 2])]);
    assert!(
        unknown[0].contains("has the data hex 0102; the valid image has none"),
        "{unknown:?}"
    );
    let early = extensions(&[extension(EXT_END, 0, b""), raw.clone()]);
    assert!(
        early.iter().any(|it| it.contains("in the order end of")),
        "{early:?}"
    );
    let list = vec![raw];
    let changes = changed(with_backing(), vec![Edit::Extensions { list }]);
    assert_eq!(
        changes[0].words,
        "no extension of type 0 ends the header extensions"
    );
}

#[test]
fn a_length_says_what_is_cut_off() {
    let l2 = plain_offset("l1[0].offset");
    let edit = |bytes| Edit::Length {
        bytes: Number(bytes),
    };
    let [change] = changed(plain(), vec![edit(l2)]).try_into().unwrap();
    let expected = ": what is cut off is of `l2[0]`";
    assert!(change.words.ends_with(expected), "{}", change.words);
    let excerpt = change.excerpt.unwrap();
    assert!(excerpt.after.0.len() < excerpt.before.0.len());
    let longer = words(plain(), edit(1 << 30));
    assert!(
        longer.starts_with("the file is 0x40000000 (1073741824) bytes long and not 0x"),
        "{longer}"
    );
}

#[test]
fn a_field_that_is_set_twice_is_told_once() {
    let told = changed(
        plain(),
        vec![set("header.l1_size", 7), set("header.l1_size", 9)],
    );
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].after, "9");
}

#[test]
fn an_example_without_edits_has_no_changes() {
    assert_eq!(changed(plain(), Vec::new()), []);
    // Fields past the limit of what is told.
    let path = |index| format!("refcount_block[0].entry[{index}]");
    let edits = (0..100).map(|index| set(&path(index), 9)).collect();
    assert_eq!(changed(plain(), edits).len(), MAX_CHANGES);
}
