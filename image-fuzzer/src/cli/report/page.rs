//! The report as a self-contained page.

use std::fmt::Write as _;
use std::path::Path;

use super::super::curves::curve;
use super::super::html::escape;
use super::card::{card, severity, words};
use super::{Report, Row};
use crate::campaign::{Moment, moments};
use crate::input::recipe::FUZZER;
use crate::oracle::Class;
use crate::output::counted;

/// The most findings that are shown opened.
const MAX_OPEN: usize = 30;

/// The page, which is to be in `folder`.
pub(super) fn page(report: &Report, folder: &Path) -> String {
    let title = counted(report.rows.len() as u64, "finding");
    let mut text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>image-fuzzer: {title}</title>\n<style>\n{}</style></head><body>\n\
         <h1>image-fuzzer: {title}</h1>\n",
        include_str!("style.css")
    );
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "<p>{}, by {FUZZER}{}.</p>\n<details><summary>Campaign</summary><div class=\"wide\"><table>",
        counted(report.rows.len() as u64, "group"),
        report.runs.first().map_or_else(String::new, |run| format!(
            "; started {}",
            escape(&run.time)
        ))
    );
    for (name, value) in report.header() {
        let value = escape(&value);
        let _ = writeln!(
            text,
            "<tr><th>{name}</th><td><code>{value}</code></td></tr>"
        );
    }
    text.push_str("</table></div></details>\n");
    text.push_str(&tiles(&report.rows));
    text.push_str(&curves(&moments(&report.dir)));
    text.push_str(&list(&report.rows));
    text.push_str("<h2>Details</h2>\n");
    let is_open = report.rows.len() <= MAX_OPEN;
    for (index, row) in report.rows.iter().enumerate() {
        text.push_str(&card(row, index, folder, is_open));
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
    let names = ["images", "opened", "messages", "blocks", "groups"];
    let values = |it: &Moment| [it.images, it.opened, it.messages, it.blocks, it.groups];
    // Not all campaigns note blocks.
    let noted = moments.iter().any(|it| it.blocks > 0);
    let figures = names
        .iter()
        .enumerate()
        .filter(|(_, name)| noted || **name != "blocks")
        .map(|(index, name)| {
            let points = moments.iter();
            curve(
                name,
                points.map(|it| (it.seconds, values(it)[index] as f64)),
            )
        });
    super::super::curves::curves(&figures.collect::<Vec<_>>())
}

/// A button for each class that there is, in the order of the findings.
fn tiles(rows: &[Row]) -> String {
    let mut classes: Vec<(Class, usize)> = Vec::new();
    for row in rows {
        let class = row.record.key.class;
        match classes.iter_mut().find(|(known, _)| *known == class) {
            Some((_, count)) => *count += 1,
            None => classes.push((class, 1)),
        }
    }
    let tiles = classes.iter().map(|(class, count)| {
        format!(
            "<button type=\"button\" class=\"tile\" data-kind=\"{class}\" aria-pressed=\"false\">\
             <b class=\"{}\">{count}</b>{class}</button>\n",
            severity(*class)
        )
    });
    format!("<div class=\"tiles\">{}</div>\n", tiles.collect::<String>())
}

/// The list of findings, with a field for words above it.
fn list(rows: &[Row]) -> String {
    let rows = rows.iter().enumerate().map(|(index, row)| {
        let class = row.record.key.class;
        let change = row.change.map_or("", |change| change.word());
        format!(
            "<tr data-kind=\"{class}\" data-text=\"{}\"><td class=\"word {}\">{class}</td>\
             <td class=\"word\">{} {change}</td><td><a href=\"#f{index}\">{}</a></td>\
             <td class=\"command-line\"><code>{}</code></td></tr>\n",
            words(row),
            severity(class),
            row.hits,
            escape(&row.title()),
            escape(&row.record.command)
        )
    });
    format!(
        "<h2>Findings</h2>\n<div class=\"filters\"><input type=\"search\" id=\"text\" \
         placeholder=\"Filter findings\" aria-label=\"Filter findings by their words\"> \
         <span class=\"dim\" id=\"shown\"></span></div>\n\
         <div class=\"wide\"><table class=\"list\"><thead><tr><th>Class</th><th>Hits</th>\
         <th>Finding</th><th class=\"command-line\">Command</th></tr></thead><tbody>\n\
         {}</tbody></table></div>\n",
        rows.collect::<String>()
    )
}

#[cfg(test)]
mod tests;
