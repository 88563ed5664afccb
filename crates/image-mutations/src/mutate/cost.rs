//! Values that would keep readers busy for too long.

use image_formats::Field;

/// The most snapshots that an image claims and a reader may accept. Seldom drawn, as an
/// edge.
pub(super) const MAX_READ_SNAPSHOTS: u64 = 511;

/// The most that are drawn as any other number is.
const CHEAP: u64 = 64;

/// From here on QEMU refuses the image before it reads a snapshot.
const REFUSED: u64 = 65537;

/// `count` for `field`, or fewer where that is the number of snapshots and would cost too
/// much: each snapshot is read by itself, so that a reader that accepts hundreds is busy for
/// as long as with several other images.
pub(super) fn affordable(field: &Field, count: u64) -> u64 {
    let costs = (CHEAP + 1..REFUSED).contains(&count) && count != MAX_READ_SNAPSHOTS;
    if field.path == "header.nb_snapshots" && costs {
        count % CHEAP
    } else {
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Maker;
    use crate::mutate::interesting;
    use crate::rng::Rng;

    /// Images with thousands of snapshots once took most of a campaign's time.
    #[test]
    fn values_cost_few_snapshots_but_for_one_edge() {
        let base = crate::base::draw(&mut Rng::from_text("any"));
        let map = Maker::default().prepared(&base).unwrap().map.clone();
        let count = map.get("header.nb_snapshots").unwrap();
        let values = interesting(&map, count);
        assert!(values.contains(&65537) && values.contains(&63));
        for value in values {
            assert!(
                value <= CHEAP || value == MAX_READ_SNAPSHOTS || value >= REFUSED,
                "{value}"
            );
        }
        assert_eq!(affordable(count, MAX_READ_SNAPSHOTS), MAX_READ_SNAPSHOTS);
        for many in [
            CHEAP + 1,
            MAX_READ_SNAPSHOTS - 1,
            MAX_READ_SNAPSHOTS + 1,
            REFUSED - 1,
        ] {
            assert!(affordable(count, many) < CHEAP, "{many}");
        }
        assert_eq!(affordable(count, REFUSED), REFUSED);
        let other = map.get("header.l1_size").unwrap();
        assert_eq!(affordable(other, 1000), 1000);
    }
}
