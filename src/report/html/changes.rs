//! What changed since the last run of the same selection.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::super::changes::Change;
use super::{Page, class, escape};
use crate::words;

/// Longer lists are folded.
const UNFOLDED: usize = 30;

impl Page {
    /// The comparison as HTML; empty where there is no run to compare with.
    pub(super) fn changes(&self) -> String {
        let Some(at) = self.comparison.at() else {
            return String::new();
        };
        let changes = self.comparison.changes();
        let same = changes.added.is_empty() && changes.gone.is_empty();
        let mut out = format!(
            "<h2>Changes since the previous run</h2>\n<p class=\"dim\">Compared with the run of {}: \
             the last of {}.</p>\n",
            escape(&words::full_date(at)),
            match same {
                true => "the same tests and combinations",
                false => "the same combinations and nearly the same tests",
            }
        );
        if changes.is_empty() {
            let so_far = if self.ended.is_some() { "" } else { " so far" };
            let _ = writeln!(out, "<p>No changes{so_far}.</p>");
        }
        let worst = self.worst();
        for (title, all) in &changes.results {
            let rows = all.iter().map(|change| self.change(change, &worst));
            let rows: String = rows.collect();
            list(&mut out, title, all.len(), &format!("<ul>{rows}</ul>"));
        }
        for (title, tests) in [
            ("Tests added", &changes.added),
            ("Tests gone", &changes.gone),
        ] {
            if !tests.is_empty() {
                let names = escape(&tests.join(" "));
                list(&mut out, title, tests.len(), &format!("<p>{names}</p>"));
            }
        }
        out
    }

    /// The worst result of each test under each combination.
    fn worst(&self) -> HashMap<(usize, usize), usize> {
        let mut worst = HashMap::new();
        for (n, entry) in self.entries.iter().enumerate() {
            let known = worst.entry((entry.test, entry.combo)).or_insert(n);
            if self.entries[*known].kind < entry.kind {
                *known = n;
            }
        }
        worst
    }

    fn change(&self, change: &Change, worst: &HashMap<(usize, usize), usize>) -> String {
        let combo = self.position(&change.combo);
        let name = escape(&self.name(&change.test, combo));
        let test = self.rows.get(&change.test);
        let entry = test.and_then(|test| worst.get(&(*test, combo)));
        let name = match entry {
            Some(n) => format!("<a href=\"#r{n}\">{name}</a>"),
            None => name,
        };
        format!(
            "<li><b>{name}</b> <span class=\"{}\">{}</span></li>",
            class(change.now.0),
            escape(&change.text())
        )
    }
}

/// A list below its title.
fn list(out: &mut String, title: &str, many: usize, rows: &str) {
    let _ = if many > UNFOLDED {
        writeln!(
            out,
            "<details><summary><b>{title} ({many})</b></summary>{rows}</details>"
        )
    } else {
        writeln!(out, "<h3>{title} ({many})</h3>{rows}")
    };
}
