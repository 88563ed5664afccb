//! `report`: what was found in a work folder.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::OK;
use super::args::ReportArgs;
use crate::campaign::{Totals, sweep_progress};
use crate::finding::{Record, counts, records};
use crate::output::{self, counted};

/// One group of a report.
struct Row {
    folder: PathBuf,
    record: Record,
    hits: usize,
}

impl Row {
    /// How people are told of it.
    fn title(&self) -> String {
        self.record.key.signature.title(&self.record.summary)
    }
}

/// Prints a table or JSON, or writes a page.
pub(super) fn run(args: &ReportArgs) -> Result<u8> {
    let counts = counts(&args.dir);
    let mut rows: Vec<Row> = records(&args.dir)?
        .into_iter()
        .map(|(folder, record)| Row {
            hits: counts.get(&record.key).copied().unwrap_or(0),
            folder,
            record,
        })
        .collect();
    rows.sort_by(|a, b| {
        let order = a.record.key.class.cmp(&b.record.key.class);
        order.then(b.hits.cmp(&a.hits))
    });
    let sweep = sweep_progress(&args.dir);
    if let Some(path) = &args.html {
        output::write(path, &page(&rows))?;
        if !output::is_stdout(path) {
            let groups = counted(rows.len() as u64, "group");
            output::line(&format!("{groups} in {}", path.display()))?;
        }
    } else if args.json {
        let totals = Totals::last(&args.dir);
        let report = as_json(&rows, &totals, sweep);
        output::line(&serde_json::to_string_pretty(&report)?)?;
    } else {
        let totals = Totals::last(&args.dir);
        let times = totals.table();
        // Folders of earlier versions do not tell whether anything was tested.
        let trouble = times.as_ref().and_then(|_| totals.trouble());
        output::print(&match trouble {
            Some(trouble) if rows.is_empty() => format!("{trouble}\n"),
            _ => table(&rows),
        })?;
        if let Some((finished, total)) = sweep {
            output::line(&format!("sweep {finished} of {total}"))?;
        }
        if let Some(times) = times {
            output::print(&format!("\n{times}"))?;
        }
    }
    Ok(OK)
}

/// The groups as a table.
fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no findings\n".into();
    }
    let mut text = format!("{:<16} {:>6} {:>5}  FINDING\n", "CLASS", "HITS", "EDITS");
    for row in rows {
        let key = &row.record.key;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<16} {:>6} {:>5}  {}",
            key.class, row.hits, row.record.edits, key.signature
        );
        let unsure = match (row.record.confirmed, row.record.minimised) {
            (true, true) => "",
            (true, false) => " (minimisation pending)",
            (false, true) => " (not reproducible)",
            (false, false) => " (to be confirmed)",
        };
        let _ = writeln!(text, "{:31}{}{unsure}", "", row.record.command);
        let _ = writeln!(text, "{:31}{}", "", row.folder.display());
    }
    text
}

/// The groups as JSON.
fn as_json(rows: &[Row], totals: &Totals, sweep: Option<(u64, u64)>) -> serde_json::Value {
    let groups: Vec<serde_json::Value> = rows
        .iter()
        .map(|row| {
            json!({
                "class": row.record.key.class,
                "signature": row.record.key.signature.to_string(),
                "hits": row.hits,
                "summary": row.record.summary,
                "command": row.record.command,
                "edits": row.record.edits,
                "bytes": row.record.bytes,
                "confirmed": row.record.confirmed,
                // JSON has no other names than those of characters.
                "folder": row.folder.to_string_lossy(),
            })
        })
        .collect();
    json!({
        "fuzzer": crate::input::recipe::FUZZER,
        "groups": groups,
        "sweep": sweep,
        "total": totals,
    })
}

/// The groups as a self-contained page.
fn page(rows: &[Row]) -> String {
    let mut text = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <title>image-fuzzer: findings</title>\n<style>\n\
         body { font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em }\n\
         table { border-collapse: collapse; width: 100% }\n\
         th, td { text-align: left; vertical-align: top; padding: .3em .8em .3em 0; border-bottom: 1px solid #ccc }\n\
         pre { background: #f4f4f4; color: #111; padding: .6em; overflow-x: auto; white-space: pre-wrap }\n\
         </style></head><body>\n<h1>Findings</h1>\n",
    );
    let _ = writeln!(
        text,
        "<p>{}, by {}.</p>",
        counted(rows.len() as u64, "group"),
        crate::input::recipe::FUZZER
    );
    text.push_str("<table><tr><th>Class</th><th>Hits</th><th>Edits</th><th>Finding</th></tr>\n");
    for (number, row) in rows.iter().enumerate() {
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td><a href=\"#g{number}\">{}</a></td></tr>",
            row.record.key.class,
            row.hits,
            row.record.edits,
            escape(&row.title())
        );
    }
    text.push_str("</table>\n");
    for (number, row) in rows.iter().enumerate() {
        let readme = std::fs::read_to_string(row.folder.join("README.md")).unwrap_or_default();
        let _ = writeln!(
            text,
            "<h2 id=\"g{number}\">{}</h2>\n<p>{}</p>\n<pre>{}</pre>",
            escape(&format!("{}: {}", row.record.key.class, row.title())),
            escape(&row.folder.display().to_string()),
            escape(&readme)
        );
    }
    text.push_str("</body></html>\n");
    text
}

/// Text as HTML shows it.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
