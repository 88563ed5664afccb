//! The page as it is written.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use super::super::live_file::Document;
use super::{Entry, Page, chart, class, escape};
use crate::model::Kind;
use crate::words;

/// Verdicts in the order in which the page shows them.
const KINDS: [Kind; 6] = [
    Kind::Fail,
    Kind::Flaky,
    Kind::KnownFail,
    Kind::Interrupted,
    Kind::NotRun,
    Kind::Pass,
];

impl Document for Page {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>{}</title>\n<style>\n{}</style></head><body>\n",
            escape(&self.title()),
            include_str!("style.css")
        )?;
        out.write_all(self.top().as_bytes())?;
        out.write_all(self.comparison().as_bytes())?;
        self.table(out)?;
        self.results(out)?;
        let chart = chart::svg(self);
        if !chart.is_empty() {
            writeln!(
                out,
                "<h2>Times</h2><p class=\"dim\">The slowest tests; the dark part is CPU time, \
                 the vertical line the time of the previous run.</p>{chart}"
            )?;
        }
        write!(
            out,
            "<script>\n{}</script>\n</body></html>\n",
            include_str!("filter.js")
        )
    }
}

impl Page {
    fn count(&self, kind: Kind) -> usize {
        self.entries.iter().filter(|e| e.kind == kind).count()
    }

    fn title(&self) -> String {
        match self.count(Kind::Fail) {
            0 => format!("iotests: {} passed", self.count(Kind::Pass)),
            n => format!("iotests: {n} failed"),
        }
    }

    /// Title, state of the run, header and counts.
    fn top(&self) -> String {
        let mut out = format!("<h1>{}</h1>\n", escape(&self.title()));
        if let Some(at) = self.at {
            let _ = write!(out, "<p class=\"dim\">{}", escape(&words::full_date(at)));
            if let Some((wall, _)) = self.ended {
                let _ = write!(out, ", {} in all", words::clock_span(wall));
            }
            out.push_str("</p>\n");
        }
        let done = self.entries.len();
        match self.ended {
            None => {
                let _ = writeln!(
                    out,
                    "<p class=\"cut\">{done} of {} done. The run is not finished, or was aborted.</p>",
                    self.jobs
                );
            }
            Some((_, true)) => {
                let _ = writeln!(
                    out,
                    "<p class=\"cut\">Interrupted after {done} of {}.</p>",
                    self.jobs
                );
            }
            Some((_, false)) => {}
        }
        if !self.not_reached.is_empty() {
            let _ = writeln!(
                out,
                "<p class=\"cut\">Not started: {}</p>",
                escape(&self.not_reached.join(", "))
            );
        }
        out.push_str("<details><summary>Environment</summary><table>");
        for (name, value) in &self.header {
            let (name, value) = (escape(name), escape(value));
            let _ = write!(out, "<tr><th>{name}</th><td><code>{value}</code></td></tr>");
        }
        out.push_str("</table></details>\n<div class=\"tiles\">");
        for kind in KINDS {
            let (class, word, count) = (class(kind), words::kind(kind), self.count(kind));
            if count > 0 || matches!(kind, Kind::Pass | Kind::Fail) {
                let _ = write!(
                    out,
                    "<button class=\"tile\" data-verdict=\"{class}\" aria-pressed=\"false\">\
                     <b class=\"{class}\">{count}</b>{word}</button>"
                );
            }
        }
        out.push_str("</div>\n");
        out
    }

    /// What changed since the previous run.
    fn comparison(&self) -> String {
        let Some(at) = self.previous.at else {
            return String::new();
        };
        let mut out = format!(
            "<h2>Changes since the previous run</h2><p class=\"dim\">The run of {}.</p>\n",
            escape(&words::full_date(at))
        );
        out.push_str(&self.changed_verdicts());
        let times: Vec<String> = self
            .entries
            .iter()
            .filter_map(|e| self.new_time(e))
            .collect();
        if !times.is_empty() {
            let list = escape(&times.join("; "));
            let _ = writeln!(out, "<p>Changed times: {list}.</p>");
        }
        let new = self.entries.iter().filter(|e| self.before(e).is_none());
        let new = new.count();
        if new > 0 {
            let _ = writeln!(out, "<p>Without an earlier result: {new}.</p>");
        }
        out
    }

    /// Name and combination of a result.
    fn name(&self, entry: &Entry) -> String {
        format!("{} {}", entry.name, words::combo(&self.combos[entry.combo]))
    }

    /// A table of the verdicts that changed since the previous run.
    fn changed_verdicts(&self) -> String {
        let mut rows = String::new();
        for entry in &self.entries {
            let Some((before, _)) = self.before(entry).filter(|(k, _)| *k != entry.kind) else {
                continue;
            };
            let _ = write!(
                rows,
                "<tr><td>{}</td><td class=\"{}\">{}</td><td class=\"{}\">{}</td></tr>",
                escape(&self.name(entry)),
                class(before),
                words::kind(before),
                class(entry.kind),
                words::kind(entry.kind)
            );
        }
        if rows.is_empty() {
            return "<p>No changed verdicts.</p>\n".to_owned();
        }
        format!(
            "<table><thead><tr><th>Test</th><th>Before</th><th>Now</th></tr></thead>{rows}</table>\n"
        )
    }

