//! The order in which jobs start.

use std::cmp::Ordering;
use std::collections::VecDeque;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::history::Past;
use crate::model::{Job, Kind};

/// The group whose tests run alone.
const SERIAL: &str = "serial";

/// A job in the queue.
#[derive(Debug, Clone)]
pub(super) struct Queued {
    pub(super) job: Job,
    /// What is recorded of it.
    pub(super) past: Option<Past>,
    /// Whether nothing else may run at the same time.
    pub(super) alone: bool,
}

impl Queued {
    /// How long it took when it last passed (seconds).
    pub(super) fn last(&self) -> Option<f64> {
        self.past.and_then(|past| past.last_passed_secs)
    }

    fn failed_last(&self) -> bool {
        let last = self.past.and_then(|past| past.last_verdict);
        matches!(last, Some(Kind::Fail | Kind::Flaky))
    }
}

/// Puts jobs in order: those that failed last time, then the longest first, so
/// that no long one is left at the end while other CPUs are idle; one
/// never seen may be the longest. Those that run alone come last. `choice` is another order
/// in place of all that but the last.
pub(super) fn order(
    jobs: impl IntoIterator<Item = Job>,
    past: impl Fn(&Job) -> Option<Past>,
    all_alone: bool,
    choice: Choice,
) -> VecDeque<Queued> {
    let mut queue: Vec<Queued> = jobs
        .into_iter()
        .map(|job| Queued {
            past: past(&job),
            alone: all_alone || job.test.groups.contains(SERIAL),
            job,
        })
        .collect();
    // Stable: equal jobs stay in the plan's order.
    match choice {
        Choice::Shuffled(seed) => {
            queue.shuffle(&mut StdRng::seed_from_u64(seed));
            queue.sort_by_key(|queued| queued.alone);
        }
        Choice::AsPlanned => queue.sort_by_key(|queued| queued.alone),
        Choice::LongestFirst => queue.sort_by(|a, b| {
            let key = |q: &Queued| (q.alone, !q.failed_last());
            key(a).cmp(&key(b)).then_with(|| longer(a.last(), b.last()))
        }),
    }
    queue.into()
}

/// What the order goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    LongestFirst,
    /// That of the plan.
    AsPlanned,
    /// Random, from this seed.
    Shuffled(u64),
}

/// From how many seconds on a job is a long one: over four times the mean of `queue`.
/// Infinite where no times are known.
pub(super) fn long_from(queue: &VecDeque<Queued>) -> f64 {
    let times: Vec<f64> = queue.iter().filter_map(Queued::last).collect();
    match times.len() {
        0 => f64::INFINITY,
        count => 4.0 * times.iter().sum::<f64>() / count as f64,
    }
}

/// Where a long job is next and another one runs, moves the longest of the others to the
/// front, as long as these last at least as long as it, `slots` at a time: what runs for long
/// mostly fills memory, and two that do take longer beside each other than beside short ones.
pub(super) fn keep_long_apart(queue: &mut VecDeque<Queued>, long_from: f64, slots: usize) {
    let is_long = |queued: &Queued| queued.last().is_some_and(|secs| secs >= long_from);
    let next = queue
        .front()
        .filter(|next| is_long(next) && !next.failed_last());
    let Some(needed) = next.filter(|next| !next.alone).and_then(Queued::last) else {
        return;
    };
    let others = || {
        queue
            .iter()
            .filter(|queued| !is_long(queued) && !queued.alone)
    };
    let rest: f64 = others().filter_map(Queued::last).sum();
    if rest / slots.max(1) as f64 <= needed {
        return;
    }
    let first = queue
        .iter()
        .position(|queued| !is_long(queued) && !queued.alone);
    if let Some(other) = first.and_then(|index| queue.remove(index)) {
        queue.push_front(other);
    }
}

/// Orders times so that unknown ones come first, then longer ones.
fn longer(a: Option<f64>, b: Option<f64>) -> Ordering {
    let seconds = |time: Option<f64>| time.unwrap_or(f64::INFINITY);
    seconds(b).total_cmp(&seconds(a))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::JobId;
    use crate::report::sample;

    fn job(name: &str) -> Job {
        let mut test = sample::test(name);
        if name.starts_with('s') {
            test.groups.insert(SERIAL.into());
        }
        Job {
            id: JobId(0),
            test: Arc::new(test),
            combo: Arc::new(sample::combo("raw")),
            repetition: 0,
            skip: None,
            known: None,
        }
    }

    fn past(job: &Job) -> Option<Past> {
        let (secs, verdict) = match job.test.name.as_str() {
            "brief" => (Some(0.1), Kind::Pass),
            "long" => (Some(9.0), Kind::Pass),
            "failed" => (Some(0.2), Kind::Fail),
            "s" => (Some(99.0), Kind::Fail),
            _ => return None,
        };
        Some(Past {
            last_passed_secs: secs,
            last_verdict: Some(verdict),
        })
    }

    fn names(queue: &VecDeque<Queued>) -> Vec<&str> {
        queue.iter().map(|q| q.job.test.name.as_str()).collect()
    }

    #[test]
    fn failed_then_unknown_then_long_then_alone() {
        let jobs = ["s", "brief", "new", "long", "failed"].map(job);
        let queue = order(jobs, past, false, Choice::LongestFirst);
        assert_eq!(names(&queue), ["failed", "new", "long", "brief", "s"]);
        assert!(queue[4].alone && !queue[0].alone);
        let jobs = ["s", "brief", "new", "long", "failed"].map(job);
        let queue = order(jobs, past, false, Choice::AsPlanned);
        assert_eq!(names(&queue), ["brief", "new", "long", "failed", "s"]);
    }

    #[test]
    fn long_jobs_wait_for_each_other_while_there_is_other_work() {
        let timed = |name: &str, secs| Queued {
            job: job(name),
            past: Some(Past {
                last_passed_secs: Some(secs),
                last_verdict: Some(Kind::Pass),
            }),
            alone: false,
        };
        let mut queue: VecDeque<_> = [timed("long", 9.0)].into();
        queue.extend((0..30).map(|n| timed(&format!("{n:02}"), 1.0)));
        let long = long_from(&queue);
        assert!(long > 1.0 && long < 9.0);
        keep_long_apart(&mut queue, long, 2);
        assert_eq!(names(&queue)[..2], ["00", "long"]);
        // Eighteen seconds of other work last no longer than it, two at a time.
        let mut queue: VecDeque<_> = [timed("long", 9.0)].into();
        queue.extend((0..18).map(|n| timed(&format!("{n:02}"), 1.0)));
        keep_long_apart(&mut queue, long, 2);
        assert_eq!(names(&queue)[0], "long");
        assert_eq!(long_from(&VecDeque::new()), f64::INFINITY);
    }

    #[test]
    fn a_seed_gives_the_same_order_again() {
        let jobs: Vec<Job> = (0..20).map(|n| job(&format!("{n:03}"))).collect();
        let shuffled = |seed| order(jobs.clone(), past, false, Choice::Shuffled(seed));
        assert_eq!(names(&shuffled(7)), names(&shuffled(7)));
        assert_ne!(names(&shuffled(7)), names(&shuffled(8)));
    }
}
