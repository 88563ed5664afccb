//! The status of a campaign on a terminal, and the log of its statistics.

use std::collections::{BTreeMap, VecDeque};
use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::activity::Activity;
use super::shared::Shared;
use super::stats::Stats;
use super::totals::{Totals, unix_time};
use super::{Campaign, RunControl};
use crate::oracle::Class;
use crate::output::duration;

/// How often the terminal is redrawn.
const REDRAW: Duration = Duration::from_millis(500);
/// How often the statistics are logged.
const LOG: Duration = Duration::from_secs(10);
/// When the first plain line is printed; each following interval is twice as long, up to
/// [`PLAIN_MOST`].
const PLAIN_FIRST: Duration = Duration::from_secs(15);
const PLAIN_MOST: Duration = Duration::from_secs(60);
/// What the current rate on the terminal is the mean of.
const RECENT: Duration = Duration::from_secs(5);
/// What the rate in `fuzzer_stats` is the mean of.
const MINUTE: Duration = Duration::from_secs(60);

/// How the status is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusMode {
    /// A screen on a terminal, plain lines elsewhere.
    #[default]
    Auto,
    /// One line, redrawn, on a terminal; plain lines elsewhere.
    Line,
    /// A line now and then.
    Plain,
    /// Not at all.
    Off,
}

/// Shows and logs the statistics until the campaign is over.
pub(super) fn report(campaign: &Campaign, shared: &Mutex<Shared>, control: &RunControl<'_>) {
    let terminal = std::io::stderr().is_terminal();
    let bar = match campaign.status {
        StatusMode::Auto | StatusMode::Line if terminal => bar(),
        _ => ProgressBar::hidden(),
    };
    let plain = bar.is_hidden() && campaign.status != StatusMode::Off;
    let started = Instant::now();
    let (mut logged, mut printed, mut interval) = (started, started, PLAIN_FIRST);
    let mut rates = Rates::default();
    while !control.done.load(Ordering::SeqCst) {
        std::thread::park_timeout(REDRAW);
        let Ok(shared) = shared.lock() else {
            break;
        };
        rates.add(started.elapsed(), shared.stats.commands);
        // A full disk is reported by the workers, which stop for it.
        let _ = shared.store_totals();
        if logged.elapsed() >= LOG {
            logged = Instant::now();
            let _ = log(campaign, &shared, started, &rates);
        }
        let is_due = plain && printed.elapsed() >= interval;
        if bar.is_hidden() && !is_due {
            continue;
        }
        let view = View {
            stats: shared.stats.clone(),
            novelty: shared.sources().recent(),
            totals: shared.totals(),
            classes: shared.findings.classes(),
            rate: rates.over(RECENT),
            workers: control.activities.all(),
            elapsed: started.elapsed(),
            now: unix_time(),
        };
        drop(shared);
        if is_due {
            (printed, interval) = (Instant::now(), (interval * 2).min(PLAIN_MOST));
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{}", view.line());
        }
        if !bar.is_hidden() {
            let width = usize::from(console::Term::stderr().size().1);
            let text = match campaign.status {
                StatusMode::Line => view.line(),
                _ => view.screen(&campaign.dir.display().to_string()),
            };
            let lines = text.lines();
            let fitting = lines.map(|line| console::truncate_str(line, width.max(20), "…"));
            bar.set_message(fitting.collect::<Vec<_>>().join("\n"));
        }
    }
    bar.finish_and_clear();
}

/// Logs the statistics, for our own tools and for those of AFL++.
///
/// # Errors
///
/// The work folder cannot be written.
pub(super) fn log(
    campaign: &Campaign,
    shared: &Shared,
    started: Instant,
    rates: &Rates,
) -> anyhow::Result<()> {
    shared.log_stats(started)?;
    let timeout = campaign.settings.limits.wall;
    shared.write_afl_stats(rates.over(MINUTE), timeout, &campaign.command_line)
}

/// What is redrawn on a terminal.
fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        bar.set_style(style);
    }
    bar
}

