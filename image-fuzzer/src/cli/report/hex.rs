//! The bytes around a change as rows of cells: those that are the same in both images once,
//! others before and after, one below the other.

use std::fmt::Write as _;

use super::super::html::escape;
use crate::finding::{Change, Excerpt};

/// Bytes in a row.
const ROW: usize = 16;

/// The table; nothing where there are no bytes to show.
pub(super) fn table(change: &Change) -> String {
    let Some(excerpt) = &change.excerpt else {
        return String::new();
    };
    let [before, after] = [&excerpt.before.0, &excerpt.after.0];
    let mut text = String::from("<div class=\"wide\"><table class=\"hex\">\n");
    for start in (0..before.len().max(after.len())).step_by(ROW) {
        let row = Row {
            change,
            excerpt,
            start,
        };
        if part(before, start) == part(after, start) {
            text.push_str(&row.cells("", before, after));
        } else {
            text.push_str(&row.cells("before", before, after));
            text.push_str(&row.cells("after", after, before));
        }
    }
    text.push_str("</table></div>\n");
    text
}

/// The bytes of the row that begins at `start`, as far as the file has them.
fn part(bytes: &[u8], start: usize) -> &[u8] {
    let end = (start + ROW).min(bytes.len());
    bytes.get(start..end).unwrap_or_default()
}

/// A row of an excerpt.
struct Row<'a> {
    change: &'a Change,
    excerpt: &'a Excerpt,
    /// Index of its first byte.
    start: usize,
}

impl Row<'_> {
    /// The row of `bytes`, the same bytes of the other image being `other`.
    fn cells(&self, class: &str, bytes: &[u8], other: &[u8]) -> String {
        let at = self.excerpt.offset + self.start as u64;
        let sign = match class {
            "before" => "-",
            "after" => "+",
            _ => " ",
        };
        let mut row = format!("<tr class=\"{class}\"><th>{sign} {at:#x}</th>");
        for index in self.start..self.start + ROW {
            row.push_str(&self.cell(index, bytes.get(index), other.get(index)));
        }
        let text: String = part(bytes, self.start)
            .iter()
            .map(|byte| match byte {
                b' '..=b'~' => char::from(*byte),
                _ => '.',
            })
            .collect();
        let _ = writeln!(row, "<td class=\"text\">{}</td></tr>", escape(&text));
        row
    }

    fn cell(&self, index: usize, byte: Option<&u8>, other: Option<&u8>) -> String {
        let at = self.excerpt.offset + index as u64;
        let change = self.change;
        let mut classes = Vec::new();
        if at >= change.offset && at - change.offset < change.len {
            classes.push("field");
        }
        if byte != other {
            classes.push("differs");
        }
        let fields = &self.excerpt.fields;
        if fields.iter().any(|field| field.offset == at) {
            classes.push("first");
        }
        let owner = fields
            .iter()
            .find(|field| at >= field.offset && at - field.offset < field.len);
        let title = owner.map_or_else(String::new, |field| {
            format!(" title=\"{}\"", escape(&field.path))
        });
        let shown = byte.map_or_else(|| "  ".into(), |byte| format!("{byte:02x}"));
        format!("<td class=\"{}\"{title}>{shown}</td>", classes.join(" "))
    }
}
