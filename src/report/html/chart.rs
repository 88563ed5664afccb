//! Times as a chart: the slowest results, what of the time was spent on the
//! CPU, and how long they took the last time.

use std::fmt::Write as _;

use super::{Entry, Page, escape};
use crate::words;

/// How many results the chart has.
const BARS: usize = 40;

/// The chart as inline SVG; empty where nothing took any time.
pub(super) fn svg(page: &Page) -> String {
    let mut timed: Vec<(f64, &Entry)> = page
        .entries
        .iter()
        .filter_map(|e| Some((e.secs?, e)))
        .collect();
    timed.sort_by(|a, b| b.0.total_cmp(&a.0));
    timed.truncate(BARS);
    let Some(most) = timed.first().map(|(secs, _)| *secs).filter(|s| *s > 0.0) else {
        return String::new();
    };
    let (label, width, height) = (260.0, 620.0, 18.0);
    let scale = |secs: f64| (secs / most).min(1.0) * width;
    let total = timed.len() as f64 * height;
    let mut out = format!(
        "<svg viewBox=\"0 0 {:.0} {total:.0}\" width=\"100%\" role=\"img\" \
         aria-label=\"Times of the slowest tests\">",
        label + width + 60.0
    );
    for (n, (secs, entry)) in timed.iter().enumerate() {
        let y = n as f64 * height;
        let combo = words::combo(&page.combos[entry.combo]);
        let title = escape(&format!("{} {combo}", entry.name));
        let cpu = entry.cpu.min(*secs);
        let _ = write!(
            out,
            "<g><title>{title}: {secs:.2} s, {:.2} s of CPU time</title>\
             <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{title}</text>\
             <rect class=\"wall\" x=\"{label}\" y=\"{:.0}\" width=\"{:.1}\" height=\"14\"/>\
             <rect class=\"cpu\" x=\"{label}\" y=\"{:.0}\" width=\"{:.1}\" height=\"4\"/>",
            entry.cpu,
            label - 6.0,
            y + 13.0,
            y + 2.0,
            scale(*secs),
            y + 12.0,
            scale(cpu),
        );
        if let Some((_, before)) = page.before(entry).filter(|(_, secs)| *secs > 0.0) {
            let x = label + scale(before);
            let _ = write!(
                out,
                "<line class=\"before\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.0}\" y2=\"{:.0}\"/>",
                y + 1.0,
                y + 17.0
            );
        }
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.0}\">{secs:.1} s</text></g>",
            label + scale(*secs) + 5.0,
            y + 13.0
        );
    }
    out.push_str("</svg>");
    out
}
