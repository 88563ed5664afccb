//! The page as it is written.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::super::live_file::Document;
use super::{Entry, KINDS, Page, chart, class, escape};
use crate::model::Kind;
use crate::words;

impl Document for Page {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{}</title>\n<style>\n{}</style></head><body>\n",
            escape(&self.title()),
            include_str!("style.css")
        )?;
        out.write_all(self.top().as_bytes())?;
        out.write_all(self.changes().as_bytes())?;
        if !self.entries.is_empty() {
            out.write_all(self.filters().as_bytes())?;
            self.results(out)?;
            self.table(out)?;
        }
        let chart = chart::html(self);
        if !chart.is_empty() {
            writeln!(
                out,
                "<h2>Times</h2><p class=\"dim\">The slowest tests; the thin part is CPU time{}.</p>\n{chart}",
                match self.comparison.at() {
                    Some(_) => ", the vertical line the time of the run compared with",
                    None => "",
                }
            )?;
        }
        out.write_all(self.environment().as_bytes())?;
        write!(
            out,
            "<script>\n{}</script>\n</body></html>\n",
            include_str!("page.js")
        )
    }
}

impl Page {
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.entries.iter().filter(|e| e.kind == kind).count()
    }

    fn title(&self) -> String {
        match self.count(Kind::Fail) {
            0 => format!("iotests: {} passed", self.count(Kind::Pass)),
            n => format!("iotests: {n} failed"),
        }
    }

    /// The value of a line of the header, where it has one.
    fn header_line(&self, name: &str) -> Option<&str> {
        let line = self.header.iter().find(|(known, _)| known == name);
        line.map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Title, what was run and when, the state of the run, and counts.
    fn top(&self) -> String {
        let mut out = format!("<h1>{}</h1>\n", escape(&self.title()));
        let mut about = Vec::new();
        if let Some(at) = self.at {
            let mut text = words::full_date(at);
            if let Some((wall, _)) = self.ended {
                let _ = write!(text, ", {} in all", words::clock_span(wall));
            }
            about.push(text);
        }
        about.extend(
            self.header_line("QEMU_VERSION")
                .map(|v| format!("QEMU {v}")),
        );
        if !self.names.is_empty() {
            about.push(self.names.join(", "));
        }
        about.extend(
            self.options
                .iter()
                .map(|o| format!("images created with {o}")),
        );
        for line in about {
            let _ = writeln!(out, "<p class=\"dim\">{}</p>", escape(&line));
        }
        let done = self.entries.len();
        let state = match self.ended {
            None => format!(
                "{done} of {} done. The run is not finished, or was aborted.",
                self.jobs
            ),
            Some((_, true)) => format!("Interrupted after {done} of {}.", self.jobs),
            Some((_, false)) => String::new(),
        };
        if !state.is_empty() {
            let _ = writeln!(out, "<p class=\"cut\">{state}</p>");
        }
        if !self.not_reached.is_empty() {
            let _ = writeln!(
                out,
                "<p class=\"cut\">Not started: {}</p>",
                escape(&self.not_reached.join(", "))
            );
        }
        out.push_str("<div class=\"tiles\">");
        for kind in KINDS {
            let (class, word, count) = (class(kind), words::kind(kind), self.count(kind));
            if count > 0 || matches!(kind, Kind::Pass | Kind::Fail) {
                // Without scripts they lead to the groups, with them they filter too.
                let to = match count {
                    0 => String::new(),
                    _ => format!(" href=\"#{class}\""),
                };
                let _ = write!(
                    out,
                    "<a class=\"tile\" data-verdict=\"{class}\"{to}>\
                     <b class=\"{class}\">{count}</b>{word}</a>"
                );
            }
        }
        out.push_str("</div>\n");
        out
    }

    fn environment(&self) -> String {
        if self.header.is_empty() {
            return String::new();
        }
        let mut out = "<h2>Environment</h2>\n<dl class=\"environment\">".to_owned();
        for (name, value) in self.header.iter().filter(|(_, value)| !value.is_empty()) {
            let (name, value) = (escape(name), escape(value));
            let _ = write!(out, "<dt>{name}</dt><dd><code>{value}</code></dd>");
        }
        out.push_str("</dl>\n");
        out
    }

    /// The fields that say which results are shown.
    fn filters(&self) -> String {
        let mut out = "<h2>Results</h2>\n<div class=\"filters\" hidden>\
             <input type=\"search\" id=\"text\" placeholder=\"Filter tests\" \
             aria-label=\"Filter tests by name or description\">\
             <select id=\"combo\" aria-label=\"Combination\">\
             <option value=\"\">all combinations</option>"
            .to_owned();
        for (n, name) in self.names.iter().enumerate() {
            let _ = write!(out, "<option value=\"{n}\">{}</option>", escape(name));
        }
        out.push_str(
            "</select> <span class=\"dim\" id=\"shown\"></span>\
             <span class=\"dim keys\"><kbd>/</kbd> filter, <kbd>n</kbd> <kbd>p</kbd> next and \
             previous failure, <kbd>Esc</kbd> show all</span></div>\n",
        );
        out
    }

    /// Test, and combination where there are several.
    pub(super) fn name(&self, test: &str, combo: usize) -> String {
        match self.names.get(combo) {
            Some(name) if self.names.len() > 1 => format!("{test} {name}"),
            _ => test.to_owned(),
        }
    }

    /// The name of a result.
    pub(super) fn name_of(&self, entry: &Entry) -> String {
        self.name(&entry.name, entry.combo)
    }
}
