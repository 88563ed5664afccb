//! `bisect`: the first of some builds that shows a finding, or no longer does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::{Result, bail, ensure};

use super::args::BisectArgs;
use super::interrupt::unless_stopped;
use super::replay::Start;
use super::versions::{place, sentence};
use super::{FINDINGS, OK};
use crate::finding::{VersionRecord, VersionResult, keep, run_build};
use crate::output::{self, counted};

/// Finds two builds, next to each other but for those that cannot be run, of which one shows
/// the finding and the other does not, and says which.
///
/// # Errors
///
/// There is no recipe, too few builds can be run, or a result cannot be kept.
pub(super) fn run(args: &BisectArgs) -> Result<u8> {
    let start = Start::new(&args.run, None)?;
    let mut results: BTreeMap<usize, VersionRecord> = BTreeMap::new();
    let found = search(args.builds.len(), &mut |index: usize| {
        let build: &PathBuf = &args.builds[index];
        let result = run_build(&args.dir, build, &start.settings, &start.stop)?;
        ensure!(!start.stop.load(Ordering::SeqCst), "interrupted");
        output::line(&sentence(&result))?;
        let shown = match result.result {
            VersionResult::Shown => Some(true),
            VersionResult::Other | VersionResult::NotShown => Some(false),
            VersionResult::CannotRun => None,
        };
        results.insert(index, result);
        Ok(shown)
    });
    unless_stopped(&start.stop, || {
        let found = found?;
        keep(&args.dir, results.values().cloned().collect())?;
        let status = match found {
            Found::Change { before, after } => {
                let (before, after) = (&results[&before], &results[&after]);
                let (old, new) = (place(before), place(after));
                output::line(&if after.result == VersionResult::Shown {
                    format!("first shown by {new}; last without: {old}")
                } else {
                    format!("last shown by {old}; first without: {new}")
                })?;
                OK
            }
            Found::Same { shown: true } => {
                output::line("shown by the oldest and by the newest build: nothing to bisect")?;
                FINDINGS
            }
            Found::Same { shown: false } => {
                output::line("shown neither by the oldest nor by the newest build")?;
                FINDINGS
            }
        };
        let skipped = skipped(&found, &results);
        if skipped > 0 {
            let builds = counted(skipped as u64, "build");
            output::line(&format!("{builds} between them cannot be run"))?;
        }
        Ok(status)
    })
}

/// How many builds between the two that were found cannot be run.
fn skipped(found: &Found, results: &BTreeMap<usize, VersionRecord>) -> usize {
    match *found {
        Found::Change { before, after } => results.range(before + 1..after).count(),
        Found::Same { .. } => 0,
    }
}

/// What a search came to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// These two differ, and none between them can be run.
    Change {
        /// The older build.
        before: usize,
        /// The newer build.
        after: usize,
    },
    /// The oldest and the newest build that can be run do not differ.
    Same {
        /// Whether they show the finding.
        shown: bool,
    },
}

/// Searches `count` builds; `shows` tells of one whether it shows the finding, `None` where it
/// cannot be run, and is asked once of each at most.
///
/// # Errors
///
/// Those of `shows`; fewer than two builds can be run.
fn search(count: usize, shows: &mut dyn FnMut(usize) -> Result<Option<bool>>) -> Result<Found> {
    let mut first_of = |order: &mut dyn Iterator<Item = usize>| {
        for index in order {
            if let Some(shown) = shows(index)? {
                return Ok(Some((index, shown)));
            }
        }
        anyhow::Ok(None)
    };
    let oldest = first_of(&mut (0..count))?;
    let Some((mut before, shown_before)) = oldest else {
        bail!("none of the builds can be run");
    };
    let newest = first_of(&mut (before + 1..count).rev())?;
    let Some((mut after, shown_after)) = newest else {
        bail!("only one of the builds can be run");
    };
    if shown_before == shown_after {
        return Ok(Found::Same {
            shown: shown_before,
        });
    }
    // Those in a row around the middle that cannot be run are passed over together.
    let mut unable = std::collections::BTreeSet::new();
    loop {
        let mut between: Vec<usize> = (before + 1..after)
            .filter(|it| !unable.contains(it))
            .collect();
        if between.is_empty() {
            return Ok(Found::Change { before, after });
        }
        let middle = between.remove(between.len() / 2);
        match first_of(&mut std::iter::once(middle))? {
            None => {
                unable.insert(middle);
            }
            Some((_, shown)) if shown == shown_before => before = middle,
            Some(_) => after = middle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a search in builds, a letter each (`s` shown, `-` not, `x` cannot be run), finds,
    /// and how many runs it takes.
    fn found(builds: &str) -> (Result<Found>, usize) {
        let mut asked = Vec::new();
        let found = search(builds.len(), &mut |index| {
            assert!(!asked.contains(&index), "{builds}: {index} was asked twice");
            asked.push(index);
            Ok(match builds.as_bytes()[index] {
                b's' => Some(true),
                b'-' => Some(false),
                _ => None,
            })
        });
        (found, asked.len())
    }

    #[test]
    fn the_change_is_found_in_few_runs() {
        let change = |builds: &str| match found(builds) {
            (Ok(Found::Change { before, after }), runs) => (before, after, runs),
            other => panic!("{builds}: {other:?}"),
        };
        assert_eq!(change("-s"), (0, 1, 2));
        assert_eq!(change("s-"), (0, 1, 2));
        assert_eq!(change("---s").0, 2);
        assert_eq!(change("s---").1, 1);
        for at in 1..100 {
            let builds: String = (0..100).map(|it| if it < at { '-' } else { 's' }).collect();
            let (before, after, runs) = change(&builds);
            assert_eq!((before, after), (at - 1, at));
            assert!(runs <= 2 + 7, "{runs} runs for {at}");
        }
    }

    #[test]
    fn builds_that_cannot_be_run_are_passed_over() {
        let ends = |builds: &str| match found(builds).0 {
            Ok(Found::Change { before, after }) => (before, after),
            other => panic!("{builds}: {other:?}"),
        };
        assert_eq!(ends("xx-xsxx"), (2, 4));
        assert_eq!(ends("-xxxxs"), (0, 5));
        assert_eq!(ends("-x-xxss"), (2, 5));
        assert_eq!(ends("s-x---"), (0, 1));
    }

    #[test]
    fn builds_that_agree_have_no_change() {
        assert_eq!(found("sxs").0.unwrap(), Found::Same { shown: true });
        assert_eq!(found("--").0.unwrap(), Found::Same { shown: false });
        assert!(found("xx").0.is_err() && found("xsx").0.is_err());
    }
}
