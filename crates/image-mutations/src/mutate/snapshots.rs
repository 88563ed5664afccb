//! Snapshots that contradict the header, the file and each other.

use image_formats::{Field, Kind};

use super::cost::MAX_READ_SNAPSHOTS;
use super::edits::{set, to_boundary};
use crate::edit::{Edit, Number};
use crate::map::Map;
use crate::rng::Rng;

/// A field of a snapshot or of its tables, or how many snapshots there are.
pub(super) fn draw(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let own: Vec<&Field> = map.filter(|field| {
        field.path.starts_with("snapshot[") && !matches!(field.kind, Kind::Text | Kind::Bytes)
    });
    if own.is_empty() {
        return invented(map, rng);
    }
    match rng.below(6) {
        // The snapshot's table is the active one, or the reverse.
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
            let many = if rng.chance(8) {
                MAX_READ_SNAPSHOTS
            } else {
                40
            };
            let near = [count.value.as_uint()?.wrapping_add(1), 0, many];
            Some(vec![set(count, *rng.pick(&near)?)?])
        }
        3 => {
            let fixed: Vec<&Field> = own
                .iter()
                .copied()
                .filter(|field| !field.path.contains("].l"))
                .collect();
            to_boundary(map, &fixed, rng)
        }
        _ => to_boundary(map, &own, rng),
    }
}

/// Claims snapshots in an image that has none, in a place that is something else.
fn invented(map: &Map, rng: &mut Rng) -> Option<Vec<Edit>> {
    let place = *rng.pick(map.places())?;
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
