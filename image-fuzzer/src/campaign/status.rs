//! The line that says how a campaign goes, and the log of its numbers.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::shared::Shared;
use super::{Campaign, Stats, Watch};

/// How often the line is drawn anew.
const REDRAW: Duration = Duration::from_millis(500);
/// How often the numbers are logged.
const LOG: Duration = Duration::from_secs(10);

/// Shows and logs the numbers until the campaign is over.
pub(super) fn report(
    campaign: &Campaign,
    shared: &Mutex<Shared>,
    watch: &Watch<'_>,
    started: Instant,
) {
    let bar = bar(campaign);
    let mut logged = Instant::now();
    while !watch.over.load(Ordering::SeqCst) {
        std::thread::park_timeout(REDRAW);
        let Ok(shared) = shared.lock() else {
            break;
        };
        bar.set_message(line(&shared.stats, started.elapsed()));
        if logged.elapsed() >= LOG {
            logged = Instant::now();
            // A full disk shows itself in the workers, which stop for it.
            let _ = shared.log_stats(started);
        }
    }
    bar.finish_and_clear();
}

/// A line on the terminal, where there is one.
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

/// The numbers in a line.
pub(super) fn line(stats: &Stats, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let hits: Vec<String> = stats
        .hits
        .iter()
        .map(|(class, count)| format!("{class} {count}"))
        .collect();
    let hits = if hits.is_empty() {
        "no faults".to_owned()
    } else {
        hits.join(", ")
    };
    format!(
        "{} images ({:.0}/s), {:.0} commands/s, {:.0} % opened, {} messages, {} queued, {} groups; {hits}",
        stats.images,
        stats.images as f64 / seconds,
        stats.commands as f64 / seconds,
        stats.opened_percent(),
        stats.messages,
        stats.queue,
        stats.groups,
    )
}
