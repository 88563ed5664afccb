//! The live view on a terminal: what runs and for how long, counts, and about how
//! long it will still take. What the console writes scrolls by above it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::style::ProgressTracker;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::console::{Screen, terminal_columns};
use super::summary::Tally;
use crate::history::Previous;
use crate::model::{Combo, Event, Job, JobId, Kind};
use crate::words;

/// How many running tests are listed at most.
const LISTED: usize = 12;

/// How often times on the screen are updated.
const TICK: Duration = Duration::from_millis(250);

/// The live view.
pub(super) struct Live {
    bars: MultiProgress,
    total: ProgressBar,
    running: HashMap<JobId, ProgressBar>,
    estimate: Estimate,
    end: End,
}

/// When the run is expected to end, shared with the line that counts down to it.
type End = Arc<Mutex<Option<Instant>>>;

/// The time the rest of a run will take, from what its tests took the last time.
#[derive(Debug, Default)]
struct Estimate {
    previous: Previous,
    /// Seconds all jobs that have ended took, together.
    spent: f64,
    /// How many of those there are.
    ended: u32,
    /// Seconds that jobs still to end took the last time, and how many of the jobs
    /// are known so.
    known: (f64, u32),
    /// Of those, running jobs that the last run did not have: seconds when they
    /// last passed.
    learned: HashMap<JobId, f64>,
    /// Whether the rest will not be run.
    given_up: bool,
}

impl Estimate {
    /// Seconds a test took in the last run, where it ran to its end or did not
    /// start.
    fn took(&self, test: &str, combo: &Combo) -> Option<f64> {
        match self.previous.latest(test, combo)? {
            (Kind::Pass | Kind::Fail | Kind::Flaky | Kind::KnownFail, secs) => Some(secs),
            (Kind::NotRun, _) => Some(0.0),
            (Kind::Interrupted, _) => None,
        }
    }

    /// Seconds a job is counted with; the first repetition alone is.
    fn expected(&self, job: &Job) -> Option<f64> {
        let first = job.repetition == 0;
        first
            .then(|| self.took(&job.test.name, &job.combo))
            .flatten()
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted { combos, tests, .. } => {
                let all = tests
                    .iter()
                    .flat_map(|t| combos.iter().map(move |c| (t, c)));
                let known: Vec<f64> = all.filter_map(|(t, c)| self.took(t, c)).collect();
                self.known = (known.iter().sum(), u32::try_from(known.len()).unwrap_or(0));
            }
            Event::Started { job, last, .. } => {
                if let (None, Some(secs)) = (self.expected(job), last) {
                    self.known.0 += secs;
                    self.known.1 += 1;
                    self.learned.insert(job.id, *secs);
                }
            }
            Event::Finished(finished) => {
                let job = &finished.job;
                let learned = self.learned.remove(&job.id);
                if let Some(secs) = learned.or_else(|| self.expected(job)) {
                    self.known.0 = (self.known.0 - secs).max(0.0);
                    self.known.1 = self.known.1.saturating_sub(1);
                }
                if let Some(outcome) = &finished.outcome {
                    self.spent += outcome.wall.as_secs_f64();
                    self.ended += 1;
                }
            }
            // Ending what runs takes no time that earlier runs could tell.
            Event::Interrupting { .. } => self.given_up = true,
            _ => {}
        }
    }

    /// The time left, once anything has ended: `left` jobs, after `elapsed`; those
    /// that are running have run for `running` seconds together.
    fn left(&self, left: usize, elapsed: Duration, running: f64) -> Option<Duration> {
        let elapsed = elapsed.as_secs_f64();
        if self.ended == 0 || elapsed <= 0.0 || self.given_up {
            return None;
        }
        // How many tests ran at once, as far as it has shown.
        let parallel = (self.spent / elapsed).max(0.5);
        let mean = self.spent / f64::from(self.ended);
        let unknown = (left as f64 - f64::from(self.known.1)).max(0.0);
        let secs = (self.known.0 + unknown * mean - running) / parallel;
        Duration::try_from_secs_f64(secs.max(0.0)).ok()
    }
}

impl Live {
    /// A view on standard output; `previous` gives the times for the estimate.
    pub(super) fn new(previous: Previous) -> Self {
        Self::on(ProgressDrawTarget::stdout(), previous)
    }

    fn on(target: ProgressDrawTarget, previous: Previous) -> Self {
        let bars = MultiProgress::with_draw_target(target);
        let total = bars.add(ProgressBar::new(0));
        let end = End::default();
        let style = style("{bar:20} {pos}/{len}  {time}{left}  {wide_msg}");
        total.set_style(style.with_key("left", countdown(Arc::clone(&end))));
        Self {
            end,
            bars,
            total,
            running: HashMap::new(),
            estimate: Estimate {
                previous,
                ..Estimate::default()
            },
        }
    }

