//! The results, those first that somebody must look at.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use super::{Entry, KINDS, Page, class, escape};
use crate::model::Kind;
use crate::words;

/// So many failures are shown unfolded.
const UNFOLDED: usize = 3;

impl Page {
    /// A group for each verdict, with its count.
    pub(super) fn results(&self, out: &mut dyn Write) -> io::Result<()> {
        for kind in KINDS {
            let mut entries: Vec<(usize, &Entry)> = self
                .entries
                .iter()
                .enumerate()
                .filter(|(_, entry)| entry.kind == kind)
                .collect();
            if entries.is_empty() {
                continue;
            }
            // They come in the order in which they ended.
            entries.sort_by_key(|(_, entry)| (entry.test, entry.combo));
            let unfolded = !matches!(kind, Kind::NotRun | Kind::Pass);
            writeln!(
                out,
                "<details class=\"group\" id=\"{0}\"{1}><summary><b class=\"{0}\">{2}</b> \
                 <span class=\"count\">{3}</span></summary>",
                class(kind),
                if unfolded { " open" } else { "" },
                title(kind),
                entries.len()
            )?;
            match kind {
                Kind::NotRun => self.by_reason(&entries, out)?,
                Kind::Pass => {
                    let (more, plain): (Vec<_>, Vec<_>) = entries
                        .into_iter()
                        .partition(|(_, entry)| has_details(entry));
                    self.unfoldable(&more, out)?;
                    self.list(&plain, out)?;
                }
                _ => self.unfoldable(&entries, out)?,
            }
            writeln!(out, "</details>")?;
        }
        Ok(())
    }

    /// Results with all that is known of them.
    fn unfoldable(&self, entries: &[(usize, &Entry)], out: &mut dyn Write) -> io::Result<()> {
        for (n, entry) in entries {
            let open = entry.kind == Kind::Fail && entries.len() <= UNFOLDED;
            let took = entry.secs.filter(|_| entry.kind != Kind::Interrupted);
            let took = took.map_or_else(String::new, |secs| format!("{secs:.1}&nbsp;s"));
            writeln!(
                out,
                "<details class=\"result\" id=\"r{n}\" {}{}>\
                 <summary><b>{}</b> <span class=\"{}\">{}</span> {} <span class=\"dim\">{took}</span>\
                 </summary>{}</details>",
                self.filtered_by(entry),
                if open { " open" } else { "" },
                escape(&self.name_of(entry)),
                class(entry.kind),
                words::kind(entry.kind),
                escape(&entry.description),
                entry.details
            )?;
        }
        Ok(())
    }

    /// What was not run: for each reason which tests, the most frequent one first.
    fn by_reason(&self, entries: &[(usize, &Entry)], out: &mut dyn Write) -> io::Result<()> {
        let mut reasons: BTreeMap<&str, Vec<(usize, &Entry)>> = BTreeMap::new();
        for entry in entries {
            let of_reason = reasons.entry(&entry.1.description).or_default();
            of_reason.push(*entry);
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, entries)| std::cmp::Reverse(entries.len()));
        for (reason, entries) in reasons {
            let (many, reason) = (entries.len(), escape(reason));
            writeln!(
                out,
                "<div class=\"reason\"><p>{reason} <span class=\"count\">{many}</span></p>"
            )?;
            self.list(&entries, out)?;
            writeln!(out, "</div>")?;
        }
        Ok(())
    }

    /// Names alone.
    fn list(&self, entries: &[(usize, &Entry)], out: &mut dyn Write) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut text = "<ul class=\"names\">".to_owned();
        for (n, entry) in entries {
            let name = escape(&self.name_of(entry));
            let by = self.filtered_by(entry);
            let _ = write!(text, "<li class=\"result\" id=\"r{n}\" {by}>{name}</li>");
        }
        text.push_str("</ul>\n");
        out.write_all(text.as_bytes())
    }

    /// The attributes that the filters look at.
    fn filtered_by(&self, entry: &Entry) -> String {
        let summary = self.summaries.get(&entry.test).map_or("", String::as_str);
        let text = format!("{} {} {summary}", self.name_of(entry), entry.description);
        format!(
            "data-kind=\"{}\" data-combo=\"{}\" data-text=\"{}\"",
            class(entry.kind),
            entry.combo,
            escape(&text.to_lowercase())
        )
    }
}

/// Whether there is more to say than the name.
fn has_details(entry: &Entry) -> bool {
    !entry.details.is_empty() || !entry.description.is_empty()
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Fail => "Failed",
        Kind::Flaky => "Flaky",
        Kind::KnownFail => "Known failures",
        Kind::Interrupted => "Interrupted",
        Kind::NotRun => "Not run",
        Kind::Pass => "Passed",
    }
}
