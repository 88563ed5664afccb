//! Bitmaps that contradict the disk, the header and each other.

use image_formats::{Field, Kind};

use super::edits::{set, to_boundary};
use crate::edit::Edit;
use crate::map::Map;
use crate::rng::Rng;

/// A field of the bitmaps extension, of a bitmap or of its table.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let own: Vec<&Field> = map.filter(|field| {
        (field.path.starts_with("bitmap[")
            || field.path.contains("bitmap_directory")
            || field.path.ends_with("nb_bitmaps"))
            && !matches!(field.kind, Kind::Text | Kind::Bytes)
    });
    match rng.below(6) {
        0 => {
            // Another disk size: each bitmap's table is then of the wrong length.
            let size = map.get("header.size")?;
            own.first()?;
            let present = size.value.as_uint()?;
            let sizes = [
                present.wrapping_mul(2),
                present / 2,
                512,
                present.wrapping_add(512),
            ];
            Some(vec![set(size, *rng.pick(&sizes)?)?])
        }
        1 => {
            let flag = map.get("header.autoclear_features.bitmaps")?;
            own.first()?;
            Some(vec![set(flag, flag.value.as_uint()? ^ 1)?])
        }
        2 => {
            let bits: Vec<&Field> = own
                .iter()
                .copied()
                .filter(|field| field.path.ends_with("granularity_bits"))
                .collect();
            let field = rng.pick(&bits)?;
            Some(vec![set(
                field,
                *rng.pick(&[0, 8, 9, 31, 32, 63, 64, 255])?,
            )?])
        }
        _ => to_boundary(map, &own, rng),
    }
}
