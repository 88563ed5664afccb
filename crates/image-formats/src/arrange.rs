//! Where the parts of an image that is built go.

use serde::{Deserialize, Serialize};

/// Where the parts of an image go.
///
/// The parts have a natural order, which the builder of each format documents. Part i is
/// sorted by `order[i % order.len()]` and preceded by `gaps[i % gaps.len()]` free units
/// (clusters, grains, blocks). What the format has at a fixed place stays there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// Sort keys, used in turn; none keep the natural order.
    pub order: Vec<u32>,
    /// Free units, used in turn; none leave no gaps.
    pub gaps: Vec<u8>,
}

impl Placement {
    /// Places parts of so many units each behind the first `from` units; where each begins,
    /// and the units in all.
    pub(crate) fn arrange(&self, lengths: &[u64], from: u64) -> (Vec<u64>, u64) {
        fn nth<T: Copy + Default>(all: &[T], i: usize) -> T {
            let index = i.checked_rem(all.len()).unwrap_or(0);
            all.get(index).copied().unwrap_or_default()
        }
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&i| (nth(&self.order, i), i));
        let mut firsts = vec![0; lengths.len()];
        let mut next = from;
        for i in order {
            firsts[i] = next.saturating_add(nth(&self.gaps, i).into());
            next = firsts[i].saturating_add(lengths[i]);
        }
        (firsts, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_sorted_and_spaced() {
        let natural = Placement::default();
        assert_eq!(natural.arrange(&[2, 1, 3], 1), (vec![1, 3, 4], 7));
        let other = Placement {
            order: vec![1, 0],
            gaps: vec![0, 2],
        };
        // The second one first, behind a gap; then the first and the third.
        assert_eq!(other.arrange(&[2, 1, 3], 1), (vec![4, 3, 6], 9));
    }
}
