//! The history as text: trends, what is flaky, what is slow.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use anyhow::bail;

use super::journal::{self, RING, Record};
use super::parse_combo;
use crate::model::{Combo, Kind};
use crate::words;

/// One remembered result.
struct Remembered {
    kind: Kind,
    secs: f64,
    at: u64,
    why: String,
    /// What QEMU's programs ran under.
    under: String,
}

/// Results by test and combination, oldest first.
type Results = BTreeMap<(String, String), VecDeque<Remembered>>;

/// One remembered run.
struct Run {
    id: String,
    at: u64,
    jobs: usize,
    counts: BTreeMap<Kind, usize>,
    wall: Option<f64>,
    interrupted: bool,
}

/// How many runs, slow tests and so on the overview lists.
const LISTED: usize = 10;

/// The history in `dir` as text: an overview, or everything about `test`; of results, those
/// under combinations that are `wanted`.
///
/// # Errors
///
/// The history cannot be read, or it holds nothing about `test`.
pub fn render(
    dir: &Path,
    test: Option<&str>,
    wanted: &dyn Fn(&Combo) -> bool,
) -> anyhow::Result<String> {
    let path = journal::path(dir);
    let (mut results, mut runs) = (Results::new(), VecDeque::new());
    journal::read(&path, |record| take(record, test, &mut results, &mut runs))
        .with_context(|| format!("cannot read {}", path.display()))?;
    results.retain(|(_, combo), _| parse_combo(combo).is_none_or(|combo| wanted(&combo)));
    if runs.is_empty() {
        return Ok(format!("No runs are recorded in {}.\n", dir.display()));
    }
    match test {
        Some(test) if results.is_empty() => {
            bail!(
                "no matching results of test {test} are recorded in {}",
                dir.display()
            )
        }
        Some(_) => Ok(one_test(&results)),
        None => Ok(overview(&results, &runs)),
    }
}

fn take(record: Record, only: Option<&str>, results: &mut Results, runs: &mut VecDeque<Run>) {
    match record {
        Record::Run { run, at, jobs, .. } => {
            runs.push_back(Run {
                id: run,
                at,
                jobs,
                counts: BTreeMap::new(),
                wall: None,
                interrupted: false,
            });
            if runs.len() > LISTED {
                runs.pop_front();
            }
        }
        Record::Done {
            run,
            test,
            combo,
            verdict,
            secs,
            at,
            why,
            under,
            ..
        } => {
            if let Some(run) = runs.iter_mut().rev().find(|r| r.id == run) {
                *run.counts.entry(verdict).or_default() += 1;
            }
            if only.is_some_and(|only| only != test) {
                return;
            }
            let ring = results.entry((test, combo)).or_default();
            ring.push_back(Remembered {
                kind: verdict,
                secs,
                at,
                // The overview shows no reasons.
                why: if only.is_some() { why } else { String::new() },
                under,
            });
            if ring.len() > RING {
                ring.pop_front();
            }
        }
        Record::End {
            run,
            wall,
            interrupted,
            ..
        } => {
            if let Some(run) = runs.iter_mut().rev().find(|r| r.id == run) {
                run.wall = Some(wall);
                run.interrupted = interrupted;
            }
        }
    }
}

fn overview(results: &Results, runs: &VecDeque<Run>) -> String {
    let mut out = String::from("Last runs:\n");
    for run in runs.iter().rev() {
        let count = |kind| run.counts.get(&kind).copied().unwrap_or(0);
        let _ = write!(
            out,
            "  {}  {:>10}: {} passed, {} failed, {} not run",
            words::date_time(run.at),
            words::count(run.jobs, "job"),
            count(Kind::Pass),
            count(Kind::Fail),
            count(Kind::NotRun),
        );
        if count(Kind::Flaky) > 0 {
            let _ = write!(out, ", {} flaky", count(Kind::Flaky));
        }
        out.push_str(&match (run.wall, run.interrupted) {
            (Some(wall), false) => format!(" in {wall:.1} s\n"),
            (Some(wall), true) => format!(", interrupted after {wall:.1} s\n"),
            (None, _) => ", still running or killed\n".to_owned(),
        });
    }
    section(&mut out, "Failing now", failing(results));
    section(&mut out, "Flaky (passes intermittently)", flaky(results));
    section(&mut out, "Slowest (median of passes)", slowest(results));
    section(&mut out, "Slower than before", slower(results));
    out
}

fn section(out: &mut String, title: &str, lines: Vec<String>) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{title}:");
    for line in lines.iter().take(LISTED) {
        let _ = writeln!(out, "  {line}");
    }
    if lines.len() > LISTED {
        let _ = writeln!(out, "  ... {} more", lines.len() - LISTED);
    }
}

