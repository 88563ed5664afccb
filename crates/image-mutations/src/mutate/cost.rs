//! Values that would keep readers busy for too long.

use image_formats::Field;

/// The most snapshots that an image claims and a reader may accept. Seldom drawn, as an
/// edge.
pub(super) const MAX_READ_SNAPSHOTS: u64 = 511;

/// The most that are drawn as any other number is.
const CHEAP: u64 = 64;

/// From here on QEMU refuses the image before it reads a snapshot.
const REFUSED: u64 = 65537;

/// The most rounds of PBKDF2 in a LUKS volume that are drawn as any other number is.
const CHEAP_ROUNDS: u64 = 4096;

/// `count` for `field`, or fewer where that is the number of snapshots and would cost too
/// much: each snapshot is read by itself, so that a reader that accepts hundreds is busy for
/// as long as with several other images. So it is with rounds of PBKDF2 in a LUKS volume, of
/// which the highest number is left to show what a reader does about it.
pub(super) fn affordable(field: &Field, count: u64) -> u64 {
    let path = field.path.as_str();
    let is_rounds = path.starts_with("key_slot[") && path.ends_with("].iterations")
        || path == "header.mk_digest_iterations";
    if is_rounds && count > CHEAP_ROUNDS && count != u64::from(u32::MAX) {
        return count % CHEAP_ROUNDS;
    }
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

    /// A volume that asks for some thousand million rounds holds a reader up for minutes.
    #[test]
    fn values_cost_few_rounds_but_for_one_edge() {
        let base = crate::base::Formats::named("luks").unwrap().plain();
        let map = Maker::default().prepared(&base).unwrap().map.clone();
        for path in ["key_slot[3].iterations", "header.mk_digest_iterations"] {
            let rounds = map.get(path).unwrap();
            let values = interesting(&map, rounds);
            let most = u64::from(u32::MAX);
            assert!(values.contains(&most), "{values:?}");
            let dear = values.iter().filter(|value| **value > CHEAP_ROUNDS);
            assert_eq!(dear.count(), 1, "{values:?}");
        }
    }

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
