//! Names that QEMU's image fuzzer had for fields, understood by `--config` along with those
//! of `image-fuzzer show`.

use image_formats::Field;

/// A name of that fuzzer.
pub(super) struct LegacyName {
    /// The structures whose fields it names.
    structures: &'static [&'static str],
    /// The name.
    pub(super) name: &'static str,
    /// Whether it names that field of one of these structures.
    pub(super) names: fn(&Field) -> bool,
}

/// Structures with the head of a header extension.
const EXTENSIONS: &[&str] = &[
    "backing_file_format",
    "feature_name_table",
    "end_of_extension_area",
];

const LEGACY_NAMES: [LegacyName; 12] = [
    legacy(&["header"], "snapshot_offset", |field| {
        last(field) == "snapshots_offset"
    }),
    legacy(&["backing_file_name"], "bf_name", |field| {
        field.path == "backing_file_name"
    }),
    legacy(EXTENSIONS, "ext_magic", |field| {
        last(field) == "type" && !of_feature(field)
    }),
    legacy(EXTENSIONS, "ext_length", |field| {
        last(field) == "length" && !of_feature(field)
    }),
    legacy(&["backing_file_format"], "bf_format", |field| {
        last(field) == "text"
    }),
    legacy(&["feature_name_table"], "feature_type", |field| {
        last(field) == "type" && of_feature(field)
    }),
    legacy(&["feature_name_table"], "feature_bit_number", |field| {
        last(field) == "bit"
    }),
    legacy(&["feature_name_table"], "feature_name", |field| {
        last(field) == "name"
    }),
    legacy(&["l1_table"], "l1_entry", is_entry),
    legacy(&["l2_tables"], "l2_entry", is_entry),
    legacy(&["refcount_table"], "refcount_table_entry", is_entry),
    legacy(&["refcount_blocks"], "refcount_block_entry", |_| true),
];

const fn legacy(
    structures: &'static [&'static str],
    name: &'static str,
    names: fn(&Field) -> bool,
) -> LegacyName {
    LegacyName {
        structures,
        name,
        names,
    }
}

/// The names for fields of `structure`.
pub(super) fn of(structure: &str) -> impl Iterator<Item = &'static LegacyName> {
    LEGACY_NAMES
        .iter()
        .filter(move |legacy| legacy.structures.contains(&structure))
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
