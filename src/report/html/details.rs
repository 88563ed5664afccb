//! What the page shows of one result when it is opened.

use std::fmt::Write as _;

use super::super::rendered::Rendered;
use super::escape;
use crate::diff::{Bounds, Diff, Side, pieces};
use crate::model::Kind;
use crate::words;

/// Lines of a difference that are shown.
pub(in super::super) const DIFF_LINES: usize = 1000;

/// The details of a result as HTML; empty where its line says all.
pub(super) fn html(rendered: &Rendered<'_>) -> String {
    let finished = rendered.finished;
    let mut out = String::new();
    if let Some(diff) = &rendered.diff {
        out.push_str("<p>Difference between reference (red) and output (green):</p>");
        difference(&mut out, diff);
    }
    for log in &rendered.logs {
        // The output of a failure can be long and says little beside its
        // difference, so it is folded in.
        let _ = write!(
            out,
            "<details><summary>{} <span class=\"dim\">{}</span></summary><pre>{}</pre>",
            escape(&log.title),
            escape(&words::path(&log.path)),
            escape(&log.text)
        );
        if log.left_out > 0 {
            let _ = write!(out, "<p>{} more bytes in the file.</p>", log.left_out);
        }
        out.push_str("</details>");
    }
    let lines = finished.cases_not_run.iter().chain(&finished.notes);
    for line in lines {
        let _ = write!(out, "<p>{}</p>", escape(&words::one_line(line)));
    }
    let bad = !matches!(Kind::from(&finished.verdict), Kind::Pass | Kind::NotRun);
    if let Some(outcome) = finished.outcome.as_ref().filter(|_| bad) {
        for core in &outcome.cores {
            let _ = write!(out, "<p>Core file: {}</p>", escape(&words::path(core)));
        }
        let path = escape(&words::path(&outcome.output));
        let _ = write!(
            out,
            "<p>Full output: <code class=\"copy\">{path}</code></p>"
        );
    }
    if bad && !finished.rerun.is_empty() {
        let _ = write!(
            out,
            "<p>Run again: <code class=\"copy\">{}</code></p>",
            escape(&finished.rerun)
        );
    }
    out
}

/// A difference, its changed words marked.
fn difference(out: &mut String, diff: &Diff) {
    let bounds = Bounds {
        lines: DIFF_LINES,
        ..Bounds::default()
    };
    let (mut shown, mut left) = (0, diff.not_compared);
    out.push_str("<pre class=\"diff\">");
    for hunk in &diff.hunks {
        if shown < bounds.lines {
            let (old, new) = (hunk.old.0 + 1, hunk.new.0 + 1);
            let _ = write!(out, "<span class=\"p\">line {old} / {new}</span>");
        }
        for line in &hunk.lines {
            if shown >= bounds.lines {
                left += 1;
                continue;
            }
            shown += 1;
            let (class, mark) = match line.side {
                Side::Same => ("s", ' '),
                Side::Removed => ("r", '-'),
                Side::Added => ("a", '+'),
            };
            let _ = write!(out, "<span class=\"{class}\">{mark}");
            for (piece, changed) in pieces(line, bounds.line_bytes) {
                let piece = escape(&piece);
                if changed {
                    let _ = write!(out, "<mark>{piece}</mark>");
                } else {
                    out.push_str(&piece);
                }
            }
            out.push_str("</span>");
        }
    }
    out.push_str("</pre>");
    if left > 0 {
        let _ = write!(out, "<p>{left} more lines are not shown.</p>");
    }
}