fn title(key: &(String, String)) -> String {
    let combo = parse_combo(&key.1).map_or_else(|| key.1.clone(), |c| words::combo(&c));
    format!("{:8} {combo:20}", key.0)
}

fn failing(results: &Results) -> Vec<String> {
    let last_failed =
        |ring: &VecDeque<Remembered>| ring.back().is_some_and(|r| r.kind == Kind::Fail);
    let failing = results.iter().filter(|(_, ring)| last_failed(ring));
    failing
        .map(|(key, ring)| {
            let fails = ring.iter().rev().take_while(|r| r.kind == Kind::Fail);
            let runs = words::count(fails.count(), "run");
            format!("{} for {runs}  {}", title(key), marks(ring))
        })
        .collect()
}

/// How often a test changed between passing and failing; a flaky run is a change
/// of its own.
fn turns(ring: &VecDeque<Remembered>) -> usize {
    let ran: Vec<Kind> = ring
        .iter()
        .map(|r| r.kind)
        .filter(|k| matches!(k, Kind::Pass | Kind::Fail | Kind::Flaky))
        .collect();
    let turned = ran.windows(2).filter(|w| w[0] != w[1]).count();
    let flaky = ran.iter().filter(|k| **k == Kind::Flaky).count();
    // One change is a test that broke or was fixed.
    if flaky > 0 {
        turned.max(flaky)
    } else {
        turned.saturating_sub(1)
    }
}

fn flaky(results: &Results) -> Vec<String> {
    let mut found: Vec<_> = results
        .iter()
        .map(|(key, ring)| (turns(ring), key, ring))
        .filter(|(turns, ..)| *turns > 0)
        .collect();
    found.sort_by_key(|(turns, ..)| std::cmp::Reverse(*turns));
    let line = |(_, key, ring): &(usize, &(String, String), &VecDeque<Remembered>)| {
        let ran = ring
            .iter()
            .filter(|r| matches!(r.kind, Kind::Pass | Kind::Fail | Kind::Flaky));
        let failed = ran.clone().filter(|r| r.kind != Kind::Pass).count();
        let all = ran.count();
        format!(
            "{} {failed} of {all} not passed  {}",
            title(key),
            marks(ring)
        )
    };
    found.iter().map(line).collect()
}

/// Seconds of the passes, oldest first, without those under valgrind.
fn passes(ring: &VecDeque<Remembered>) -> Vec<f64> {
    let plain = ring.iter().filter(|r| r.under.is_empty());
    let passed = plain.filter(|r| r.kind == Kind::Pass);
    passed.map(|r| r.secs).collect()
}

