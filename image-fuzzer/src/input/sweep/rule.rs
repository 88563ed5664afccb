//! From a rule for a value to edits of an image.

use image_formats::qcow2::records::{
    EXT_BACKING_FORMAT, EXT_BITMAPS, EXT_DATA_FILE, EXT_ENCRYPTION, EXT_FEATURE_NAMES,
};
use image_formats::{Field, Kind, Value};

use image_mutations::base::Prepared;
use image_mutations::edit::{Edit, Hex, Number};
use image_mutations::mutate::{extension, extensions};

/// How the new value of a field is found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// This number.
    Is(u64),
    /// The present value and this many.
    Plus(i64),
    /// The present value with these bits inverted.
    Flip(u64),
    /// All bits set.
    Max,
    /// So many clusters, in bytes.
    Clusters(u64),
    /// As many clusters as hold so many bytes.
    Holding(u64),
    /// So many entries of the L1 table's worth of disk, in bytes.
    L1Entries(u64),
    /// So many clusters past the end of the file.
    PastEnd(u64),
    /// The last cluster that the bits of the field can name.
    LastCluster,
    /// The value of the field of that path.
    Of(&'static str),
    /// The start of the cluster that the field is in.
    Itself,
    /// So many bytes further, and what was pointed to is copied to there.
    Moved(u64),
    /// Text of so many letters.
    Letters(usize),
}

/// The path of the pseudo field that is the length of the file.
pub(super) const FILE_LENGTH: &str = "file.length";

/// How much of what was pointed to is copied.
const MOVED_BYTES: usize = 1024;

/// The edits that `rule` gives for the field of that path; `None` where the image has no such
/// field, or the field has that value.
pub(super) fn edits(prepared: &Prepared, path: &str, rule: Rule) -> Option<Vec<Edit>> {
    let map = &prepared.map;
    if path == FILE_LENGTH {
        let bytes = match rule {
            Rule::Is(bytes) => bytes,
            Rule::Plus(bytes) => map.file_len.checked_add_signed(bytes)?,
            _ => return None,
        };
        let bytes = Number(bytes);
        return Some(vec![Edit::Length { bytes }]);
    }
    let path = resolve(prepared, path)?;
    if let Rule::Letters(count) = rule {
        return letters(prepared, &path, count);
    }
    let field = map.get(&path)?;
    let Value::Uint(present) = field.value else {
        return None;
    };
    let value = number(prepared, field, present, rule)? & field.place.mask();
    let set = Edit::Set {
        path: path.clone(),
        value: Number(value),
    };
    let mut edits = Vec::new();
    if matches!(rule, Rule::Moved(_)) {
        let mut bytes = vec![0; MOVED_BYTES];
        prepared.image.bytes().read(present, &mut bytes);
        edits.push(Edit::Bytes {
            at: Number(value),
            bytes: Hex(bytes),
        });
    }
    edits.push(set);
    (value != present).then_some(edits)
}

/// The number that `rule` gives for a field that holds `present`.
fn number(prepared: &Prepared, field: &Field, present: u64, rule: Rule) -> Option<u64> {
    let map = &prepared.map;
    let cluster = map.cluster;
    let mask = field.place.mask();
    Some(match rule {
        Rule::Is(value) => value,
        Rule::Plus(step) => present.wrapping_add_signed(step),
        Rule::Flip(bits) => present ^ bits,
        Rule::Max => mask,
        Rule::Clusters(count) => count * cluster,
        Rule::Holding(bytes) => bytes.div_ceil(cluster),
        Rule::L1Entries(count) => count.wrapping_mul(l2_coverage(prepared)),
        Rule::PastEnd(count) => map.file_len.next_multiple_of(cluster) + count * cluster,
        Rule::LastCluster => mask & cluster.wrapping_neg(),
        Rule::Of(path) => map.number(&resolve(prepared, path)?)?,
        Rule::Itself => field.offset - field.offset % cluster,
        Rule::Moved(bytes) => present + bytes,
        Rule::Letters(_) => return None,
    })
}

