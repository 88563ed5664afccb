//! The report as a self-contained page.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::{Report, Row};
use crate::campaign::{Moment, moments};
use crate::input::recipe::FUZZER;
use crate::oracle::Class;
use crate::output::counted;

/// The size of a curve, in pixels.
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 90.0;

/// The page.
pub(super) fn page(report: &Report) -> String {
    let mut text = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>image-fuzzer: findings</title>\n<style>\n",
    );
    text.push_str(include_str!("style.css"));
    text.push_str("</style></head><body>\n<h1>Findings</h1>\n");
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "<p>{}, by {FUZZER}.</p>\n<table>",
        counted(report.rows.len() as u64, "group")
    );
    for (name, value) in report.header() {
        let _ = writeln!(text, "<tr><th>{name}</th><td>{}</td></tr>", escape(&value));
    }
    text.push_str("</table>\n");
    text.push_str(&curves(&moments(&report.dir)));
    text.push_str(&filters(&report.rows));
    for row in &report.rows {
        text.push_str(&card(row));
    }
    text.push_str("<script>\n");
    text.push_str(include_str!("filter.js"));
    text.push_str("</script></body></html>\n");
    text
}

/// What was counted, over the time of the campaign.
fn curves(moments: &[Moment]) -> String {
    if moments.len() < 2 {
        return String::new();
    }
    let names = ["images", "opened", "messages", "groups"];
    let values = |it: &Moment| [it.images, it.opened, it.messages, it.groups];
    let figures = names.iter().enumerate().map(|(index, name)| {
        let points: Vec<(f64, f64)> = moments
            .iter()
            .map(|moment| (moment.seconds, values(moment)[index] as f64))
            .collect();
        let most = points.iter().fold((1.0, 1.0), |most: (f64, f64), point| {
            (most.0.max(point.0), most.1.max(point.1))
        });
        let path = points.iter().map(|(x, y)| {
            let (x, y) = (x / most.0 * WIDTH, HEIGHT - y / most.1 * (HEIGHT - 6.0));
            format!("{x:.1} {y:.1}")
        });
        format!(
            "<figure><figcaption>{name}: {:.0} <span class=\"dim\">in {:.0} s</span></figcaption>\
             <svg width=\"{WIDTH}\" height=\"{HEIGHT}\"><path d=\"M0 {HEIGHT} L{}\"/></svg></figure>\n",
            most.1,
            most.0,
            path.collect::<Vec<_>>().join(" L")
        )
    });
    format!("<div>{}</div>\n", figures.collect::<String>())
}

/// A button for each class that there is, and a field for words.
fn filters(rows: &[Row]) -> String {
    let mut classes: BTreeMap<Class, usize> = BTreeMap::new();
    for row in rows {
        *classes.entry(row.record.key.class).or_default() += 1;
    }
    let buttons = classes.iter().map(|(class, count)| {
        format!(
            "<button type=\"button\" value=\"{class}\" aria-pressed=\"false\">{class} {count}</button>\n"
        )
    });
    format!(
        "<div class=\"filters\">{}<input type=\"search\" placeholder=\"words\" aria-label=\"words\"></div>\n",
        buttons.collect::<String>()
    )
}

/// A group: what happened, the command, and what its README tells.
fn card(row: &Row) -> String {
    let record = &row.record;
    let notes = [row.change.map_or("", |change| change.word()), row.state()];
    let notes = notes.iter().filter(|note| !note.is_empty());
    let notes = notes.map(|note| format!(", {note}")).collect::<String>();
    let readme = read(&row.folder.join("README.md"));
    let script = read(&row.folder.join("reproduce.sh"));
    format!(
        "<article data-class=\"{class}\"><h2><span class=\"class\">{class}</span>{title}</h2>\n\
         <p><code>{command}</code></p>\n\
         <p class=\"dim\">{hits}, {edits}, {bytes} bytes changed{notes}; {folder}</p>\n\
         <details><summary>explanation</summary><pre>{readme}</pre></details>\n\
         <details><summary>reproduce.sh</summary><pre>{script}</pre></details></article>\n",
        class = record.key.class,
        title = escape(&row.title()),
        command = escape(&record.command),
        hits = counted(row.hits as u64, "hit"),
        edits = counted(record.edits as u64, "edit"),
        bytes = record.bytes,
        folder = escape(&row.folder.display().to_string()),
        readme = escape(&readme),
        script = escape(&script),
    )
}

/// The text of a file of a finding; a folder that somebody cleaned may lack it.
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Text as HTML shows it.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
