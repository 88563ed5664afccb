//! Names that QEMU's image fuzzer had for fields, and one of their kind for a table that it did
//! not have, understood by `--config` along with those of `image-fuzzer show`.

use image_formats::Field;

/// The structures whose fields it names, the name, and whether it names that field of one of
/// these structures.
pub(super) type LegacyName = (&'static [&'static str], &'static str, fn(&Field) -> bool);

const LEGACY_NAMES: &[LegacyName] = &[
    (&["header"], "snapshot_offset", |field| {
        last(field) == "snapshots_offset"
    }),
    (&["backing_file_name"], "bf_name", |field| {
        field.path == "backing_file_name"
    }),
    (EXTENSIONS, "ext_magic", |field| {
        last(field) == "type" && !of_feature(field)
    }),
    (EXTENSIONS, "ext_length", |field| {
        last(field) == "length" && !of_feature(field)
    }),
    (&["backing_file_format"], "bf_format", |field| {
        last(field) == "text"
    }),
    (FEATURES, "feature_type", |field| {
        last(field) == "type" && of_feature(field)
    }),
    (FEATURES, "feature_bit_number", |field| last(field) == "bit"),
    (FEATURES, "feature_name", |field| last(field) == "name"),
    (&["l1_table"], "l1_entry", is_entry),
    (&["l2_tables"], "l2_entry", is_entry),
    (&["refcount_table"], "refcount_table_entry", is_entry),
    (&["refcount_blocks"], "refcount_block_entry", |_| true),
    (&["bitmap_tables"], "bitmap_table_entry", is_entry),
];

const FEATURES: &[&str] = &["feature_name_table"];

/// Structures with the head of a header extension.
const EXTENSIONS: &[&str] = &[
    "backing_file_format",
    "feature_name_table",
    "end_of_extension_area",
];

/// The names for fields of `structure`.
pub(super) fn of(structure: &str) -> impl Iterator<Item = &'static LegacyName> {
    LEGACY_NAMES
        .iter()
        .filter(move |(structures, _, _)| structures.contains(&structure))
}

/// The last name of a field's path.
pub(super) fn last(field: &Field) -> &str {
    field.path.rsplit('.').next().unwrap_or_default()
}

/// Whether it is a field of one of the features that an extension lists.
fn of_feature(field: &Field) -> bool {
    field.path.contains(".feature[")
}

/// Whether it is an entry of a table as a whole.
fn is_entry(field: &Field) -> bool {
    last(field).ends_with(']')
}
