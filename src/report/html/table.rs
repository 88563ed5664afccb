//! Tests by combination.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::{KINDS, Page, class, escape};
use crate::model::Kind;
use crate::words;

/// So many combinations have room for verdict and time side by side.
const FEW: usize = 4;

impl Page {
    /// The table of tests by combination; a test of which nothing has ended has no row.
    pub(super) fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(
            out,
            "<h2>Tests</h2>\n<div class=\"wide\"><table class=\"tests{}\"><thead><tr><th>Test</th>",
            if self.names.len() <= FEW { " few" } else { "" }
        )?;
        for (n, name) in self.names.iter().enumerate() {
            write!(out, "<th data-column=\"{n}\">{}</th>", escape(name))?;
        }
        writeln!(out, "<th>Description</th></tr></thead><tbody>")?;
        let mut cells: BTreeMap<usize, BTreeMap<usize, Vec<usize>>> = BTreeMap::new();
        for (n, entry) in self.entries.iter().enumerate() {
            let row = cells.entry(entry.test).or_default();
            row.entry(entry.combo).or_default().push(n);
        }
        for (row, columns) in cells {
            let summary = self.summaries.get(&row).map_or("", String::as_str);
            let (name, summary) = (escape(&self.tests[row]), escape(summary));
            let combos = columns.keys().filter_map(|c| self.names.get(*c));
            let combos: Vec<_> = combos.map(|name| escape(name)).collect();
            let text = format!("{name} {summary} {}", combos.join(" ")).to_lowercase();
            write!(out, "<tr data-text=\"{text}\"><th>{name}</th>")?;
            for column in 0..self.names.len() {
                let entries = columns.get(&column).map_or(&[][..], Vec::as_slice);
                out.write_all(self.cell(column, entries).as_bytes())?;
            }
            writeln!(out, "<td class=\"summary\">{summary}</td></tr>")?;
        }
        writeln!(out, "</tbody></table></div>")
    }

    /// The results of one test under one combination: of several repetitions the
    /// worst one and how many there are.
    fn cell(&self, column: usize, entries: &[usize]) -> String {
        // On a narrow screen each cell says which combination it is of.
        let title = match self.names.get(column) {
            Some(name) if self.names.len() > 1 => escape(name),
            _ => String::new(),
        };
        let badness = |n: &usize| KINDS.iter().position(|k| *k == self.entries[*n].kind);
        let Some(&worst) = entries.iter().min_by_key(|n| badness(n)) else {
            return format!(
                "<td class=\"cell none\" data-column=\"{column}\" data-kinds=\"\"></td>"
            );
        };
        let entry = &self.entries[worst];
        let mut kinds: Vec<String> = entries
            .iter()
            .map(|n| class(self.entries[*n].kind))
            .collect();
        kinds.dedup();
        let times = match entries.len() {
            1 => String::new(),
            n => format!(" <span class=\"dim\">of {n}</span>"),
        };
        let secs = match (entry.kind, entry.secs) {
            (Kind::NotRun, _) | (_, None) => String::new(),
            (_, Some(secs)) => format!(" <span class=\"dim\">{secs:.1} s</span>"),
        };
        format!(
            "<td class=\"cell {}\" data-column=\"{column}\" data-title=\"{title}\" \
             data-kinds=\"{}\" title=\"{}\"><a href=\"#r{worst}\">{}</a>{times}{secs}</td>",
            class(entry.kind),
            kinds.join(" "),
            escape(&entry.description),
            words::kind(entry.kind),
        )
    }
}
