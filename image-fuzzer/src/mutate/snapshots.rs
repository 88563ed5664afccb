//! Snapshots that contradict the header, the file and each other.

use image_formats::{Field, Kind};

use super::{Ground, disturb, set};
use crate::recipe::{Edit, Number};
use crate::rng::Rng;

/// A field of a snapshot or of its tables, or how many snapshots there are.
pub(super) fn draw(ground: Ground<'_>, rng: &mut Rng) -> Option<Vec<Edit>> {
    let map = ground.map;
    let own: Vec<&Field> = map.filter(|field| {
        field.path.starts_with("snapshot[") && !matches!(field.kind, Kind::Text | Kind::Bytes)
    });
    if own.is_empty() {
        return invented(ground, rng);
    }
    match rng.below(6) {
        // The snapshot's table is the active one, or the other way about.
        0 => {
            let mine = map.number("snapshot[0].l1_table_offset")?;
            let active = map.get("header.l1_table_offset")?;
            Some(vec![set(active, mine)?])
        }
        1 => {
            let active = map.number("header.l1_table_offset")?;
            let mine = map.get("snapshot[0].l1_table_offset")?;
            Some(vec![set(mine, active)?])
        }
        2 => {
            let count = map.get("header.nb_snapshots")?;
            // Many are rare, since a reader is busy with them for long.
            let many = if rng.chance(8) { 1000 } else { 40 };
            let near = [count.value.as_uint()? + 1, 0, many];
            Some(vec![set(count, *rng.pick(&near)?)?])
        }
        3 => {
            let fixed: Vec<&Field> = own
                .iter()
                .copied()
                .filter(|field| !field.path.contains("].l"))
                .collect();
            disturb(ground, &fixed, rng)
        }
        _ => disturb(ground, &own, rng),
    }
}

/// Claims snapshots in an image that has none, in a place that is something else.
fn invented(ground: Ground<'_>, rng: &mut Rng) -> Option<Vec<Edit>> {
    let place = *rng.pick(ground.map.places())?;
    Some(vec![
        Edit::Set {
            path: "header.nb_snapshots".into(),
            value: Number(rng.between(1, 3)),
        },
        Edit::Set {
            path: "header.snapshots_offset".into(),
            value: Number(place),
        },
    ])
}
