//! A difference as text: for terminals, for logs, and as a patch.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::visible::{Blanks, visible};
use super::{Diff, Hunk, Line, Side};

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// With ANSI colours; changed words stand out.
    Ansi,
    /// Without.
    Plain,
}

impl Paint {
    /// `text` in `style`, or as it is.
    pub(crate) fn apply(self, style: Style, text: &str) -> String {
        match self {
            Self::Ansi if style != Style::new() => format!("{style}{text}{style:#}"),
            _ => text.to_owned(),
        }
    }
}

/// How much of a difference is shown.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Lines of the difference.
    pub lines: usize,
    /// Bytes of one line.
    pub line_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            lines: 200,
            line_bytes: 1000,
        }
    }
}

const HEAD: Style = Style::new().bold();
const PLACE: Style = AnsiColor::Cyan.on_default();
const REMOVED: Style = AnsiColor::Red.on_default();
const ADDED: Style = AnsiColor::Green.on_default();

/// `diff` as a unified diff from `old_name` to `new_name`, invisible characters
/// made visible. Also how many of its lines the bounds left out.
#[must_use]
pub fn render(
    diff: &Diff,
    old_name: &str,
    new_name: &str,
    paint: Paint,
    bounds: &Bounds,
) -> (String, usize) {
    let mut out = String::new();
    for (mark, name) in [("---", old_name), ("+++", new_name)] {
        let name = visible(name.as_bytes(), Blanks::Plain);
        push_line(&mut out, &paint.apply(HEAD, &format!("{mark} {name}")));
    }
    let mut left = bounds.lines;
    let mut left_out = 0;
    for (hunk, runs) in diff.hunks.iter().zip(shown_of_runs(diff, bounds)) {
        if left > 0 {
            push_line(&mut out, &paint.apply(PLACE, &place(hunk)));
        }
        for (run, shown) in runs {
            left -= shown;
            left_out += run.len() - shown;
            for line in &run[..shown] {
                push_line(&mut out, &one_line(line, paint, bounds.line_bytes));
            }
            if shown > 0 && shown < run.len() && left > 0 {
                let more = run.len() - shown;
                push_line(&mut out, &format!("... {more} more lines like this"));
            }
        }
    }
    (out, left_out)
}

/// For each hunk its lines, those of one side together, each with how many of them
/// [`render`] shows, from the first on.
pub(crate) fn shown_of_runs<'a>(diff: &'a Diff, bounds: &Bounds) -> Vec<Vec<(&'a [Line], usize)>> {
    let mut left = bounds.lines;
    let mut of_hunk = |hunk: &'a Hunk| {
        let mut runs = runs(hunk, left);
        for (run, shown) in &mut runs {
            *shown = run.len().min(*shown).min(left);
            left -= *shown;
        }
        runs
    };
    diff.hunks.iter().map(&mut of_hunk).collect()
}

/// The lines of a hunk, those of one side together, each with how many of them to
/// show where `left` lines have room: removed lines leave half of the room to the
/// added ones that follow, since one side alone says little.
fn runs(hunk: &Hunk, left: usize) -> Vec<(&[Line], usize)> {
    let runs: Vec<&[Line]> = hunk.lines.chunk_by(|a, b| a.side == b.side).collect();
    let mut all = Vec::with_capacity(runs.len());
    let mut before = 0;
    for (n, run) in runs.iter().enumerate() {
        let room = left.saturating_sub(before);
        let next = runs.get(n + 1).filter(|next| next[0].side == Side::Added);
        let most = match next {
            Some(next) if run[0].side == Side::Removed => {
                (room / 2).max(room.saturating_sub(next.len()))
            }
            _ => room,
        };
        before += run.len().min(most);
        all.push((*run, most));
    }
    all
}

