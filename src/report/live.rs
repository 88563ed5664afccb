//! The live view on a terminal: what runs and for how long, counts, and about how
//! long it will still take. What the console writes scrolls by above it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::history::{Kind, Previous};
use crate::model::{Event, JobId};

use super::console::Screen;
use super::summary::Tally;
use super::words;

/// How many running tests are listed at most.
const LISTED: usize = 12;

/// The live view.
pub(super) struct Live {
    bars: MultiProgress,
    total: ProgressBar,
    running: HashMap<JobId, ProgressBar>,
    estimate: Estimate,
}

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
}

impl Estimate {
    fn event(&mut self, event: &Event) {
        match event {
            Event::RunStarted { combos, tests, .. } => {
                for test in tests {
                    for combo in combos {
                        if let Some((Kind::Pass | Kind::Fail | Kind::Flaky, secs)) =
                            self.previous.get(test, combo)
                        {
                            self.known.0 += secs;
                            self.known.1 += 1;
                        }
                    }
                }
            }
            Event::Finished(finished) => {
                let job = &finished.job;
                if job.repetition == 0
                    && let Some((Kind::Pass | Kind::Fail | Kind::Flaky, secs)) =
                        self.previous.get(&job.test.name, &job.combo)
                {
                    self.known.0 = (self.known.0 - secs).max(0.0);
                    self.known.1 = self.known.1.saturating_sub(1);
                }
                if let Some(outcome) = &finished.outcome {
                    self.spent += outcome.wall.as_secs_f64();
                    self.ended += 1;
                }
            }
            _ => {}
        }
    }

    /// The time left, once anything has ended: `left` jobs, after `elapsed`.
    fn left(&self, left: usize, elapsed: Duration) -> Option<Duration> {
        let elapsed = elapsed.as_secs_f64();
        if self.ended == 0 || elapsed <= 0.0 {
            return None;
        }
        // How many tests ran at once, as far as it has shown.
        let parallel = (self.spent / elapsed).max(0.5);
        let mean = self.spent / f64::from(self.ended);
        let unknown = (left as f64 - f64::from(self.known.1)).max(0.0);
        let secs = (self.known.0 + unknown * mean) / parallel;
        Duration::try_from_secs_f64(secs).ok()
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
        total.set_style(style("{bar:30} {pos}/{len}  {wide_msg}"));
        Self {
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
        let mut text = tally.counts_text();
        text.push_str(&format!("  {}", words::clock_span(tally.elapsed())));
        if let Some(eta) = self.estimate.left(left, tally.elapsed()) {
            text.push_str(&format!(", about {} left", words::clock_span(eta)));
        }
        let hidden = tally.running().saturating_sub(self.running.len());
        if hidden > 0 {
            text.push_str(&format!("  and {hidden} more running"));
        }
        self.total.set_position(tally.done() as u64);
        self.total.set_message(text);
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

    fn note(&mut self, event: &Event, tally: &Tally) {
        self.estimate.event(event);
        match event {
            Event::RunStarted { jobs, .. } => self.total.set_length(*jobs as u64),
            Event::Started { job, last, .. } if self.running.len() < LISTED => {
                let bar = ProgressBar::new_spinner();
                bar.set_style(style("  {spinner} {time:>6}  {wide_msg}"));
                let last = last.map_or_else(String::new, |s| format!("  (last: {s:.1}s)"));
                bar.set_message(format!("{}{last}  {}", tally.title(job), job.test.summary));
                let bar = self.bars.insert_before(&self.total, bar);
                bar.enable_steady_tick(Duration::from_millis(250));
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
        assert!(live.total.message().contains("and 2 more running"));
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
        assert_eq!(estimate.left(10, Duration::from_secs(5)), None);
        for id in 0..4 {
            let job = sample::job(id, "001", "qcow2");
            let finished = sample::finished(job, Verdict::Pass);
            estimate.event(&Event::Finished(Box::new(finished)));
        }
        // Four tests of 1.5 s in 3 s are two at once: ten more take 7.5 s.
        assert_eq!(
            estimate.left(10, Duration::from_secs(3)),
            Some(Duration::from_millis(7500))
        );
    }
}