/// How many commands there were at moments of the last minute.
#[derive(Debug, Default)]
pub(super) struct Rates(VecDeque<(Duration, u64)>);

impl Rates {
    /// So many commands have been run `at` this time after the start.
    pub(super) fn add(&mut self, at: Duration, commands: u64) {
        self.0.push_back((at, commands));
        while self.0.len() > 2 && self.0[1].0 + MINUTE <= at {
            self.0.pop_front();
        }
    }

    /// Commands a second in the last `time`, or since the start where that is less.
    fn over(&self, time: Duration) -> f64 {
        let Some((at, commands)) = self.0.back() else {
            return 0.0;
        };
        let from = self.0.iter().rev().find(|(other, _)| *other + time <= *at);
        let (since, before) = from.copied().unwrap_or_default();
        let seconds = at.saturating_sub(since).as_secs_f64();
        commands.saturating_sub(before) as f64 / seconds.max(0.001)
    }
}

/// What the status shows.
struct View {
    stats: Stats,
    totals: Totals,
    /// What gave new blocks and messages of late.
    novelty: Option<String>,
    classes: BTreeMap<Class, usize>,
    /// Commands a second now.
    rate: f64,
    workers: Vec<(Activity, Duration)>,
    /// How long this run of the fuzzer has been.
    elapsed: Duration,
    /// Unix time, in seconds.
    now: i64,
}

impl View {
    /// The groups by class, or why there are none.
    fn groups(&self) -> String {
        let totals = &self.totals;
        let classes = self.classes.iter();
        let classes: Vec<String> = classes
            .map(|(class, count)| format!("{count} {class}"))
            .collect();
        match totals.hung_text() {
            Some(text) => text,
            None if !classes.is_empty() => classes.join(", "),
            None if totals.opened == 0 => "nothing opened".to_owned(),
            None => "no findings".to_owned(),
        }
    }

    /// Commands a second over all runs.
    fn mean(&self) -> f64 {
        self.totals.commands as f64 / self.totals.seconds.max(0.001)
    }

    /// How long ago a Unix time is; 0 stands for never.
    fn since(&self, time: i64) -> String {
        match self.now.saturating_sub(time).max(0) {
            _ if time == 0 => "none yet".to_owned(),
            seconds => format!("{} ago", duration(seconds as f64)),
        }
    }

    /// All in a line.
    fn line(&self) -> String {
        let sweep = self.stats.sweep_text();
        let sweep = sweep.map_or_else(String::new, |text| format!(", {text}"));
        let blocks = match self.stats.blocks {
            0 => String::new(),
            blocks => format!(", {blocks} blocks ({})", self.since(self.totals.last_block)),
        };
        format!(
            "{}, {} images, {:.0} commands/s ({:.0} on average), {:.0} % opened, {} messages{blocks}{sweep}; {}",
            duration(self.totals.seconds),
            self.totals.images,
            self.rate,
            self.mean(),
            self.totals.opened_percent(),
            self.stats.messages,
            self.groups(),
        )
    }

