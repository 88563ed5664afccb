//! How a reader does, as a page.

use image_formats::Format;

use super::table::{details, word};
use crate::cli::html::escape;
use crate::conform::{Row, Subject, Summary};

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:1.5em auto;max-width:60em;\
padding:0 1em}table{border-collapse:collapse;width:100%}td,th{text-align:left;\
padding:.3em .6em;border-bottom:1px solid #8884;vertical-align:top;overflow-wrap:anywhere}\
.good{color:#187a2f}.part{color:#8a6100}.bad{color:#b3261e;font-weight:bold}\
@media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}\
.good{color:#6fce86}.part{color:#e0b350}.bad{color:#ff8a80}}";

/// One page, without anything from elsewhere.
pub(super) fn page(format: Format, reader: &[String], rows: &[Row]) -> String {
    let title = format!("{} on {format}", reader.join(" "));
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{0}</title><style>{STYLE}</style>\n<h1>{0}</h1>\n",
        escape(&title)
    );
    for (valid, heading) in [(true, "Features"), (false, "Broken rules")] {
        let of_kind = |row: &&Row| matches!(row.subject, Subject::Feature { .. }) == valid;
        let rows: Vec<&Row> = rows.iter().filter(of_kind).collect();
        if rows.is_empty() {
            continue;
        }
        text.push_str(&format!("<h2>{heading}</h2>\n<table>\n"));
        for row in rows {
            let what = match &row.subject {
                Subject::Feature { what, .. } => what.as_str(),
                Subject::Rule { .. } => "",
            };
            let summary = row.summary();
            text.push_str(&format!(
                "<tr><th>{}<td>{}<td class=\"{}\">{}<td>{}</tr>\n",
                escape(row.subject.name()),
                escape(what),
                class(summary),
                word(summary),
                escape(&details(row))
            ));
        }
        text.push_str("</table>\n");
    }
    text.push_str("</html>\n");
    text
}

fn class(summary: Summary) -> &'static str {
    match summary {
        Summary::Right | Summary::Refused => "good",
        Summary::Mixed | Summary::Unsupported | Summary::Accepted => "part",
        Summary::WrongData | Summary::Fails => "bad",
    }
}
