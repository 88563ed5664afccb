//! What is different from the last run of the same selection.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use super::combos::ComboNames;
use crate::history::Previous;
use crate::model::{Combo, Event, Finished, Kind};
use crate::words;

/// A pass that took over twice the time, and so many seconds more, is slower.
const SLOWER_BY_SECS: f64 = 1.0;

/// So many results of each kind are told on the console.
const LISTED: usize = 20;

/// One result that is not what it was.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    /// Test and combination.
    pub(super) test: String,
    pub(super) combo: Arc<Combo>,
    /// Verdict and seconds in the earlier run.
    pub(super) before: (Kind, f64),
    pub(super) now: (Kind, f64),
}

/// Follows a run and compares it with an earlier one.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    previous: Previous,
    tests: Vec<String>,
    /// Of several repetitions the worst.
    results: BTreeMap<(String, Arc<Combo>), (Kind, f64)>,
}

/// What is different.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changes {
    /// Titles, each with results that changed in this way; those without any are left out.
    pub(super) results: Vec<(&'static str, Vec<Change>)>,
    /// Tests that were not selected then.
    pub(super) added: Vec<String>,
    /// Tests that were selected then and are not now.
    pub(super) gone: Vec<String>,
}

impl Comparison {
    pub(super) fn new(previous: Previous) -> Self {
        Self {
            previous,
            ..Self::default()
        }
    }

    /// When the earlier run was; `None` where there was none.
    pub(super) fn at(&self) -> Option<SystemTime> {
        self.previous.at
    }

    /// Verdict and seconds in the earlier run.
    pub(super) fn before(&self, test: &str, combo: &Combo) -> Option<(Kind, f64)> {
        self.previous.get(test, combo)
    }

    /// Notes what an event says.
    pub(super) fn event(&mut self, event: &Event) {
        // Nothing is kept for a comparison that is not made.
        if self.previous.at.is_none() {
            return;
        }
        match event {
            Event::RunStarted { tests, .. } => self.tests.clone_from(tests),
            Event::Finished(finished) => self.finished(finished),
            _ => {}
        }
    }

    fn finished(&mut self, finished: &Finished) {
        let secs = finished.outcome.as_ref().map(|o| o.wall.as_secs_f64());
        let now = (Kind::from(&finished.verdict), secs.unwrap_or(0.0));
        let key = (
            finished.job.test.name.clone(),
            Arc::clone(&finished.job.combo),
        );
        let result = self.results.entry(key).or_insert(now);
        if now.0 > result.0 {
            *result = now;
        }
    }

    /// What is different, as far as the run has come.
    pub(super) fn changes(&self) -> Changes {
        let mut by_title: HashMap<&str, Vec<Change>> = HashMap::new();
        for ((test, combo), now) in &self.results {
            if let Some(before) = self.before(test, combo)
                && let Some(title) = title(before, *now)
            {
                by_title.entry(title).or_default().push(Change {
                    test: test.clone(),
                    combo: Arc::clone(combo),
                    before,
                    now: *now,
                });
            }
        }
        let results = TITLES.iter();
        let results = results.filter_map(|title| Some((*title, by_title.remove(title)?)));
        let before: HashSet<&str> = self.previous.tests().collect();
        let now: HashSet<&str> = self.tests.iter().map(String::as_str).collect();
        let added = self.tests.iter().filter(|t| !before.contains(t.as_str()));
        let gone = self.previous.tests().filter(|test| !now.contains(test));
        Changes {
            results: results.collect(),
            added: added.cloned().collect(),
            gone: gone.map(str::to_owned).collect(),
        }
    }
}

/// In the order in which they are told.
const TITLES: [&str; 5] = [
    "Newly failing",
    "Newly passing",
    "Newly not run",
    "Otherwise changed",
    "Slower",
];

/// What kind of change it is; `None` where it is none.
fn title(before: (Kind, f64), now: (Kind, f64)) -> Option<&'static str> {
    let bad = |kind| matches!(kind, Kind::Fail | Kind::Flaky);
    let [failing, passing, not_run, other, slower] = TITLES;
    match (before.0, now.0) {
        (Kind::Pass, Kind::Pass) => {
            let much = now.1 > 2.0 * before.1 && now.1 > before.1 + SLOWER_BY_SECS;
            much.then_some(slower)
        }
        (before, now) if before == now => None,
        (before, now) if bad(now) && !bad(before) => Some(failing),
        (_, Kind::Pass) => Some(passing),
        (_, Kind::NotRun) => Some(not_run),
        _ => Some(other),
    }
}

impl Changes {
    /// Whether nothing is different.
    pub(super) fn is_empty(&self) -> bool {
        self.results.is_empty() && self.added.is_empty() && self.gone.is_empty()
    }

