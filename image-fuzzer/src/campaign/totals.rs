//! What the statistics of a campaign come to over all runs of the fuzzer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::stats::Stats;
use crate::exec::stopwatch::{Purpose, Spent};
use crate::files::write_whole;

/// The log of statistics.
pub(super) const STATS: &str = "stats.jsonl";

/// The totals as they were a moment ago, which a kill leaves.
const TOTALS: &str = "totals.json";

/// Counted since the campaign was begun, over all runs of the fuzzer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Images that programs were run on.
    pub images: u64,
    /// Programs run, those of the oracles included.
    pub commands: u64,
    /// Images that got past being opened.
    pub opened: u64,
    /// Images on which no command exited.
    pub hung: u64,
    /// Time on the clock, in seconds.
    pub seconds: f64,
    /// The time of all workers together, by purpose, in seconds.
    pub worker_seconds: BTreeMap<Purpose, f64>,
    /// The longest time on the clock in which no image was finished, in seconds.
    pub longest_gap_seconds: f64,
    /// When it was begun; Unix time, in seconds, as those below, which are 0 before the first.
    pub begun: i64,
    /// When the newest message or exit status was seen.
    pub last_message: i64,
    /// When the newest block was reached.
    pub last_block: i64,
    /// When the newest group was found.
    pub last_group: i64,
    /// When the newest group that is not one of time was found.
    pub last_crash: i64,
    /// When the newest group of hangs or of slow commands was found.
    pub last_hang: i64,
}

impl Totals {
    /// Those in the work folder `root`: as they were stored last or, of an earlier version,
    /// in the last line of its log; zero where there are none.
    pub fn last(root: &Path) -> Self {
        Self::stored(root).unwrap_or_else(|| {
            let text = fs::read_to_string(root.join(STATS)).unwrap_or_default();
            text.lines().rev().find_map(parse).unwrap_or_default()
        })
    }

    /// Those of a campaign that finished so many tests, for the next run: a kill may have come
    /// between the end of a test and its being counted.
    pub(super) fn resumed(root: &Path, finished: u64) -> Self {
        let mut totals = Self::last(root);
        if Self::stored(root).is_some() {
            totals.images = totals.images.max(finished);
        }
        totals
    }