    /// All on a screen.
    fn screen(&self, folder: &str) -> String {
        let (stats, totals) = (&self.stats, &self.totals);
        let since = |time: i64| self.since(time);
        let mut rows = vec![
            ("work folder", folder.to_owned()),
            (
                "run time",
                format!(
                    "{} over all runs, this one {}",
                    duration(totals.seconds),
                    duration(self.elapsed.as_secs_f64())
                ),
            ),
            (
                "images",
                format!(
                    "{}, {:.0} % opened, {} in the queue{}",
                    totals.images,
                    totals.opened_percent(),
                    stats.queue,
                    match stats.queue - stats.scheduled.min(stats.queue) {
                        0 => String::new(),
                        aside => format!(", {aside} of them set aside"),
                    }
                ),
            ),
            (
                "commands",
                format!(
                    "{}, {:.0}/s now, {:.0}/s on average",
                    totals.commands,
                    self.rate,
                    self.mean()
                ),
            ),
            (
                "messages",
                format!(
                    "{}, the last new one {}",
                    stats.messages,
                    since(totals.last_message)
                ),
            ),
            (
                "findings",
                format!(
                    "{} groups, the last new one {}",
                    stats.groups,
                    since(totals.last_group)
                ),
            ),
            ("", self.groups()),
        ];
        if stats.blocks > 0 {
            let newest = since(totals.last_block);
            let text = format!("{} reached, the last new one {newest}", stats.blocks);
            rows.insert(5, ("blocks", text));
        }
        if let Some(novelty) = &self.novelty {
            rows.push(("new of late by", novelty.clone()));
        }
        if let Some(sweep) = stats.sweep_text() {
            rows.push(("sweep", sweep.trim_start_matches("sweep ").to_owned()));
        }
        if let Some(fleet) = &stats.fleet {
            rows.push(("fleet", fleet.to_string()));
        }
        if stats.suspected > 0 {
            let text = format!("{} wait to be confirmed", stats.suspected);
            rows.push(("suspected hangs", text));
        }
        let workers = self.workers.iter().enumerate();
        let names: Vec<String> = workers
            .clone()
            .map(|(index, _)| format!("worker {index}"))
            .collect();
        for ((_, (activity, time)), name) in workers.zip(&names) {
            let time = time.as_secs_f64();
            let time = if time < 1.0 {
                String::new()
            } else {
                format!(", {}", duration(time))
            };
            rows.push((name, format!("{activity}{time}")));
        }
        let rows = rows
            .iter()
            .map(|(name, value)| format!("{name:>15}  {value}"));
        rows.collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            stats: Stats {
                messages: 30,
                queue: 4,
                scheduled: 3,
                groups: 3,
                sweep: (5, 90),
                ..Stats::default()
            },
            totals: Totals {
                images: 200,
                opened: 150,
                commands: 5000,
                seconds: 4000.0,
                last_group: 1000,
                ..Totals::default()
            },
            novelty: Some("header.l1_size; qemu-img info".into()),
            classes: [(Class::Crash, 2), (Class::Hang, 1)].into(),
            rate: 250.0,
            workers: vec![
                (Activity::Test(7), Duration::ZERO),
                (Activity::Idle, Duration::from_secs(65)),
            ],
            elapsed: Duration::from_secs(40),
            now: 1100,
        }
    }

    #[test]
    fn a_line_has_the_values_of_all_runs() {
        assert_eq!(
            view().line(),
            "1 h 6 min, 200 images, 250 commands/s (1 on average), 75 % opened, 30 messages, \
             sweep 5 of 90; 2 crash, 1 hang"
        );
        let mut empty = view();
        empty.classes.clear();
        assert!(empty.line().ends_with("; no findings"));
        empty.totals.opened = 0;
        assert!(empty.line().ends_with("; nothing opened"));
    }

    #[test]
    fn a_screen_has_a_row_for_each_worker() {
        let text = view().screen("work");
        assert!(
            text.contains("3 groups, the last new one 1 min 40 s ago"),
            "{text}"
        );
        assert!(text.contains("the last new one none yet"), "{text}");
        assert!(
            text.contains("1 h 6 min over all runs, this one 40 s"),
            "{text}"
        );
        assert!(text.contains("       worker 0  test 7\n"), "{text}");
        assert!(
            text.contains("4 in the queue, 1 of them set aside\n"),
            "{text}"
        );
        assert!(text.contains("header.l1_size; qemu-img info\n"), "{text}");
        assert!(text.ends_with("       worker 1  idle, 1 min 5 s"), "{text}");
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut rates = Rates::default();
        assert_eq!(rates.over(RECENT), 0.0);
        for second in 1..=100 {
            rates.add(Duration::from_secs(second), second.min(90) * 10);
        }
        assert_eq!(rates.over(RECENT), 0.0);
        assert_eq!(rates.over(Duration::from_secs(20)), 5.0);
        assert!(rates.0.len() <= 62, "{}", rates.0.len());
    }
}
