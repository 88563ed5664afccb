//! Which number a new test gets: the ranges of numbers, each with a question of its
//! own, and what the tests in them are about.
//!
//! The ranges are those of the table in `iotests/README.md`, so that what people
//! read and what `--new` does are one thing.

use std::collections::{BTreeMap, BTreeSet};

/// Numbers that answer one question, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first of them.
    pub first: u16,
    /// The last of them.
    pub last: u16,
}

/// Every number a test can have but 000.
const ALL: Range = Range {
    first: 1,
    last: 999,
};

impl Range {
    fn holds(self, number: u16) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// The number after the last that is taken; where that was the last of all, the
    /// first that is free.
    fn next(self, taken: impl Fn(u16) -> bool) -> Option<u16> {
        let after = (self.first..=self.last)
            .rev()
            .take_while(|n| !taken(*n))
            .last();
        after.or_else(|| (self.first..=self.last).find(|n| !taken(*n)))
    }
}

/// The ranges of a text: table rows that begin with one, such as `| 030-059 |`.
#[must_use]
pub fn ranges(text: &str) -> Vec<Range> {
    let row = |line: &str| {
        let cell = line.trim_start().strip_prefix('|')?.split('|').next()?;
        let (first, last) = cell.trim().split_once('-')?;
        let number = |n: &str| (n.len() == 3).then(|| n.parse().ok()).flatten();
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some(Range { first, last })
    };
    text.lines().filter_map(row).collect()
}

/// The number of a new test that is in `groups`, among `tests`: numbers and the
/// groups of each.
///
/// It is the next in the range whose tests are most in these groups. Groups that
/// most tests are in say nothing about a test; where no other is named, it is the
/// next number behind all ranges. `None` where no number is free there.
#[must_use]
pub fn next(
    ranges: &[Range],
    tests: &BTreeMap<u16, BTreeSet<String>>,
    groups: &[String],
) -> Option<u16> {
    let taken = |n: u16| tests.contains_key(&n);
    if ranges.is_empty() {
        return (ALL.first..=ALL.last).find(|n| !taken(*n));
    }
    let in_group = |group: &String, range: Range| {
        let held = tests.iter().filter(|(n, _)| range.holds(**n));
        let (all, those) = held.fold((0_usize, 0_usize), |(all, those), (_, groups)| {
            (all + 1, those + usize::from(groups.contains(group)))
        });
        // Thousandths, so that shares compare exactly.
        those * 1000 / all.max(1)
    };
    let telling: Vec<&String> = groups.iter().filter(|g| in_group(g, ALL) <= 500).collect();
    let share = |range: Range| telling.iter().map(|g| in_group(g, range)).sum::<usize>();
    let mut best = None;
    for range in ranges {
        let share = share(*range);
        if best.is_none_or(|(most, _)| share > most) {
            best = Some((share, *range));
        }
    }
    match best {
        Some((1.., range)) => range.next(taken),
        _ => {
            let behind = ranges.iter().map(|r| r.last).max().unwrap_or(0) + 1;
            let last = ALL.last;
            Range {
                first: behind,
                last,
            }
            .next(taken)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "text 001-009\n| range | question |\n| --- | --- |\n\
                         | 001-009 | basics? |\n| 010-019 | jobs? |\n| 020-010 | no |\n";

    fn of(tests: &[(u16, &str)], groups: &str) -> Option<u16> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let tests = tests
            .iter()
            .map(|(n, groups)| (*n, words(groups)))
            .collect();
        let groups: Vec<String> = groups.split_whitespace().map(str::to_owned).collect();
        next(&ranges(TABLE), &tests, &groups)
    }

    const TESTS: [(u16, &str); 4] = [
        (1, "rw io"),
        (3, "rw io"),
        (10, "rw jobs"),
        (12, "rw jobs stream"),
    ];

    #[test]
    fn ranges_are_rows_of_the_table() {
        let [a, b] = ranges(TABLE)[..] else {
            panic!("{:?}", ranges(TABLE))
        };
        assert_eq!((a.first, a.last, b.first, b.last), (1, 9, 10, 19));
    }

    #[test]
    fn the_groups_tell_the_range_and_the_last_test_the_number() {
        assert_eq!(of(&TESTS, "rw io"), Some(4));
        assert_eq!(of(&TESTS, "jobs rw"), Some(13));
        assert_eq!(of(&TESTS, "stream"), Some(13));
    }

    #[test]
    fn what_belongs_nowhere_takes_no_number_of_a_range() {
        assert_eq!(of(&TESTS, ""), Some(20));
        assert_eq!(of(&TESTS, "rw"), Some(20));
        assert_eq!(of(&TESTS, "new"), Some(20));
        let more = [&TESTS[..], &[(20, "rw")]].concat();
        assert_eq!(of(&more, "new"), Some(21));
    }

    #[test]
    fn a_full_range_has_gaps_or_nothing() {
        let mut full: Vec<_> = (1..=9).map(|n| (n, "io")).collect();
        full.extend([
            (10, "x"),
            (11, "x"),
            (12, "x"),
            (13, "x"),
            (14, "x"),
            (15, "x"),
        ]);
        full.extend([(16, "x"), (17, "x"), (18, "x"), (19, "x")]);
        assert_eq!(of(&full, "io"), None);
        full.retain(|(n, _)| *n != 4);
        assert_eq!(of(&full, "io"), Some(4));
    }

    #[test]
    fn without_ranges_it_is_the_first_that_is_free() {
        let tests = [(1, BTreeSet::new()), (3, BTreeSet::new())].into();
        assert_eq!(next(&[], &tests, &[]), Some(2));
    }

    #[test]
    fn the_readme_of_the_suite_has_ranges_that_do_not_overlap() {
        let readme = include_str!("../iotests/README.md");
        let ranges = ranges(readme);
        assert!(ranges.len() >= 9, "{ranges:?}");
        assert!(
            ranges.windows(2).all(|w| w[0].last < w[1].first),
            "{ranges:?}"
        );
    }
}