fn median(times: &[f64]) -> Option<f64> {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn slowest(results: &Results) -> Vec<String> {
    let mut all: Vec<_> = results
        .iter()
        .filter_map(|(key, ring)| Some((median(&passes(ring))?, key, ring)))
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    all.truncate(LISTED);
    let line = |(secs, key, ring): &(f64, &(String, String), &VecDeque<Remembered>)| {
        format!(
            "{} {:>8}  {}",
            title(key),
            secs_text(*secs),
            spark(&passes(ring))
        )
    };
    all.iter().map(line).collect()
}

fn slower(results: &Results) -> Vec<String> {
    let mut found = Vec::new();
    for (key, ring) in results {
        let times = passes(ring);
        let Some((last, before)) = times.split_last() else {
            continue;
        };
        let Some(usual) = median(before) else {
            continue;
        };
        if before.len() >= 3 && *last > usual * 1.5 && *last > usual + 0.5 {
            let line = format!(
                "{} {usual:.1} s, now {last:.1} s  {}",
                title(key),
                spark(&times)
            );
            found.push((*last / usual.max(0.001), line));
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found.into_iter().map(|(_, line)| line).collect()
}

fn one_test(results: &Results) -> String {
    let mut out = String::new();
    for (key, ring) in results {
        let _ = writeln!(out, "{}", title(key).trim_end());
        let _ = writeln!(
            out,
            "  verdicts  {}   (. pass, F fail, - not run, ~ flaky, k known to fail, ! interrupted)",
            marks(ring)
        );
        let times = passes(ring);
        if let Some(median) = median(&times) {
            let least = times.iter().copied().fold(f64::INFINITY, f64::min);
            let most = times.iter().copied().fold(0.0, f64::max);
            let _ = writeln!(
                out,
                "  times     {}   {} to {}, median {}",
                spark(&times),
                secs_text(least),
                secs_text(most),
                secs_text(median)
            );
        }
        for r in ring.iter().rev().take(LISTED) {
            let word = words::kind(r.kind);
            let line = format!(
                "  {}  {word:11} {:>8}  {}{}",
                words::date_time(r.at),
                secs_text(r.secs),
                match r.under.as_str() {
                    "" => String::new(),
                    tool => format!("under {tool}  "),
                },
                r.why
            );
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Seconds with the significant digits.
fn secs_text(secs: f64) -> String {
    if secs < 1.0 {
        format!("{:.0} ms", secs * 1000.0)
    } else {
        format!("{secs:.1} s")
    }
}

fn marks(ring: &VecDeque<Remembered>) -> String {
    let mark = |r: &Remembered| match r.kind {
        Kind::Pass => '.',
        Kind::Fail => 'F',
        Kind::NotRun => '-',
        Kind::Flaky => '~',
        Kind::KnownFail => 'k',
        Kind::Interrupted => '!',
    };
    ring.iter().map(mark).collect()
}

/// Times as bars, from nothing to the longest.
fn spark(times: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = times.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let bar = |t: &f64| {
        let share = (t / most * 7.0).round();
        // From 0 to 7 by construction.
        BARS[(share as usize).min(7)]
    };
    times.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, results: &[(&str, Kind, f64)]) {
        let mut journal = journal::Journal::open(dir).unwrap();
        for (n, (test, verdict, secs)) in results.iter().enumerate() {
            let run = format!("r{n}");
            let combo = "qcow2/file/writeback/threads/".to_owned();
            let at = 1_700_000_000 + n as u64;
            journal
                .append(&Record::Run {
                    run: run.clone(),
                    at,
                    jobs: 1,
                    combos: vec![combo.clone()],
                    tests: vec![(*test).to_owned()],
                    selection: String::new(),
                })
                .unwrap();
            journal
                .append(&Record::Done {
                    run: run.clone(),
                    test: (*test).to_owned(),
                    combo,
                    verdict: *verdict,
                    secs: *secs,
                    at,
                    why: if *verdict == Kind::Fail {
                        "output mismatch".into()
                    } else {
                        String::new()
                    },
                    under: String::new(),
                })
                .unwrap();
            journal
                .append(&Record::End {
                    run,
                    wall: *secs,
                    interrupted: false,
                    not_reached: Vec::new(),
                })
                .unwrap();
        }
    }

    #[test]
    fn the_overview_names_failing_flaky_slow_and_slowed() {
        use Kind::{Fail, Pass};
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                ("001", Pass, 1.0),
                ("001", Pass, 1.0),
                ("001", Pass, 1.0),
                ("001", Pass, 4.0),
                ("002", Pass, 0.1),
                ("002", Fail, 0.1),
                ("002", Pass, 0.1),
                ("003", Pass, 0.1),
                ("003", Fail, 0.1),
            ],
        );
        let text = render(dir.path(), None, &|_| true).unwrap();
        let part = |title: &str| {
            let from = text.find(title).unwrap();
            text[from..].split("\n\n").next().unwrap().to_owned()
        };
        assert!(part("Failing now").contains("003"), "{text}");
        assert!(!part("Failing now").contains("002"), "{text}");
        assert!(part("Flaky").contains("002"), "{text}");
        assert!(!part("Flaky").contains("003"), "{text}");
        assert!(
            part("Slowest").lines().nth(1).unwrap().contains("001"),
            "{text}"
        );
        assert!(part("Slower").contains("1.0 s, now 4.0 s"), "{text}");
        assert!(
            text.contains("1 job: 0 passed, 1 failed, 0 not run in 0.1 s"),
            "{text}"
        );
    }

    #[test]
    fn one_tests_history_shows_verdicts_times_and_reasons() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            &[
                ("001", Kind::Pass, 1.0),
                ("002", Kind::Pass, 9.0),
                ("001", Kind::Fail, 2.0),
            ],
        );
        let text = render(dir.path(), Some("001"), &|_| true).unwrap();
        assert!(text.contains("verdicts  .F "), "{text}");
        assert!(text.contains("output mismatch"), "{text}");
        assert!(!text.contains("9.0"), "{text}");
        let error = render(dir.path(), Some("777"), &|_| true).unwrap_err();
        assert!(error.to_string().contains("test 777"), "{error}");
        let raw = |combo: &Combo| combo.format == "raw";
        assert!(render(dir.path(), Some("001"), &raw).is_err());
    }

    #[test]
    fn no_history_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let text = render(&dir.path().join("none"), None, &|_| true).unwrap();
        assert!(text.starts_with("No runs are recorded"), "{text}");
    }
}