    /// As lines of the console.
    pub(super) fn text(&self, at: SystemTime, combos: &ComboNames) -> String {
        let since = words::full_date(at);
        if self.is_empty() {
            return format!("No changes since the run of {since}\n");
        }
        let mut out = format!("Changes since the run of {since}:\n");
        for (title, changes) in &self.results {
            let _ = writeln!(out, "  {title}:");
            for change in changes.iter().take(LISTED) {
                let name = match combos.several() {
                    true => format!("{} ({})", change.test, combos.name(&change.combo)),
                    false => change.test.clone(),
                };
                let _ = writeln!(out, "    {name}  {}", change.text());
            }
            if changes.len() > LISTED {
                let _ = writeln!(out, "    ... and {} more", changes.len() - LISTED);
            }
        }
        for (title, names) in [("Added", &self.added), ("Gone", &self.gone)] {
            if !names.is_empty() {
                let _ = writeln!(out, "  {title}: {}", names.join(" "));
            }
        }
        out
    }
}

impl Change {
    /// `pass, was fail`; of two passes the times.
    pub(super) fn text(&self) -> String {
        let ((before, then), (now, secs)) = (self.before, self.now);
        if before == now {
            format!("{secs:.1}s, was {then:.1}s")
        } else {
            format!("{}, was {}", words::kind(now), words::kind(before))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::history::{History, Selection};
    use crate::model::{Failure, Job, Reporter, Verdict};
    use crate::report::sample;

    fn job(name: &str) -> Job {
        sample::job(0, name, "qcow2")
    }

    fn events(results: &[(&str, Verdict, u64)]) -> Vec<Event> {
        let names: Vec<&str> = results.iter().map(|(name, ..)| *name).collect();
        let mut events = vec![sample::run_started(&names, 0)];
        for (name, verdict, millis) in results {
            let mut finished = sample::finished(job(name), verdict.clone());
            if let Some(outcome) = &mut finished.outcome {
                outcome.wall = Duration::from_millis(*millis);
            }
            events.push(Event::Finished(Box::new(finished)));
        }
        events
    }

    fn compare(then: &[(&str, Verdict, u64)], now: &[(&str, Verdict, u64)]) -> Comparison {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::open(dir.path()).unwrap();
        events(then).iter().for_each(|event| history.event(event));
        drop(history);
        let memory = History::open(dir.path()).unwrap().take_memory();
        let jobs: Vec<Job> = now.iter().map(|(name, ..)| job(name)).collect();
        let mut comparison = Comparison::new(memory.previous(&Selection::of(&jobs)));
        events(now).iter().for_each(|event| comparison.event(event));
        comparison
    }

    #[test]
    fn all_kinds_of_changes_are_told() {
        let fail = || Verdict::Fail(vec![Failure::Output]);
        let skip = || Verdict::NotRun("no KVM".into());
        let then = [
            ("001", Verdict::Pass, 1000),
            ("002", fail(), 1000),
            ("003", Verdict::Pass, 1000),
            ("004", Verdict::Pass, 1000),
            ("005", Verdict::Pass, 1000),
            ("006", fail(), 1000),
            ("007", fail(), 1000),
            ("008", Verdict::Pass, 100),
        ];
        let now = [
            ("001", fail(), 1000),
            ("002", Verdict::Pass, 1000),
            ("003", skip(), 0),
            ("004", Verdict::Pass, 2500),
            ("005", Verdict::Pass, 1900),
            ("006", fail(), 9000),
            ("007", Verdict::KnownFail("bug".into()), 1000),
            ("009", Verdict::Pass, 1000),
        ];
        let comparison = compare(&then, &now);
        let text = comparison
            .changes()
            .text(sample::at(0), &ComboNames::default());
        let (first, rest) = text.split_once('\n').unwrap();
        assert!(
            first.starts_with("Changes since the run of 2023-11-1"),
            "{text}"
        );
        assert_eq!(
            rest,
            "  Newly failing:\n    001  fail, was pass\n  Newly passing:\n    002  pass, was fail\n  \
             Newly not run:\n    003  not run, was pass\n  Otherwise changed:\n    \
             007  known fail, was fail\n  Slower:\n    004  2.5s, was 1.0s\n  \
             Added: 009\n  Gone: 008\n"
        );
    }

    #[test]
    fn the_same_is_no_change() {
        let run = [("001", Verdict::Pass, 1000), ("002", Verdict::Pass, 10)];
        let comparison = compare(&run, &run);
        assert!(comparison.at().is_some());
        assert!(comparison.changes().is_empty());
        // Of repetitions the worst counts.
        let fail = Verdict::Fail(vec![Failure::Output]);
        let twice = [run[0].clone(), ("002", fail, 10), run[1].clone()];
        let changes = compare(&run, &twice).changes();
        assert_eq!(changes.results.len(), 1);
        assert_eq!(changes.results[0].1[0].text(), "fail, was pass");
    }
}
