//! `fuzzer_stats` and `plot_data`, as AFL++ writes them, so that `afl-whatsup` and `afl-plot`
//! read them (AFL++, docs/afl-fuzz_approach.md, "Understanding the status screen").
//!
//! A command is what AFL++ calls an execution, an image in the queue is an item of its corpus,
//! a group of findings a saved crash or, where it is one of time, a saved hang. Blocks, or
//! where they are not noted distinct messages and exit statuses, stand for edges.

use std::fmt::Write as _;

use super::totals::Totals;

/// The file of current values.
pub(super) const FUZZER_STATS: &str = "fuzzer_stats";

/// The file of values over time.
pub(super) const PLOT_DATA: &str = "plot_data";

/// The first line of [`PLOT_DATA`].
pub(super) const PLOT_HEADER: &str = "# relative_time, cycles_done, cur_item, corpus_count, \
pending_total, pending_favs, map_size, saved_crashes, saved_hangs, max_depth, execs_per_sec, \
total_execs, edges_found";

/// What both files are made from.
#[derive(Debug)]
pub(super) struct Values<'a> {
    /// What this and earlier runs came to.
    pub(super) totals: &'a Totals,
    /// Unix time, in seconds.
    pub(super) now: i64,
    /// Images in the queue.
    pub(super) queue: usize,
    /// Those of them that are of other instances of the fleet, since the fuzzer was started.
    pub(super) imported: u64,
    /// Blocks that were reached or, where they are not noted, distinct messages and exit
    /// statuses.
    pub(super) edges: usize,
    /// Groups of findings that are not of time.
    pub(super) crashes: usize,
    /// Groups of hangs and of slow commands.
    pub(super) hangs: usize,
    /// Commands a second, over the last minute.
    pub(super) rate: f64,
    /// The time limit of a command, in milliseconds.
    pub(super) timeout_ms: u128,
    /// The command line of this run.
    pub(super) command_line: &'a str,
}

/// The text of [`FUZZER_STATS`].
pub(super) fn fuzzer_stats(values: &Values<'_>) -> String {
    let totals = values.totals;
    let run_time = totals.seconds;
    let last_find = totals.last_message.max(totals.last_block);
    let without_news = values.now.saturating_sub(last_find).max(0);
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<18}: {value}");
    };
    line("start_time", &totals.begun);
    line("last_update", &values.now);
    line("run_time", &format!("{run_time:.0}"));
    line("fuzzer_pid", &std::process::id());
    line("cycles_done", &0);
    line("cycles_wo_finds", &0);
    line("time_wo_finds", &without_news);
    // afl-whatsup divides by it.
    line("execs_done", &totals.commands.max(1));
    let mean = totals.commands as f64 / run_time.max(0.001);
    line("execs_per_sec", &format!("{mean:.2}"));
    line("execs_ps_last_min", &format!("{:.2}", values.rate));
    line("corpus_count", &values.queue.max(1));
    line("corpus_favored", &0);
    line("corpus_found", &values.queue);
    line("corpus_imported", &values.imported);
    line("max_depth", &1);
    line("cur_item", &0);
    line("pending_favs", &0);
    line("pending_total", &0);
    line("stability", &"100.00%");
    line("bitmap_cvg", &"0.00%");
    line("saved_crashes", &values.crashes);
    line("saved_hangs", &values.hangs);
    line("last_find", &last_find);
    line("last_crash", &totals.last_crash);
    line("last_hang", &totals.last_hang);
    line("exec_timeout", &values.timeout_ms);
    line("edges_found", &values.edges);
    line("afl_banner", &"image-fuzzer");
    line("afl_version", &crate::input::recipe::FUZZER);
    line("command_line", &values.command_line);
    text
}

/// A line of [`PLOT_DATA`].
pub(super) fn plot_line(values: &Values<'_>) -> String {
    format!(
        "{:.0}, 0, 0, {}, 0, 0, 0.00%, {}, {}, 1, {:.2}, {}, {}",
        values.totals.seconds,
        values.queue,
        values.crashes,
        values.hangs,
        values.rate,
        values.totals.commands,
        values.edges
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_value_for_each_name_of_the_header() {
        let values = Values {
            totals: &Totals::default(),
            now: 10,
            queue: 3,
            imported: 1,
            edges: 7,
            crashes: 2,
            hangs: 1,
            rate: 12.5,
            timeout_ms: 5000,
            command_line: "image-fuzzer work",
        };
        let line = plot_line(&values);
        assert_eq!(line.split(", ").count(), PLOT_HEADER.split(", ").count());
        assert!(line.contains(", 2, 1, 1, 12.50, 0, 7"), "{line}");
        let stats = fuzzer_stats(&values);
        assert!(stats.contains("\nsaved_crashes     : 2\n"), "{stats}");
        let pairs = stats.lines().all(|line| line.split_once(": ").is_some());
        assert!(pairs, "{stats}");
    }
}
