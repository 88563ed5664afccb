//! Wrong checksums of what is right otherwise.

use image_formats::Kind;

use super::edits::{set, single};
use crate::edit::Edit;
use crate::map::Map;
use crate::rng::Rng;

/// One checksum to another value.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let checksums = map.of_kind(Kind::Checksum);
    let field = *rng.pick(&checksums)?;
    let present = field.value.as_uint()?;
    let bits = field.width_bits.clamp(1, 64);
    single(set(
        field,
        match rng.below(4) {
            0 => 0,
            1 => u64::MAX,
            2 => !present,
            _ => present ^ 1 << rng.below(bits),
        },
    ))
}
