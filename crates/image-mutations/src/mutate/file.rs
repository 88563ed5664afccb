//! The file itself truncated or too long.

use crate::edit::{Edit, Number};
use crate::map::Map;
use crate::rng::Rng;

/// Another length of the image file.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let len = map.file_len;
    let cluster = map.cluster;
    let bytes = match rng.below(7) {
        0 => len.saturating_sub(cluster),
        1 => len.saturating_sub(512),
        2 => len.saturating_sub(1),
        3 => rng.below(len),
        4 => len.saturating_add(cluster),
        5 => len.saturating_add(512),
        _ => len.saturating_add(1 << rng.between(20, 42)),
    };
    (bytes != len).then(|| {
        vec![Edit::Length {
            bytes: Number(bytes),
        }]
    })
}
