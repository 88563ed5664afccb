//! The status line of a campaign, and the log of its statistics.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::shared::Shared;
use super::stats::Stats;
use super::totals::Totals;
use super::{Campaign, RunControl};

/// How often the line is redrawn.
const REDRAW: Duration = Duration::from_millis(500);
/// How often the statistics are logged.
const LOG: Duration = Duration::from_secs(10);

/// Shows and logs the statistics until the campaign is over.
pub(super) fn report(
    campaign: &Campaign,
    shared: &Mutex<Shared>,
    control: &RunControl<'_>,
    started: Instant,
) {
    let bar = bar(campaign);
    let mut logged = Instant::now();
    while !control.done.load(Ordering::SeqCst) {
        std::thread::park_timeout(REDRAW);
        let Ok(shared) = shared.lock() else {
            break;
        };
        bar.set_message(line(&shared.stats, &shared.totals(), started.elapsed()));
        if logged.elapsed() >= LOG {
            logged = Instant::now();
            // A full disk is reported by the workers, which stop for it.
            let _ = shared.log_stats(started);
        }
    }
    bar.finish_and_clear();
}

/// A status line on the terminal, where there is one.
fn bar(campaign: &Campaign) -> ProgressBar {
    if !campaign.status || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(REDRAW);
    bar
}

/// The statistics in a line.
fn line(stats: &Stats, totals: &Totals, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let hits: Vec<String> = stats
        .hits
        .iter()
        .map(|(class, count)| format!("{class} {count}"))
        .collect();
    let hits = match totals.hung_text() {
        Some(text) => text,
        None if !hits.is_empty() => hits.join(", "),
        None if totals.opened == 0 => "nothing opened".to_owned(),
        None => "no findings".to_owned(),
    };
    let sweep = stats.sweep_text();
    let sweep = sweep.map_or_else(String::new, |text| format!("{text}, "));
    format!(
        "{sweep}{} images ({:.0}/s), {:.0} commands/s, {:.0} % opened, {} messages, {} queued, {} groups; {hits}",
        stats.images,
        stats.images as f64 / seconds,
        stats.commands as f64 / seconds,
        stats.opened_percent(),
        stats.messages,
        stats.queue,
        stats.groups,
    )
}
