//! The report as text.

use std::fmt::Write as _;

use super::{Report, Row};
use crate::output::counted;

/// The report: what was run, the groups, and where the time went.
pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for (name, value) in report.header() {
        let _ = writeln!(text, "{name:<13} {value}");
    }
    text.push('\n');
    let times = report.totals.table();
    // Folders of earlier versions do not tell whether anything was tested.
    let trouble = times.as_ref().and_then(|_| report.totals.trouble());
    match trouble {
        Some(trouble) if report.rows.is_empty() => {
            let _ = writeln!(text, "{trouble}");
        }
        _ => text.push_str(&table(&report.rows)),
    }
    if report.left_out > 0 {
        let groups = counted(report.left_out as u64, "group");
        let _ = writeln!(text, "{groups} left out by --class or --matching");
    }
    if let Some(novelty) = report.novelty.table() {
        let _ = write!(text, "\n{novelty}");
    }
    if let Some(times) = times {
        let _ = write!(text, "\n{times}");
    }
    text
}

/// The groups as a table.
fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no findings\n".into();
    }
    let mut text = format!("{:<16} {:>6} {:>5}  FINDING\n", "CLASS", "HITS", "EDITS");
    for row in rows {
        let change = row.change;
        let change = change.map_or_else(String::new, |it| format!("{}: ", it.word()));
        let _ = writeln!(
            text,
            "{:<16} {:>6} {:>5}  {change}{}",
            row.record.key.class,
            row.hits,
            row.record.edits,
            row.title()
        );
        let state = match row.state() {
            "" => String::new(),
            state => format!(" ({state})"),
        };
        let _ = writeln!(text, "{:31}{}{state}", "", row.record.command);
        if let Some(versions) = row.record.other_versions() {
            let _ = writeln!(text, "{:31}{versions}", "");
        }
        let _ = writeln!(text, "{:31}{}", "", row.folder.display());
    }
    text
}