    /// Those that were stored, where there are any.
    fn stored(root: &Path) -> Option<Self> {
        let text = fs::read_to_string(root.join(TOTALS)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Stores them in the work folder `root`.
    ///
    /// # Errors
    ///
    /// The work folder cannot be written.
    pub(super) fn store(&self, root: &Path) -> Result<()> {
        write_whole(&root.join(TOTALS), &serde_json::to_vec(self)?)
    }

    /// Adds the counts of this run of the fuzzer.
    #[must_use]
    pub(super) fn with(&self, stats: &Stats, pace: &Pace) -> Self {
        let mut worker_seconds = self.worker_seconds.clone();
        for (purpose, time) in &pace.spent {
            *worker_seconds.entry(*purpose).or_default() += time.as_secs_f64();
        }
        Self {
            images: self.images + stats.images,
            commands: self.commands + stats.commands,
            opened: self.opened + stats.opened,
            hung: self.hung + stats.hung,
            seconds: self.seconds + pace.began.elapsed().as_secs_f64(),
            worker_seconds,
            longest_gap_seconds: self.longest_gap_seconds.max(pace.longest_gap()),
            begun: if self.begun == 0 {
                pace.begun
            } else {
                self.begun
            },
            last_message: self.last_message.max(pace.last_message),
            last_block: self.last_block.max(pace.last_block),
            last_group: self.last_group.max(pace.last_crash).max(pace.last_hang),
            last_crash: self.last_crash.max(pace.last_crash),
            last_hang: self.last_hang.max(pace.last_hang),
        }
    }

    /// Adds what another campaign came to.
    pub(super) fn merge(&mut self, other: Self) {
        self.images += other.images;
        self.commands += other.commands;
        self.opened += other.opened;
        self.hung += other.hung;
        self.seconds += other.seconds;
        for (purpose, seconds) in other.worker_seconds {
            *self.worker_seconds.entry(purpose).or_default() += seconds;
        }
        self.longest_gap_seconds = self.longest_gap_seconds.max(other.longest_gap_seconds);
        // 0 stands for never.
        self.begun = match (self.begun, other.begun) {
            (0, begun) | (begun, 0) => begun,
            (one, other) => one.min(other),
        };
        for (ours, theirs) in [
            (&mut self.last_message, other.last_message),
            (&mut self.last_block, other.last_block),
            (&mut self.last_group, other.last_group),
            (&mut self.last_crash, other.last_crash),
            (&mut self.last_hang, other.last_hang),
        ] {
            *ours = theirs.max(*ours);
        }
    }

    /// The share of images that got past being opened, in percent.
    pub fn opened_percent(&self) -> f64 {
        self.opened as f64 * 100.0 / (self.images as f64).max(1.0)
    }

    /// What there is to say where the target hung on every image; `None` where it did not.
    pub fn hung_text(&self) -> Option<String> {
        match self.images {
            images if images == 0 || images != self.hung => None,
            1 => Some("the target hung on the only image".to_owned()),
            images => Some(format!("the target hung on all {images} images")),
        }
    }

    /// What a campaign without an opened image must not be silent about, and what to do;
    /// `None` where images were opened.
    pub fn trouble(&self) -> Option<String> {
        let Self { images, opened, .. } = *self;
        if images == 0 {
            return Some(
                "no image was tested: give the campaign more time (-d) or more tests (--tests)"
                    .into(),
            );
        }
        if let Some(text) = self.hung_text() {
            return Some(format!(
                "{text}: check that it exits on a valid image, or give it a longer --timeout"
            ));
        }
        (opened == 0).then(|| {
            format!(
                "the target opened none of {images} images: check its command line (-c) on a \
                 valid image"
            )
        })
    }

    /// A table of the time by purpose, and the longest stretch without a new image; `None`
    /// where nothing was counted.
    pub fn table(&self) -> Option<String> {
        let all: f64 = self.worker_seconds.values().sum();
        if all <= 0.0 {
            return None;
        }
        let mut rows: Vec<_> = self.worker_seconds.iter().collect();
        rows.sort_by(|a, b| b.1.total_cmp(a.1));
        let mut text = format!(
            "{:<32} {:>6} {:>9}\n",
            "TIME OF WORKERS", "SHARE", "SECONDS"
        );
        for (purpose, seconds) in rows {
            text.push_str(&format!(
                "{:<32} {:>4.0} % {seconds:>9.1}\n",
                purpose.meaning(),
                seconds / all * 100.0
            ));
        }
        text.push_str(&format!(
            "{} images and {} commands in {:.0} s ({:.0} commands/s); longest stretch without a \
             new image: {:.1} s\n",
            self.images,
            self.commands,
            self.seconds,
            self.commands as f64 / self.seconds.max(0.001),
            self.longest_gap_seconds
        ));
        Some(text)
    }

    /// The largest shares of the time, in a line; `None` where nothing was counted.
    pub fn line(&self) -> Option<String> {
        const SHOWN: usize = 4;
        let all: f64 = self.worker_seconds.values().sum();
        if all <= 0.0 {
            return None;
        }
        let mut rows: Vec<_> = self.worker_seconds.iter().collect();
        rows.sort_by(|a, b| b.1.total_cmp(a.1));
        let shares: Vec<String> = rows
            .iter()
            .take(SHOWN)
            .map(|(purpose, seconds)| {
                format!("{:.0} % {}", *seconds / all * 100.0, purpose.meaning())
            })
            .collect();
        Some(format!(
            "time: {}; longest stretch without a new image: {:.1} s",
            shares.join(", "),
            self.longest_gap_seconds
        ))
    }
}

/// What a campaign had come to at some moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Time on the clock in which it ran, in seconds.
    pub seconds: f64,
    /// Images that programs were run on.
    pub images: u64,
    /// Those that got past being opened.
    pub opened: u64,
    /// Distinct messages and exit statuses.
    pub messages: u64,
    /// Blocks that were reached.
    pub blocks: u64,
    /// Groups of findings.
    pub groups: u64,
}

/// The moments that the log in the work folder `root` has, in order.
pub fn moments(root: &Path) -> Vec<Moment> {
    let text = fs::read_to_string(root.join(STATS)).unwrap_or_default();
    let moment = |line: &str| {
        let values: serde_json::Value = serde_json::from_str(line).ok()?;
        let count = |name: &str| values.get(name)?.as_u64();
        let (messages, groups) = (count("messages")?, count("groups")?);
        let totals = parse(line)?;
        Some(Moment {
            seconds: totals.seconds,
            images: totals.images,
            opened: totals.opened,
            messages,
            // Earlier versions counted none.
            blocks: count("blocks").unwrap_or(0),
            groups,
        })
    };
    text.lines().filter_map(moment).collect()
}

/// The totals in a line of the log.
fn parse(line: &str) -> Option<Totals> {
    let mut line: serde_json::Value = serde_json::from_str(line).ok()?;
    serde_json::from_value(line.get_mut("total")?.take()).ok()
}

/// How the images of this run of the fuzzer follow each other, and what its workers do.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    last_image: Instant,
    longest_gap: f64,
    spent: Spent,
    /// Unix times, in seconds, 0 before the first.
    begun: i64,
    last_message: i64,
    last_block: i64,
    last_crash: i64,
    last_hang: i64,
}

