//! What was selected in a run, so that a later run is compared with one of the same.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::combo_key;
use crate::model::Job;

/// The tests and combinations of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Stays the same from one version to the next, since journals hold it: behind the hash
    /// stands what QEMU's programs ran under, where they did.
    hash: String,
    under: String,
    tests: BTreeSet<String>,
    combos: BTreeSet<String>,
}

impl Selection {
    /// Of these jobs, in whatever order, repeated or not.
    #[must_use]
    pub fn of(jobs: &[Job]) -> Self {
        let pairs: BTreeSet<(&str, String)> = jobs
            .iter()
            .map(|job| (job.test.name.as_str(), combo_key(&job.combo)))
            .collect();
        Self {
            hash: hash(pairs.iter().map(|(test, combo)| (*test, combo.as_str()))),
            under: String::new(),
            tests: pairs.iter().map(|(test, _)| (*test).to_owned()).collect(),
            combos: pairs.into_iter().map(|(_, combo)| combo).collect(),
        }
    }

    /// The same with QEMU's programs under `tool` (`valgrind`), or under none (an empty text):
    /// times without it are no measure of those with it.
    #[must_use]
    pub fn under(mut self, tool: &str) -> Self {
        if !tool.is_empty() {
            self.hash = format!("{}/{tool}", self.hash);
            tool.clone_into(&mut self.under);
        }
        self
    }

    /// What stands for it in the journal.
    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    /// Whether a run of `other` is of use where there is none of the very same: the same
    /// combinations, and three in four tests. A few were added, or are gone.
    fn is_like(&self, other: &Selected) -> bool {
        let common = other.tests.iter().filter(|t| self.tests.contains(&***t));
        let most = self.tests.len().max(other.tests.len());
        let combos: BTreeSet<&str> = other.combos.iter().map(|c| &**c).collect();
        common.count() * 4 >= most * 3
            && self.combos.iter().map(|c| &**c).eq(combos)
            && self.under == other.under
    }
}

/// The hash (FNV-1a) of sorted pairs of tests and combinations.
fn hash<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for (test, combo) in pairs {
        for byte in test.bytes().chain([0]).chain(combo.bytes()).chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

/// The hash of all these tests under all these combinations: what runs had that did not
/// note theirs.
fn hash_of_all(tests: &[Arc<str>], combos: &[Arc<str>]) -> String {
    let tests = tests.iter();
    let pairs = tests.flat_map(|t| combos.iter().map(move |c| (&**t, &**c)));
    let pairs: BTreeSet<(&str, &str)> = pairs.collect();
    hash(pairs.into_iter())
}

/// A run of the journal and what was selected in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selected {
    pub(super) id: String,
    /// When it began, in seconds since 1970.
    pub(super) at: u64,
    pub(super) tests: Vec<Arc<str>>,
    pub(super) combos: Vec<Arc<str>>,
    /// What QEMU's programs ran under; found out by [`Runs::begin`].
    pub(super) under: String,
}

/// Of each selection the last run that has results.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Runs that have none as yet, with the hash of what was selected.
    begun: HashMap<String, (String, Selected)>,
    /// By the hash.
    last: HashMap<String, Selected>,
}

impl Runs {
    /// A run has begun; its `hash` is empty in older journals.
    pub(super) fn begin(&mut self, hash: String, mut run: Selected) {
        if let Some((_, under)) = hash.split_once('/') {
            under.clone_into(&mut run.under);
        }
        let hash = match hash.is_empty() {
            true => hash_of_all(&run.tests, &run.combos),
            false => hash,
        };
        self.begun.insert(run.id.clone(), (hash, run));
    }

    /// The run `id` has a result.
    pub(super) fn result(&mut self, id: &str) {
        if let Some((hash, run)) = self.begun.remove(id) {
            self.last.insert(hash, run);
        }
    }

    /// The last run of `selection`, else the last of a selection much like it.
    pub(super) fn find(&self, selection: &Selection) -> Option<&Selected> {
        let alike = || {
            let runs = self.last.values();
            let alike = runs.filter(|run| selection.is_like(run));
            alike.max_by_key(|run| (run.at, &run.id))
        };
        self.last.get(&selection.hash).or_else(alike)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn jobs(names: &[&str], format: &str) -> Vec<Job> {
        let ids = 0..;
        let jobs = ids.zip(names);
        jobs.map(|(id, name)| sample::job(id, name, format))
            .collect()
    }

    fn run(id: &str, at: u64, jobs: &[Job]) -> (String, Selected) {
        let selection = Selection::of(jobs);
        let texts = |all: &BTreeSet<String>| all.iter().map(|text| text.as_str().into()).collect();
        let selected = Selected {
            id: id.into(),
            at,
            tests: texts(&selection.tests),
            combos: texts(&selection.combos),
            under: String::new(),
        };
        (selection.hash, selected)
    }

    #[test]
    fn the_hash_is_of_what_is_selected_and_never_changes() {
        let once = jobs(&["001", "002"], "qcow2");
        let twice = jobs(&["002", "001", "002"], "qcow2");
        assert_eq!(Selection::of(&once), Selection::of(&twice));
        assert_eq!(Selection::of(&once).hash(), "1b183bbe29ad9ea2");
        assert_ne!(
            Selection::of(&once).hash,
            Selection::of(&jobs(&["001", "002"], "raw")).hash
        );
    }

    #[test]
    fn a_run_of_the_same_is_preferred_to_a_later_one_of_much_the_same() {
        let mut runs = Runs::default();
        let five = jobs(&["001", "002", "003", "004", "005"], "qcow2");
        for (id, at, jobs) in [
            ("a", 1, &five[..]),
            ("b", 2, &five[..4]),
            ("c", 3, &five[..2]),
        ] {
            let (hash, selected) = run(id, at, jobs);
            runs.begin(hash, selected);
            runs.result(id);
        }
        let found = |jobs: &[Job]| runs.find(&Selection::of(jobs)).map(|run| run.id.as_str());
        assert_eq!(found(&five), Some("a"));
        assert_eq!(found(&five[1..]), Some("b"));
        assert_eq!(found(&five[..3]), Some("b"));
        assert_eq!(found(&five[4..]), None);
        assert_eq!(found(&jobs(&["001", "002"], "raw")), None);
    }

    #[test]
    fn runs_under_valgrind_are_compared_with_each_other() {
        let mut runs = Runs::default();
        let two = jobs(&["001", "002"], "qcow2");
        let plain = Selection::of(&two);
        let valgrind = Selection::of(&two).under("valgrind");
        assert_ne!(plain, valgrind);
        let (_, selected) = run("a", 1, &two);
        runs.begin(valgrind.hash().to_owned(), selected);
        runs.result("a");
        assert_eq!(runs.find(&plain), None);
        assert_eq!(runs.find(&valgrind).map(|run| run.at), Some(1));
        let more = Selection::of(&jobs(&["001", "002", "003", "004"], "qcow2"));
        assert_eq!(runs.find(&more.under("valgrind")), None);
    }

    #[test]
    fn a_run_without_results_is_none_and_older_journals_say_enough() {
        let mut runs = Runs::default();
        let two = jobs(&["001", "002"], "qcow2");
        for (id, at) in [("a", 1), ("b", 2)] {
            let (_, selected) = run(id, at, &two);
            runs.begin(String::new(), selected);
        }
        runs.result("a");
        let found = runs.find(&Selection::of(&two));
        assert_eq!(found.map(|run| run.id.as_str()), Some("a"));
    }
}
