//! Subcluster bitmaps that contradict themselves or their entry.

use image_formats::Kind;

use super::edits::{set, single};
use crate::edit::Edit;
use crate::map::Map;
use crate::rng::Rng;

/// Bits of an extended L2 entry: both allocated and zero, allocated without a
/// cluster, set for a compressed one.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let bitmaps =
        map.filter(|field| field.kind == Kind::Bitmap && field.path.ends_with(".subclusters"));
    let field = rng.pick(&bitmaps)?;
    let present = field.value.as_uint()?;
    let low = present & 0xffff_ffff;
    let bit = 1 << rng.below(32);
    let value = match rng.below(6) {
        0 => u64::MAX,
        1 => present | low << 32,
        2 => present ^ bit,
        3 => present ^ (bit << 32),
        4 => present ^ (bit | bit << 32),
        _ => 0xffff_ffff,
    };
    single(set(field, value))
}
