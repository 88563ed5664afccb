//! The number of a new test: in the range of numbers for what its groups are about.
//!
//! The ranges are those of the table in `iotests/README.md`, so that the text and
//! `--new` agree.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// Every number that a test can have, except 000.
const ALL: RangeInclusive<u16> = 1..=999;

/// The ranges in a text: table rows that begin with one, such as `| 030-059 |`.
#[must_use]
pub fn ranges(text: &str) -> Vec<RangeInclusive<u16>> {
    let number = |n: &str| (n.len() == 3).then(|| n.parse().ok()).flatten();
    let row = |line: &str| {
        let cell = line.trim_start().strip_prefix('|')?.split('|').next()?;
        let (first, last) = cell.trim().split_once('-')?;
        Some(number(first)?..=number(last)?)
    };
    let rows = text.lines().filter_map(row);
    rows.filter(|range| !range.is_empty()).collect()
}

/// The number of a new test that is in `groups`, among `tests`: numbers and the
/// groups of each.
///
/// It is the next in the range whose tests are most in these groups. Groups that
/// more than half of all tests are in do not count; where no other is named, it is the
/// next number after all ranges. `None` where no number is free there.
#[must_use]
pub fn next(
    ranges: &[RangeInclusive<u16>],
    tests: &BTreeMap<u16, BTreeSet<String>>,
    groups: &[String],
) -> Option<u16> {
    let free = |n: &u16| !tests.contains_key(n);
    let Some(last) = ranges.iter().map(|range| *range.end()).max() else {
        return ALL.into_iter().find(free);
    };
    // Thousandths, so that shares compare exactly.
    let share = |group: &String, range: &RangeInclusive<u16>| {
        let members = tests.range(range.clone());
        let of_group = members.clone().filter(|(_, groups)| groups.contains(group));
        of_group.count() * 1000 / members.count().max(1)
    };
    let specific: Vec<_> = groups.iter().filter(|g| share(g, &ALL) <= 500).collect();
    let shares = |range: &RangeInclusive<u16>| -> usize {
        specific.iter().map(|group| share(group, range)).sum()
    };
    // Of equals the first.
    let best = ranges.iter().rev().max_by_key(|range| shares(range));
    let range = match best {
        Some(range) if shares(range) > 0 => range.clone(),
        _ => last + 1..=*ALL.end(),
    };
    let after_last_taken = range.clone().rev().take_while(free).last();
    after_last_taken.or_else(|| range.into_iter().find(free))
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
        let [a, b] = &ranges(TABLE)[..] else {
            panic!("{:?}", ranges(TABLE))
        };
        assert_eq!((a, b), (&(1..=9), &(10..=19)));
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
            ranges.windows(2).all(|w| w[0].end() < w[1].start()),
            "{ranges:?}"
        );
    }
}