fn push_line(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

/// `@@ -1,4 +1,5 @@`, lines counted from 1; an empty side names the line before.
fn place(hunk: &Hunk) -> String {
    let side = |(start, len): (usize, usize)| match len {
        0 => format!("{start},0"),
        1 => format!("{}", start + 1),
        _ => format!("{},{len}", start + 1),
    };
    format!("@@ -{} +{} @@", side(hunk.old), side(hunk.new))
}

fn one_line(line: &Line, paint: Paint, most: usize) -> String {
    let (mark, style) = match line.side {
        Side::Same => (' ', Style::new()),
        Side::Removed => ('-', REMOVED),
        Side::Added => ('+', ADDED),
    };
    let mut text = paint.apply(style, &mark.to_string());
    for (piece, changed) in pieces(line, most) {
        let style = if changed { style.invert() } else { style };
        text.push_str(&paint.apply(style, &piece));
    }
    if line.side == Side::Same {
        text.truncate(text.trim_end().len());
    }
    text
}

/// The pieces of a line made visible, at most `most` bytes of it, each with
/// whether it changed. Blanks are marked in changed lines only, and counted as
/// trailing at the line's end alone.
pub(crate) fn pieces(line: &Line, most: usize) -> Vec<(String, bool)> {
    let mut left = most;
    let mut out = Vec::new();
    let total: usize = line.spans.iter().map(|s| s.bytes.len()).sum::<usize>() + line.left_out;
    let last = line.spans.len().saturating_sub(1);
    for (n, span) in line.spans.iter().enumerate() {
        let bytes = &span.bytes[..span.bytes.len().min(left)];
        left -= bytes.len();
        let blanks = match line.side {
            Side::Same => Blanks::Plain,
            _ if n == last && bytes.len() == span.bytes.len() && line.left_out == 0 => {
                Blanks::Marked
            }
            _ => Blanks::Inner,
        };
        let shown = visible(bytes, blanks);
        out.push((shown, span.changed));
    }
    if total > most {
        out.push((format!("… ({} bytes more)", total - most), false));
    }
    out
}

/// Writes `diff` whole and as it is, byte for byte, so that `patch` can apply it.
///
/// # Errors
///
/// Those of `out`.
pub fn patch(diff: &Diff, old_name: &str, new_name: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut head = String::new();
    let _ = writeln!(head, "--- {old_name}\n+++ {new_name}");
    out.write_all(head.as_bytes())?;
    for hunk in &diff.hunks {
        writeln!(out, "{}", place(hunk))?;
        for line in &hunk.lines {
            out.write_all(match line.side {
                Side::Same => b" ",
                Side::Removed => b"-",
                Side::Added => b"+",
            })?;
            for span in &line.spans {
                out.write_all(&span.bytes)?;
            }
            out.write_all(b"\n")?;
        }
    }
    if diff.not_compared > 0 {
        writeln!(out, "# {} lines were not compared", diff.not_compared)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::*;

    fn plain(a: &[u8], b: &[u8], bounds: &Bounds) -> (String, usize) {
        let diff = Diff::new(a, b, &Limits::default());
        render(&diff, "030.out", "030.out.bad", Paint::Plain, bounds)
    }

    #[test]
    fn a_unified_diff_shows_what_is_invisible() {
        let (text, left_out) = plain(
            b"same\ttab \nold\tx\n",
            b"same\ttab\nnew\tx  \xff\x1b \n",
            &Bounds::default(),
        );
        assert_eq!(
            text,
            "--- 030.out\n+++ 030.out.bad\n@@ -1,2 +1,2 @@\n same\ttab\n-old→\tx\n+new→\tx  \\xff␛·\n"
        );
        assert_eq!(left_out, 0);
    }

    #[test]
    fn places_are_written_as_patch_reads_them() {
        let (text, _) = plain(b"", b"a\n", &Bounds::default());
        assert!(text.contains("@@ -0,0 +1 @@"), "{text}");
        let (text, _) = plain(b"a\nb\n", b"", &Bounds::default());
        assert!(text.contains("@@ -1,2 +0,0 @@"), "{text}");
    }

    #[test]
    fn long_differences_and_lines_are_cut() {
        let bounds = Bounds {
            lines: 2,
            line_bytes: 4,
        };
        let (text, left_out) = plain(b"abcdefgh\nb\nc\n", b"", &bounds);
        assert!(text.contains("-abcd… (4 bytes more)\n-b\n"), "{text}");
        assert_eq!(left_out, 1);
    }

    #[test]
    fn where_room_is_short_both_sides_are_shown() {
        let bounds = Bounds {
            lines: 4,
            line_bytes: 100,
        };
        let (text, left_out) = plain(b"a\nb\nc\nd\ne\n", b"1\n2\n3\n4\n5\n", &bounds);
        let shown: Vec<&str> = text.lines().skip(3).collect();
        assert_eq!(
            shown,
            ["-a", "-b", "... 3 more lines like this", "+1", "+2"]
        );
        assert_eq!(left_out, 6);
        let (text, left_out) = plain(b"a\nb\nc\nd\ne\n", b"1\n", &bounds);
        let shown: Vec<&str> = text.lines().skip(3).collect();
        assert_eq!(
            shown,
            ["-a", "-b", "-c", "... 2 more lines like this", "+1"]
        );
        assert_eq!(left_out, 2);
    }

    #[test]
    fn changed_words_stand_out_in_colour() {
        let diff = Diff::new(b"offset 0\n", b"offset 512\n", &Limits::default());
        let (text, _) = render(&diff, "a", "b", Paint::Ansi, &Bounds::default());
        assert!(text.contains("\u{1b}[7m\u{1b}[31m0\u{1b}[0m"), "{text:?}");
    }

    #[test]
    fn a_patch_keeps_every_byte() {
        let diff = Diff::new(b"a\n", b"\xff \t\n", &Limits::default());
        let mut out = Vec::new();
        patch(&diff, "a", "b", &mut out).unwrap();
        assert_eq!(out, b"--- a\n+++ b\n@@ -1 +1 @@\n-a\n+\xff \t\n");
    }
}
