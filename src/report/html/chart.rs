//! Times as a chart: the slowest results, what of the time was spent on the
//! CPU, and how long they took in the run compared with.

use std::fmt::Write as _;

use super::{Entry, Page, escape};
use crate::model::Kind;

/// How many results the chart has.
const BARS: usize = 40;

/// The chart; empty where nothing took any time.
pub(super) fn html(page: &Page) -> String {
    let mut timed: Vec<(f64, &Entry)> = page
        .entries
        .iter()
        .filter(|e| e.kind != Kind::NotRun)
        .filter_map(|e| Some((e.secs?, e)))
        .collect();
    timed.sort_by(|a, b| b.0.total_cmp(&a.0));
    timed.truncate(BARS);
    let Some(most) = timed.first().map(|(secs, _)| *secs).filter(|s| *s > 0.0) else {
        return String::new();
    };
    let share = |secs: f64| (secs / most).min(1.0) * 100.0;
    let mut out = "<div class=\"chart\">".to_owned();
    for (secs, entry) in &timed {
        let name = escape(&page.name_of(entry));
        let cpu = entry.cpu.min(*secs);
        let before = page.before(entry).map(|(_, secs)| secs);
        let before = before.filter(|secs| *secs > 0.0);
        let mut title = format!("{secs:.2} s, {:.2} s of CPU time", entry.cpu);
        if let Some(before) = before {
            let _ = write!(title, ", {before:.2} s before");
        }
        let _ = write!(
            out,
            "<div class=\"bar\" title=\"{title}\"><span>{name}</span><span class=\"track\">\
             <i class=\"wall\" style=\"width:{:.1}%\"></i><i class=\"cpu\" style=\"width:{:.1}%\"></i>",
            share(*secs),
            share(cpu),
        );
        if let Some(before) = before {
            let at = share(before);
            let _ = write!(out, "<i class=\"before\" style=\"left:{at:.1}%\"></i>");
        }
        let _ = writeln!(out, "</span><span>{secs:.1} s</span></div>");
    }
    out.push_str("</div>\n");
    out
}