    /// A line if a pass took much longer, or much less long, than before.
    fn new_time(&self, entry: &Entry) -> Option<String> {
        let (Kind::Pass, before) = self.before(entry)? else {
            return None;
        };
        let now = entry.secs.filter(|_| entry.kind == Kind::Pass)?;
        let much = (now - before).abs() > 0.5 && (now > before * 1.5 || before > now * 1.5);
        let name = self.name(entry);
        much.then(|| format!("{name}: {before:.1} s, now {now:.1} s"))
    }

    /// Tests by combination, with the filters above.
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(
            out,
            "<h2>Tests</h2>\n<div class=\"filters\">\
             <input type=\"search\" id=\"text\" placeholder=\"Filter tests\" \
             aria-label=\"Filter tests by name or description\">\
             <select id=\"combo\" aria-label=\"Combination\">\
             <option value=\"\">all combinations</option>"
        )?;
        for (n, combo) in self.combos.iter().enumerate() {
            let name = escape(&words::combo(combo));
            write!(out, "<option value=\"{n}\">{name}</option>")?;
        }
        write!(
            out,
            "</select> <span class=\"dim\" id=\"shown\"></span></div>\n\
             <div class=\"wide\"><table><thead><tr><th>Test</th>"
        )?;
        for (n, combo) in self.combos.iter().enumerate() {
            let name = escape(&words::combo(combo));
            write!(out, "<th data-column=\"{n}\">{name}</th>")?;
        }
        writeln!(out, "<th>Description</th></tr></thead><tbody>")?;
        let mut cells: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (n, entry) in self.entries.iter().enumerate() {
            cells.entry((entry.test, entry.combo)).or_default().push(n);
        }
        for (row, test) in self.tests.iter().enumerate() {
            let summary = self.summaries.get(&row).map_or("", String::as_str);
            let (name, summary) = (escape(test), escape(summary));
            let text = format!("{name} {summary}").to_lowercase();
            write!(out, "<tr data-text=\"{text}\"><th>{name}</th>")?;
            for column in 0..self.combos.len() {
                let entries = cells.get(&(row, column)).map_or(&[][..], Vec::as_slice);
                out.write_all(self.cell(column, entries).as_bytes())?;
            }
            writeln!(out, "<td class=\"dim\">{summary}</td></tr>")?;
        }
        writeln!(out, "</tbody></table></div>")
    }

    /// The results of one test under one combination: of several repetitions the
    /// worst one and how many there are.
    fn cell(&self, column: usize, entries: &[usize]) -> String {
        let badness = |n: &usize| KINDS.iter().position(|k| *k == self.entries[*n].kind);
        let Some(&worst) = entries.iter().min_by_key(|n| badness(n)) else {
            return format!(
                "<td class=\"cell dim\" data-column=\"{column}\" data-combo=\"{column}\" data-kinds=\"\"></td>"
            );
        };
        let entry = &self.entries[worst];
        let mut kinds: Vec<String> = entries
            .iter()
            .map(|n| class(self.entries[*n].kind))
            .collect();
        kinds.dedup();
        let word = words::kind(entry.kind);
        let word = if self.has_details(entry) {
            format!("<a href=\"#r{worst}\">{word}</a>")
        } else {
            word.to_owned()
        };
        let times = match entries.len() {
            1 => String::new(),
            n => format!(" <span class=\"dim\">of {n}</span>"),
        };
        let secs = match (entry.kind, entry.secs) {
            (Kind::NotRun, _) | (_, None) => String::new(),
            (_, Some(secs)) => format!(" <span class=\"dim\">{secs:.1} s</span>"),
        };
        format!(
            "<td class=\"cell {}\" data-column=\"{column}\" data-combo=\"{column}\" \
             data-kinds=\"{}\" title=\"{}\">{word}{times}{secs}</td>",
            class(entry.kind),
            kinds.join(" "),
            escape(&entry.description),
        )
    }

    fn has_details(&self, entry: &Entry) -> bool {
        !entry.details.is_empty() || !entry.description.is_empty()
    }

    /// The results with details.
    fn results(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "<h2>Details</h2>")?;
        for kind in KINDS {
            for (n, entry) in self.entries.iter().enumerate() {
                if entry.kind != kind || !self.has_details(entry) {
                    continue;
                }
                let title = escape(&self.name(entry));
                let description = escape(&entry.description);
                writeln!(
                    out,
                    "<details id=\"r{n}\" data-kind=\"{0}\" data-combo=\"{1}\" data-text=\"{2}\">\
                     <summary><b>{title}</b> <span class=\"{0}\">{3}</span> {description}</summary>\
                     {4}</details>",
                    class(kind),
                    entry.combo,
                    format!("{title} {description}").to_lowercase(),
                    words::kind(kind),
                    entry.details
                )?;
            }
        }
        Ok(())
    }
}
