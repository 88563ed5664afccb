//! Feature bits without the structures they need, versions without their fields.

use super::edits::set;
use crate::edit::Edit;
use crate::map::Map;
use crate::rng::Rng;

/// Header fields that say how to read the rest, and values that readers know.
const CHOICES: [(&str, &[u64]); 14] = [
    ("header.version", &[2, 3]),
    // Unknown ones, with one of those that have names.
    ("header.incompatible_features", &[1 << 5, (1 << 63) | 1]),
    ("header.incompatible_features.dirty", &[1]),
    ("header.incompatible_features.corrupt", &[1]),
    ("header.incompatible_features.data_file", &[0, 1]),
    ("header.incompatible_features.compression", &[0, 1]),
    ("header.incompatible_features.extended_l2", &[0, 1]),
    ("header.compatible_features.lazy_refcounts", &[0, 1]),
    ("header.autoclear_features.bitmaps", &[0, 1]),
    ("header.autoclear_features.raw_data_file", &[0, 1]),
    ("header.refcount_order", &[0, 1, 2, 3, 4, 5, 6]),
    ("header.crypt_method", &[1, 2]),
    ("header.compression_type", &[0, 1]),
    ("header.cluster_bits", &[9, 10, 11, 12, 13, 14, 16, 21]),
];

/// One of these to another of its values; compression type and its feature bit
/// sometimes together, so that the reader accepts them.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    if rng.chance(12) {
        let kind = map.get("header.compression_type")?;
        let flag = map.get("header.incompatible_features.compression")?;
        let value = kind.value.as_uint()? ^ 1;
        return Some(vec![set(kind, value)?, set(flag, value)?]);
    }
    let (path, values) = rng.pick(&CHOICES)?;
    let field = map.get(path)?;
    Some(vec![set(field, *rng.pick(values)?)?])
}