/// The type of a header extension by its name in paths.
fn extension_type(name: &str) -> Option<u32> {
    Some(match name {
        "backing_format" => EXT_BACKING_FORMAT,
        "bitmaps" => EXT_BITMAPS,
        "data_file" => EXT_DATA_FILE,
        "encryption" => EXT_ENCRYPTION,
        "feature_names" => EXT_FEATURE_NAMES,
        "unknown" => 0x7e57_7e57,
        other => return other.parse().ok(),
    })
}

/// Bytes of the disk that one L2 table maps.
pub(super) fn l2_coverage(prepared: &Prepared) -> u64 {
    let cluster = prepared.map.cluster;
    let extended = prepared
        .map
        .number("header.incompatible_features.extended_l2");
    let entry = if extended == Some(1) { 16 } else { 8 };
    cluster / entry * cluster
}

/// The path of a field that a row names: `ext[data_file].…` for the header extension of that
/// type, `refcount(…)` for the refcount of the cluster that the field in it points to.
fn resolve(prepared: &Prepared, path: &str) -> Option<String> {
    if let Some(pointer) = path.strip_prefix("refcount(") {
        let map = &prepared.map;
        let cluster = map.number(pointer.strip_suffix(')')?)? / map.cluster;
        let order = map.number("header.refcount_order").unwrap_or(4);
        let entries = (map.cluster * 8) >> order;
        let (block, entry) = (cluster / entries, cluster % entries);
        return Some(format!("refcount_block[{block}].entry[{entry}]"));
    }
    let Some((name, rest)) = path
        .strip_prefix("ext[")
        .and_then(|rest| rest.split_once(']'))
    else {
        return Some(path.to_owned());
    };
    let magic = extension_type(name)?;
    let map = &prepared.map;
    (0..)
        .map(|index| format!("ext[{index}]"))
        .map_while(|prefix| Some((map.number(&format!("{prefix}.type"))?, prefix)))
        .find(|(present, _)| *present == u64::from(magic))
        .map(|(_, prefix)| format!("{prefix}{rest}"))
}

/// The header extension at `path` with a text of `count` letters.
fn letters(prepared: &Prepared, path: &str, count: usize) -> Option<Vec<Edit>> {
    let text = vec![b'x'; count];
    let mut list = extensions(&prepared.map);
    let index = path.strip_prefix("ext[")?.split_once(']')?.0;
    let changed = list.get_mut(index.parse::<usize>().ok()?)?;
    *changed = extension(changed.magic.0 as u32, text);
    list.push(extension(0, Vec::new()));
    Some(vec![Edit::Extensions { list }])
}

/// Where in the disk the change of the field of that path shows, in bytes.
pub(super) fn guest_offset(prepared: &Prepared, path: &str) -> u64 {
    let index = |prefix: &str| {
        let rest = path.get(path.find(prefix)? + prefix.len()..)?;
        rest.split_once(']')?.0.parse::<u64>().ok()
    };
    let table = index("l1[").or_else(|| index("l2[")).unwrap_or(0);
    let entry = index(".entry[").filter(|_| path.contains("l2["));
    let at = table * l2_coverage(prepared) + entry.unwrap_or(0) * prepared.map.cluster;
    let size = prepared.map.number("header.size").unwrap_or(0);
    if at < size { at } else { 0 }
}

/// The family that a change of `field` would be drawn from.
pub(super) fn family(path: &str, field: Option<&Field>) -> &'static str {
    const STRUCTURES: &[(&str, &str)] = &[
        ("snapshot", "snapshot"),
        ("bitmap", "bitmap"),
        ("refcount_block", "refcount"),
        ("refcount(", "refcount"),
        ("ext[", "extension"),
        (FILE_LENGTH, "length"),
    ];
    if path.ends_with("compressed_offset") || path.ends_with(".sectors") {
        return "compressed";
    }
    if path.contains("subclusters") {
        return "subcluster";
    }
    if path.ends_with("nb_snapshots") {
        return "snapshot";
    }
    if let Some((_, family)) = STRUCTURES.iter().find(|(start, _)| path.starts_with(start)) {
        return family;
    }
    match field.map(|field| field.kind) {
        Some(Kind::Offset) => "pointer",
        Some(Kind::Flag | Kind::Flags) => "flag",
        Some(Kind::Count) => "table",
        _ => "boundary",
    }
}