impl Pace {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            last_image: now,
            longest_gap: 0.0,
            spent: Spent::new(),
            begun: unix_time(),
            last_message: 0,
            last_block: 0,
            last_crash: 0,
            last_hang: 0,
        }
    }

    /// Notes that a message or exit status is new.
    pub(super) fn message(&mut self) {
        self.last_message = unix_time();
    }

    /// Notes that a block is new.
    pub(super) fn block(&mut self) {
        self.last_block = unix_time();
    }

    /// Notes that a group is new.
    pub(super) fn group(&mut self, is_of_time: bool) {
        let last = if is_of_time {
            &mut self.last_hang
        } else {
            &mut self.last_crash
        };
        *last = unix_time();
    }

    /// Notes that an image is finished.
    pub(super) fn image(&mut self) {
        self.longest_gap = self.longest_gap();
        self.last_image = Instant::now();
    }

    /// Adds what a worker spent.
    pub(super) fn add(&mut self, spent: Spent) {
        for (purpose, time) in spent {
            *self.spent.entry(purpose).or_default() += time;
        }
    }

    /// The longest time without an image, in seconds, the current one included.
    fn longest_gap(&self) -> f64 {
        self.longest_gap
            .max(self.last_image.elapsed().as_secs_f64())
    }
}

/// Unix time, in seconds.
pub(super) fn unix_time() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn totals_go_on_where_the_last_run_ended() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Totals::last(folder.path()), Totals::default());
        let stats = Stats {
            images: 3,
            commands: 10,
            opened: 1,
            ..Stats::default()
        };
        let mut pace = Pace::new();
        pace.image();
        pace.add([(Purpose::Checks, Duration::from_secs(2))].into());
        let first = Totals::default().with(&stats, &pace);
        let line = serde_json::json!({ "images": 3, "total": first });
        // The line of an earlier version, and one that a kill left incomplete.
        let text = format!("{{\"images\":1}}\n{line}\n{{\"images\":4,\"tot");
        fs::write(folder.path().join(STATS), text).unwrap();
        assert_eq!(Totals::last(folder.path()), first);
        // The log of an earlier version may not have all of its tests.
        assert_eq!(Totals::resumed(folder.path(), 9), first);
        first.store(folder.path()).unwrap();
        assert_eq!(Totals::resumed(folder.path(), 2), first);
        assert_eq!(Totals::resumed(folder.path(), 9).images, 9);
        let second = first.with(&stats, &pace);
        assert_eq!((second.images, second.commands, second.opened), (6, 20, 2));
        assert_eq!(second.worker_seconds, [(Purpose::Checks, 4.0)].into());
        assert!(second.seconds >= first.seconds && second.table().is_some());
    }

    #[test]
    fn a_campaign_that_opened_nothing_is_in_trouble() {
        let totals = |images, opened, hung| Totals {
            images,
            opened,
            hung,
            ..Totals::default()
        };
        let trouble = |images, opened, hung| totals(images, opened, hung).trouble();
        assert!(trouble(0, 0, 0).is_some_and(|text| text.contains("no image was tested")));
        let hung = trouble(12, 12, 12).unwrap();
        assert!(
            hung.starts_with("the target hung on all 12 images: "),
            "{hung}"
        );
        assert!(trouble(3, 0, 2).is_some_and(|text| text.contains("none of 3 images")));
        assert_eq!(trouble(3, 1, 2), None);
    }
}