    fn refresh(&self, tally: &Tally) {
        let left = tally.jobs().saturating_sub(tally.done());
        let running = self.running.values().map(|bar| bar.elapsed().as_secs_f64());
        let eta = self.estimate.left(left, tally.elapsed(), running.sum());
        *lock(&self.end) = eta.map(|eta| Instant::now() + eta);
        let mut text = tally.counts_text();
        let hidden = tally.running().saturating_sub(self.running.len());
        if hidden > 0 {
            text.push_str(&format!("  ... {hidden} more running"));
        }
        self.total.set_position(tally.done() as u64);
        self.total.set_message(text);
    }
}

/// The time, whatever panicked while it was held.
fn lock(end: &End) -> MutexGuard<'_, Option<Instant>> {
    end.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows the time left up to `end`.
fn countdown(end: End) -> impl ProgressTracker + 'static {
    move |_: &ProgressState, out: &mut dyn std::fmt::Write| {
        let left = lock(&end).map(|end| end.saturating_duration_since(Instant::now()));
        if let Some(left) = left.filter(|left| *left >= Duration::from_secs(1)) {
            let _ = write!(out, ", about {} left", words::clock_span(left));
        }
    }
}

/// A bar's style; a template that cannot be read is a bare bar.
fn style(template: &str) -> ProgressStyle {
    let time = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // A failed write to a string buffer cannot happen, and would only cost a
        // redraw.
        let _ = out.write_str(&words::clock_span(state.elapsed()));
    };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("time", time)
        .progress_chars("=> ")
}

impl Screen for Live {
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.bars.suspend(|| {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes())?;
            out.flush()
        })
    }

    fn columns(&self) -> Option<usize> {
        terminal_columns()
    }

    fn note(&mut self, event: &Event, tally: &Tally) {
        self.estimate.event(event);
        match event {
            Event::RunStarted { jobs, .. } => {
                self.total.set_length(*jobs as u64);
                self.total.enable_steady_tick(TICK);
            }
            Event::Started { job, last, .. } if self.running.len() < LISTED => {
                // Until it is one of ours, it would draw on stderr by itself.
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
                bar.set_style(style("  {spinner} {time:>6}  {wide_msg}"));
                let last = last.map_or_else(String::new, |s| format!("  (last: {s:.1}s)"));
                bar.set_message(format!("{}{last}  {}", tally.title(job), job.test.summary));
                let bar = self.bars.insert_before(&self.total, bar);
                bar.enable_steady_tick(TICK);
                self.running.insert(job.id, bar);
            }
            Event::Finished(finished) => {
                if let Some(bar) = self.running.remove(&finished.job.id) {
                    bar.finish_and_clear();
                    self.bars.remove(&bar);
                }
            }
            Event::RunFinished { .. } => {
                for (_, bar) in self.running.drain() {
                    bar.finish_and_clear();
                }
                self.total.finish_and_clear();
                return;
            }
            _ => {}
        }
        self.refresh(tally);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict;
    use crate::report::sample;

    #[test]
    fn what_runs_is_listed_up_to_a_bound_and_leaves_when_it_ends() {
        let mut live = Live::on(ProgressDrawTarget::hidden(), Previous::default());
        let mut tally = Tally::default();
        let mut tell = |live: &mut Live, event: Event| {
            tally.event(&event);
            live.note(&event, &tally);
        };
        let job = |id| sample::job(id, "001", "qcow2");
        for id in 0..LISTED as u32 + 2 {
            let started = Event::Started {
                job: job(id),
                last: None,
                at: sample::at(0),
            };
            tell(&mut live, started);
        }
        assert_eq!(live.running.len(), LISTED);
        assert!(live.total.message().contains("... 2 more running"));
        for id in 0..3 {
            let finished = sample::finished(job(id), Verdict::Pass);
            tell(&mut live, Event::Finished(Box::new(finished)));
        }
        assert_eq!(live.running.len(), LISTED - 3);
        assert!(live.total.message().starts_with("3 passed"));
        tell(
            &mut live,
            Event::RunFinished {
                not_reached: Vec::new(),
                interrupted: false,
                wall: Duration::ZERO,
            },
        );
        assert!(live.running.is_empty() && live.total.is_finished());
    }

    #[test]
    fn the_time_left_follows_what_tests_took_and_how_many_run_at_once() {
        let mut estimate = Estimate::default();
        assert_eq!(estimate.left(10, Duration::from_secs(5), 0.0), None);
        for id in 0..4 {
            let job = sample::job(id, "001", "qcow2");
            let finished = sample::finished(job, Verdict::Pass);
            estimate.event(&Event::Finished(Box::new(finished)));
        }
        // Four tests of 1.5 s in 3 s are two at once: ten more take 7.5 s.
        assert_eq!(
            estimate.left(10, Duration::from_secs(3), 0.0),
            Some(Duration::from_millis(7500))
        );
        assert_eq!(
            estimate.left(10, Duration::from_secs(3), 5.0),
            Some(Duration::from_secs(5))
        );
        estimate.event(&Event::Interrupting { running: 2 });
        assert_eq!(estimate.left(10, Duration::from_secs(3), 5.0), None);
    }
}
