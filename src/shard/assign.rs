//! Which share each job is in.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use super::Times;
use crate::model::{Combo, Test};

/// What a test takes at least, however short it is: it has to be started.
const LEAST: Duration = Duration::from_millis(20);

/// What tests take where no time is known of any.
const UNKNOWN: Duration = Duration::from_secs(1);

/// A test under a combination.
type Pair<'a> = (&'a Arc<Test>, &'a Arc<Combo>);

/// The share, from 0, of each of `pairs`: the longest first, to the share with least to do.
/// The same for the same arguments, in whatever order the pairs are.
pub(super) fn balanced(pairs: &[Pair<'_>], of: usize, times: &Times) -> Vec<usize> {
    let known = |(test, combo): &Pair<'_>| {
        let secs = times.get(&(test.name.clone(), Combo::clone(combo)))?;
        Some(
            Duration::try_from_secs_f64(*secs)
                .unwrap_or(UNKNOWN)
                .max(LEAST),
        )
    };
    let known: Vec<Option<Duration>> = pairs.iter().map(known).collect();
    let mut sorted: Vec<Duration> = known.iter().copied().flatten().collect();
    sorted.sort();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(UNKNOWN);
    let cost = |n: usize| known[n].unwrap_or(median);
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by_key(|&n| (Reverse(cost(n)), &pairs[n].0.name, pairs[n].1));
    let mut shares = vec![0; pairs.len()];
    // The least load first, of equal ones the first share.
    let mut loads: BinaryHeap<Reverse<(Duration, usize)>> = (0..of.min(pairs.len().max(1)))
        .map(|n| Reverse((Duration::ZERO, n)))
        .collect();
    for n in order {
        if let Some(mut least) = loads.peek_mut() {
            let Reverse((load, share)) = &mut *least;
            shares[n] = *share;
            *load = load.saturating_add(cost(n));
        }
    }
    shares
}

/// A short text that is the same where the same jobs are shared out in the same way.
pub(super) fn fingerprint(pairs: &[Pair<'_>], shares: &[usize]) -> String {
    let mut lines: Vec<String> = pairs
        .iter()
        .zip(shares)
        .map(|((test, combo), share)| {
            let Combo {
                format,
                protocol,
                cache,
                aio,
                options,
                qemu,
            } = &***combo;
            let name = &test.name;
            format!("{name}\0{format}\0{protocol}\0{cache}\0{aio}\0{options}\0{qemu}{share}\n")
        })
        .collect();
    lines.sort();
    // FNV-1a of 64 bits: it must not change between builds of the program.
    let hash = lines.iter().flat_map(|line| line.bytes());
    let hash = hash.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::sample;

    fn tests(count: usize) -> Vec<Arc<Test>> {
        let name = |n: usize| format!("{n:03}");
        (0..count)
            .map(|n| Arc::new(sample::test(&name(n))))
            .collect()
    }

    fn loads(shares: &[usize], of: usize, cost: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut loads = vec![0.0; of];
        for (n, share) in shares.iter().enumerate() {
            loads[*share] += cost(n);
        }
        loads
    }

    #[test]
    fn the_longest_go_first_and_unknown_ones_count_as_the_median() {
        let tests = tests(6);
        let combo = Arc::new(sample::combo("raw"));
        let pairs: Vec<Pair<'_>> = tests.iter().map(|test| (test, &combo)).collect();
        let secs = [9.0, 4.0, 5.0, 1.0];
        let time = |(n, secs): (usize, &f64)| ((format!("{n:03}"), (*combo).clone()), *secs);
        let times: Times = secs.iter().enumerate().map(time).collect();
        // 9 | 5 5 | 5 4 1: the two without a time count as 5.
        let shares = balanced(&pairs, 3, &times);
        let cost = |n: usize| secs.get(n).copied().unwrap_or(5.0);
        let mut all = loads(&shares, 3, cost);
        all.sort_by(f64::total_cmp);
        assert_eq!(all, [9.0, 10.0, 10.0], "{shares:?}");
    }

    proptest! {
        #[test]
        fn every_job_is_in_one_share_whatever_the_order(
            secs in proptest::collection::vec(proptest::option::of(0.0..100.0), 0..40),
            of in 1_usize..9,
            seed in any::<u64>(),
        ) {
            let tests = tests(secs.len());
            let combo = Arc::new(sample::combo("raw"));
            let key = |n: usize| (format!("{n:03}"), (*combo).clone());
            let known = secs.iter().enumerate();
            let times: Times = known.filter_map(|(n, secs)| Some((key(n), (*secs)?))).collect();
            let mut pairs: Vec<Pair<'_>> = tests.iter().map(|test| (test, &combo)).collect();
            let shares = balanced(&pairs, of, &times);
            prop_assert!(shares.iter().all(|share| *share < of));
            let print = fingerprint(&pairs, &shares);

            // On another machine the pairs may come in another order.
            let by_name: std::collections::HashMap<String, usize> =
                pairs.iter().map(|p| p.0.name.clone()).zip(shares.iter().copied()).collect();
            let rotation = seed as usize % pairs.len().max(1);
            pairs.rotate_left(rotation);
            let again = balanced(&pairs, of, &times);
            for (pair, share) in pairs.iter().zip(&again) {
                prop_assert_eq!(by_name[&pair.0.name], *share);
            }
            prop_assert_eq!(fingerprint(&pairs, &again), print);

            // No share has more than another by more than one job.
            let most = secs.iter().flatten().copied().fold(1.0, f64::max);
            let mut sorted: Vec<f64> = secs.iter().flatten().copied().map(|s| s.max(0.02)).collect();
            sorted.sort_by(f64::total_cmp);
            let median = sorted.get(sorted.len() / 2).copied().unwrap_or(1.0);
            let cost = |n: usize| secs[n].map_or(median, |secs| secs.max(0.02));
            let all = loads(&shares, of, cost);
            let least = all.iter().copied().fold(f64::INFINITY, f64::min);
            prop_assert!(all.iter().all(|load| load - least <= most + 1e-6), "{:?}", all);
        }
    }
}
