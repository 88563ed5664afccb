//! The smallest set of recipes that reaches what all of them reach.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::hash::Hash;

/// What one recipe reaches, and what it costs to run it.
#[derive(Debug)]
pub(super) struct Candidate<'a, T> {
    pub(super) reaches: &'a [T],
    /// More than 0.
    pub(super) cost: u64,
}

/// The indexes of candidates that together reach what all of them reach, in rising order: as
/// few and as cheap as the greedy algorithm finds, which takes what reaches most that is new for
/// its cost (Chvátal: A greedy heuristic for the set-covering problem, 1979; afl-cmin does
/// alike). Of equals the first is taken.
pub(super) fn cover<T: Copy + Eq + Hash>(candidates: &[Candidate<'_, T>]) -> Vec<usize> {
    let mut reached: HashSet<T> = HashSet::new();
    let mut heap: BinaryHeap<(Worth, Reverse<usize>)> = candidates
        .iter()
        .enumerate()
        .map(|(index, it)| (Worth::of(it.reaches.len(), it.cost), Reverse(index)))
        .collect();
    let mut taken = Vec::new();
    while let Some((worth, Reverse(index))) = heap.pop() {
        let candidate = &candidates[index];
        let new = candidate.reaches.iter();
        let new = new.filter(|it| !reached.contains(it)).count();
        if new == 0 {
            continue;
        }
        // What a candidate adds can only have become less since it was put into the heap.
        let now = Worth::of(new, candidate.cost);
        if now < worth {
            heap.push((now, Reverse(index)));
            continue;
        }
        reached.extend(candidate.reaches);
        taken.push(index);
    }
    taken.sort_unstable();
    taken
}

/// How much is new, for what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Worth(u64);

impl Worth {
    fn of(new: usize, cost: u64) -> Self {
        Self((new as u64).saturating_mul(1 << 20) / cost.max(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_others_reach_too_is_left_out() {
        let reaches: [&[u32]; 4] = [&[1, 2], &[2, 3], &[1, 2, 3, 4], &[5]];
        let candidates = reaches.map(|reaches| Candidate { reaches, cost: 1 });
        assert_eq!(cover(&candidates), [2, 3]);
    }

    #[test]
    fn what_is_cheap_is_preferred() {
        let reaches: [(&[u32], u64); 3] = [(&[1, 2], 9), (&[1], 1), (&[2], 1)];
        let candidates = reaches.map(|(reaches, cost)| Candidate { reaches, cost });
        assert_eq!(cover(&candidates), [1, 2]);
    }

    proptest! {
        #[test]
        fn a_cover_reaches_all(sets in proptest::collection::vec(
            (proptest::collection::vec(0_u32..40, 0..12), 1_u64..9), 0..30,
        )) {
            let candidates: Vec<_> = sets
                .iter()
                .map(|(reaches, cost)| Candidate { reaches, cost: *cost })
                .collect();
            let taken = cover(&candidates);
            let all: HashSet<u32> = sets.iter().flat_map(|(set, _)| set).copied().collect();
            let some = taken.iter().flat_map(|index| &sets[*index].0);
            prop_assert_eq!(some.copied().collect::<HashSet<u32>>(), all);
            prop_assert!(taken.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
