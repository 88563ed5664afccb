//! Snapshots that contradict the header, the file and each other.

use image_formats::{Field, Kind};

use super::{MutationContext, disturb, set};
use crate::input::recipe::{Edit, Number};
use crate::rng::Rng;

/// The most snapshots that an image claims and a reader may take for real. Seldom drawn,
/// as an edge.
const MOST: u64 = 511;

/// The most that are drawn as any other number is.
const CHEAP: u64 = 64;

/// From here on QEMU refuses the image before it reads a snapshot.
const REFUSED: u64 = 65537;

/// `count` for `field`, or fewer where that is the number of snapshots and would cost too
/// much: each snapshot is read by itself, so that a reader that takes hundreds for real
/// is busy for as long as some other images would keep it.
pub(super) fn affordable(field: &Field, count: u64) -> u64 {
    let costs = (CHEAP + 1..REFUSED).contains(&count) && count != MOST;
    if field.path == "header.nb_snapshots" && costs {
        count % CHEAP
    } else {
        count
    }
}

/// A field of a snapshot or of its tables, or how many snapshots there are.
pub(super) fn draw(context: MutationContext<'_>, rng: &mut Rng) -> Option<Vec<Edit>> {
    let map = context.map;
    let own: Vec<&Field> = map.filter(|field| {
        field.path.starts_with("snapshot[") && !matches!(field.kind, Kind::Text | Kind::Bytes)
    });
    if own.is_empty() {
        return invented(context, rng);
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
            let many = if rng.chance(8) { MOST } else { 40 };
            let near = [count.value.as_uint()? + 1, 0, many];
            Some(vec![set(count, *rng.pick(&near)?)?])
        }
        3 => {
            let fixed: Vec<&Field> = own
                .iter()
                .copied()
                .filter(|field| !field.path.contains("].l"))
                .collect();
            disturb(context, &fixed, rng)
        }
        _ => disturb(context, &own, rng),
    }
}

/// Claims snapshots in an image that has none, in a place that is something else.
fn invented(context: MutationContext<'_>, rng: &mut Rng) -> Option<Vec<Edit>> {
    let place = *rng.pick(context.map.places())?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::case::Maker;
    use crate::input::mutate::boundary::interesting;

    /// Images with thousands of snapshots once took most of a campaign's time.
    #[test]
    fn values_cost_few_snapshots_but_for_one_edge() {
        let base = crate::input::base::draw(&mut Rng::from_text("any"));
        let map = Maker::default().prepared(&base).unwrap().map.clone();
        let count = map.get("header.nb_snapshots").unwrap();
        let values = interesting(&map, count);
        assert!(values.contains(&65537) && values.contains(&63));
        for value in values {
            assert!(
                value <= CHEAP || value == MOST || value >= REFUSED,
                "{value}"
            );
        }
        assert_eq!(affordable(count, MOST), MOST);
        for many in [CHEAP + 1, MOST - 1, MOST + 1, REFUSED - 1] {
            assert!(affordable(count, many) < CHEAP, "{many}");
        }
        assert_eq!(affordable(count, REFUSED), REFUSED);
        let other = map.get("header.l1_size").unwrap();
        assert_eq!(affordable(other, 1000), 1000);
    }
}
