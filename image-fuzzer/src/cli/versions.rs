//! `reproduce --with`: which builds show which findings.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::args::ReproduceArgs;
use super::interrupt::unless_stopped;
use super::replay::{Start, findings};
use super::{CANNOT_RUN, NOT_SHOWN, OK, SHOWN};
use crate::finding::{Record, VersionRecord, VersionResult, keep, run_build};
use crate::output;

/// A finding and what the builds make of it, in their order.
struct Row {
    folder: PathBuf,
    name: String,
    results: Vec<VersionRecord>,
}

/// Runs the findings with each build, prints a table or JSON and keeps the results, or gives
/// an exit status for `git bisect run`.
///
/// # Errors
///
/// There is no recipe, the machine cannot run anything, or a result cannot be kept.
pub(super) fn run(args: &ReproduceArgs) -> Result<u8> {
    let start = Start::new(&args.run, None)?;
    ensure!(
        !args.exit_status || args.with.len() == 1,
        "--exit-status is about one build; give --with one folder"
    );
    let mut rows = Vec::new();
    for (folder, record) in findings(&args.dirs)? {
        let name = record.map_or_else(
            || folder.display().to_string(),
            |record| {
                let Record { key, summary, .. } = record;
                format!("{}: {}", key.class, key.signature.title(&summary))
            },
        );
        let mut results = Vec::new();
        for build in &args.with {
            let result = run_build(&folder, build, &start.settings, &start.stop)?;
            if start.stop.load(Ordering::SeqCst) {
                break;
            }
            results.push(result);
        }
        rows.push(Row {
            folder,
            name,
            results,
        });
        if start.stop.load(Ordering::SeqCst) {
            break;
        }
    }
    unless_stopped(&start.stop, || {
        if args.exit_status {
            return bisect_status(&rows);
        }
        for row in &rows {
            keep(&row.folder, row.results.clone())?;
        }
        if args.json {
            output::line(&serde_json::to_string_pretty(&as_json(&rows))?)?;
        } else {
            output::print(&table(&rows, &args.with))?;
        }
        Ok(OK)
    })
}

/// What `git bisect run` is told: whether a build shows any of the findings.
fn bisect_status(rows: &[Row]) -> Result<u8> {
    let results: Vec<_> = rows.iter().flat_map(|row| &row.results).collect();
    let has = |wanted| results.iter().any(|it| it.result == wanted);
    for result in &results {
        output::line(&sentence(result))?;
    }
    Ok(if has(VersionResult::Shown) {
        SHOWN
    } else if has(VersionResult::CannotRun) {
        CANNOT_RUN
    } else {
        NOT_SHOWN
    })
}

/// A result in a line: `not shown: qemu-img version 7.2`.
pub(super) fn sentence(result: &VersionRecord) -> String {
    let VersionRecord { result: word, .. } = result;
    let detail = result.detail.as_ref();
    let detail = detail.map_or_else(String::new, |detail| format!(" ({detail})"));
    format!("{word}: {}{detail}", place(result))
}

/// Where a build is, with its version.
pub(super) fn place(result: &VersionRecord) -> String {
    let folder = result.folder.as_ref().map(|it| it.display().to_string());
    let folder = folder.unwrap_or_default();
    match &result.version {
        Some(_) => format!("{folder} ({})", result.name()),
        None => folder,
    }
}

/// A line for each build, then one for each finding with a column for each build, then what
/// there is to say of single results.
fn table(rows: &[Row], builds: &[PathBuf]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for (index, build) in builds.iter().enumerate() {
        let mut results = rows.iter().filter_map(|row| row.results.get(index));
        let version = results.find(|result| result.version.is_some());
        let version = version.map_or_else(|| "unknown version".into(), VersionRecord::name);
        let _ = writeln!(text, "{}  {version}, {}", index + 1, build.display());
    }
    let columns = builds.iter().enumerate().map(|(index, _)| {
        let words = rows.iter().filter_map(|row| row.results.get(index));
        let width = words.map(|it| it.result.to_string().len()).max();
        width.unwrap_or(0).max(1)
    });
    let widths: Vec<usize> = columns.collect();
    text.push('\n');
    for (index, width) in widths.iter().enumerate() {
        let _ = write!(text, "{:<width$}  ", index + 1);
    }
    text.push_str("finding\n");
    for row in rows {
        for (result, width) in row.results.iter().zip(&widths) {
            let _ = write!(text, "{:<width$}  ", result.result.to_string());
        }
        let _ = writeln!(text, "{}", row.name);
    }
    let mut is_first = true;
    for row in rows {
        for (index, result) in row.results.iter().enumerate() {
            let Some(detail) = &result.detail else {
                continue;
            };
            if std::mem::take(&mut is_first) {
                text.push('\n');
            }
            let (number, word) = (index + 1, result.result);
            let _ = writeln!(text, "{number}, {}: {word}: {detail}", row.name);
        }
    }
    text
}

/// The results as JSON.
fn as_json(rows: &[Row]) -> Value {
    let findings = rows.iter().map(|row| {
        json!({
            "finding": row.name,
            // JSON has no other names than those of characters.
            "folder": row.folder.to_string_lossy(),
            "versions": row.results,
        })
    });
    json!({ "findings": findings.collect::<Vec<_>>() })
}
