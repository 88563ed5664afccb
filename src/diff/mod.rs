//! Differences between a reference and an output: lines, and words within them,
//! on bytes and bounded in time.

mod lines;
mod text;
mod visible;
mod words;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use similar::{Algorithm, DiffOp, capture_diff_slices_deadline, group_diff_ops};

pub use lines::{lines, trim_line_end};
pub use text::{Bounds, Paint, patch, render};
pub(crate) use text::{pieces, shown_of_runs};
pub use visible::{Blanks, visible, visible_text};

/// How much work a comparison may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// After this time the rest counts as changed.
    pub time: Duration,
    /// How many lines of either side are compared, from the first difference on.
    pub lines: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_millis(500),
            lines: 50_000,
        }
    }
}

/// What a line of a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In both.
    Same,
    /// In the reference alone.
    Removed,
    /// In the output alone.
    Added,
}

/// A piece of a line, and whether it is what changed within the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Whether this is a changed word.
    pub changed: bool,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A line of a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it is.
    pub side: Side,
    /// Its pieces in order; together the line without its newline.
    pub spans: Vec<Span>,
    /// Bytes at its end that are in no piece: of a stored difference, whose long lines are
    /// kept as far as they are shown.
    pub left_out: usize,
}

/// Lines that changed, with three lines around them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hunk {
    /// Where it starts in the reference (lines, from 0) and how many it covers.
    pub old: (usize, usize),
    /// Where it starts in the output (lines, from 0) and how many it covers.
    pub new: (usize, usize),
    /// The lines.
    pub lines: Vec<Line>,
}

/// All differences between a reference and an output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// The changed places in order.
    pub hunks: Vec<Hunk>,
    /// Lines left out of the comparison, since there were too many.
    pub not_compared: usize,
}

/// Lines of context around a change.
const CONTEXT: usize = 3;

impl Diff {
    /// Compares `expected` with `actual` as [`crate::golden::equal`] does: white
    /// space at line ends is ignored.
    #[must_use]
    pub fn new(expected: &[u8], actual: &[u8], limits: &Limits) -> Self {
        let deadline = Instant::now() + limits.time;
        let start = Start::find(expected, actual);
        let (old, old_left) = window(&expected[start.old..], start.context + limits.lines);
        let (new, new_left) = window(&actual[start.new..], start.context + limits.lines);
        let ops = capture_diff_slices_deadline(
            Algorithm::Myers,
            &keys(&old),
            &keys(&new),
            Some(deadline),
        );
        let hunks = group_diff_ops(ops, CONTEXT)
            .iter()
            .map(|group| hunk(group, &old, &new, start.lines, deadline))
            .collect();
        Self {
            hunks,
            not_compared: old_left + new_left,
        }
    }

    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hunks.is_empty() && self.not_compared == 0
    }
}

/// Where a comparison starts: a little before the first line that differs. What
/// lies before is passed over without being kept, since outputs can be long.
#[derive(Debug, Default)]
struct Start {
    /// Lines before it, the same in both.
    lines: usize,
    /// Lines from it to the first that differs, at most [`CONTEXT`].
    context: usize,
    /// Its place in the reference (bytes).
    old: usize,
    /// Its place in the output (bytes).
    new: usize,
}

impl Start {
    fn find(expected: &[u8], actual: &[u8]) -> Self {
        let (mut old, mut new) = (lines(expected), lines(actual));
        // Places of the last lines that were the same, oldest first.
        let mut recent = VecDeque::from([(0, 0)]);
        let mut same = 0;
        while let (Some(a), Some(b)) = (old.next(), new.next()) {
            if trim_line_end(a) != trim_line_end(b) {
                break;
            }
            let (at_old, at_new) = recent.back().copied().unwrap_or_default();
            recent.push_back((at_old + a.len() + 1, at_new + b.len() + 1));
            if recent.len() > CONTEXT + 1 {
                recent.pop_front();
            }
            same += 1;
        }
        let context = recent.len() - 1;
        let (old, new) = recent[0];
        Self {
            lines: same - context,
            context,
            // A last line may lack its newline.
            old: old.min(expected.len()),
            new: new.min(actual.len()),
        }
    }
}

/// The first `most` lines of `text`, and how many more there are.
fn window(text: &[u8], most: usize) -> (Vec<&[u8]>, usize) {
    let mut all = lines(text);
    let first = all.by_ref().take(most).collect();
    (first, all.count())
}

/// The lines as they are compared.
fn keys<'a>(lines: &[&'a [u8]]) -> Vec<&'a [u8]> {
    lines.iter().map(|line| trim_line_end(line)).collect()
}

fn hunk(ops: &[DiffOp], old: &[&[u8]], new: &[&[u8]], from: usize, deadline: Instant) -> Hunk {
    let mut lines = Vec::new();
    for op in ops {
        let (was, is) = (&old[op.old_range()], &new[op.new_range()]);
        match op {
            DiffOp::Equal { .. } => lines.extend(was.iter().map(|l| whole(Side::Same, l))),
            DiffOp::Delete { .. } => lines.extend(was.iter().map(|l| whole(Side::Removed, l))),
            DiffOp::Insert { .. } => lines.extend(is.iter().map(|l| whole(Side::Added, l))),
            DiffOp::Replace { .. } => lines.extend(words::replaced(was, is, deadline)),
        }
    }
    let extent = |range: fn(&DiffOp) -> std::ops::Range<usize>| {
        let start = ops.first().map_or(0, |op| range(op).start);
        let end = ops.last().map_or(0, |op| range(op).end);
        (from + start, end - start)
    };
    Hunk {
        old: extent(DiffOp::old_range),
        new: extent(DiffOp::new_range),
        lines,
    }
}

/// A line in one piece.
fn whole(side: Side, line: &[u8]) -> Line {
    let spans = vec![Span {
        changed: false,
        bytes: line.to_vec(),
    }];
    Line {
        side,
        spans,
        left_out: 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn diff(a: &[u8], b: &[u8]) -> Diff {
        Diff::new(a, b, &Limits::default())
    }

    /// Lines removed and added.
    fn counts(diff: &Diff) -> (usize, usize) {
        let lines = diff.hunks.iter().flat_map(|h| &h.lines);
        let count = |side| lines.clone().filter(|l| l.side == side).count();
        (count(Side::Removed), count(Side::Added))
    }

    #[test]
    fn white_space_at_line_ends_is_no_difference() {
        assert!(diff(b"a \nb\n", b"a\nb\t\r\n").is_empty());
        assert!(!diff(b"a\n", b"a\n\n").is_empty());
    }

    #[test]
    fn a_change_is_shown_with_three_lines_around_it() {
        let old: String = (1..=20).map(|n| format!("line {n}\n")).collect();
        let new = old.replace("line 10\n", "line ten\n");
        let d = diff(old.as_bytes(), new.as_bytes());
        assert_eq!(d.hunks.len(), 1);
        assert_eq!(d.hunks[0].old, (6, 7));
        assert_eq!(d.hunks[0].new, (6, 7));
        assert_eq!(counts(&d), (1, 1));
        let removed = &d.hunks[0].lines[3];
        assert_eq!(removed.side, Side::Removed);
        assert_eq!(
            removed.spans,
            [
                Span {
                    changed: false,
                    bytes: b"line ".to_vec()
                },
                Span {
                    changed: true,
                    bytes: b"10".to_vec()
                }
            ]
        );
    }

    #[test]
    fn a_comparison_is_bounded_in_lines() {
        let old: String = (0..100).map(|n| format!("a{n}\n")).collect();
        let new: String = (0..100).map(|n| format!("b{n}\n")).collect();
        let limits = Limits {
            lines: 10,
            ..Limits::default()
        };
        let d = Diff::new(old.as_bytes(), new.as_bytes(), &limits);
        assert_eq!(counts(&d), (10, 10));
        assert_eq!(d.not_compared, 180);
        assert!(!d.is_empty());
    }

    #[test]
    fn a_difference_far_in_is_placed_right() {
        let old: String = (1..=1000).map(|n| format!("line {n} \n")).collect();
        let new = old.replace("line 999 \n", "line x\n").replace(' ', "");
        let old = old.replace(' ', "");
        let d = diff(old.as_bytes(), new.as_bytes());
        assert_eq!((d.hunks[0].old, d.hunks[0].new), ((995, 5), (995, 5)));
        let d = diff(b"a\nb", b"a\nb\nc");
        assert_eq!((d.hunks[0].old, d.hunks[0].new), ((0, 2), (0, 3)));
    }

    #[test]
    fn no_time_still_gives_a_difference() {
        let limits = Limits {
            time: Duration::ZERO,
            ..Limits::default()
        };
        let old: String = (0..3000).map(|n| format!("{}\n", n * 7 % 1000)).collect();
        let new: String = (0..3000).map(|n| format!("{}\n", n * 11 % 1000)).collect();
        assert!(!Diff::new(old.as_bytes(), new.as_bytes(), &limits).is_empty());
    }

    proptest! {
        #[test]
        fn a_difference_holds_every_changed_line(
            a in "([ab]{0,2}\n){0,12}",
            b in "([ab]{0,2}\n){0,12}",
        ) {
            let d = diff(a.as_bytes(), b.as_bytes());
            let equal = crate::golden::equal(a.as_bytes(), b.as_bytes());
            prop_assert_eq!(d.is_empty(), equal);
            let mut old: Vec<Vec<u8>> = lines(a.as_bytes()).map(<[u8]>::to_vec).collect();
            for hunk in d.hunks.iter().rev() {
                let new_lines = hunk.lines.iter().filter(|l| l.side != Side::Removed);
                let text = new_lines.map(|l| l.spans.iter().flat_map(|s| s.bytes.clone()).collect());
                old.splice(hunk.old.0..hunk.old.0 + hunk.old.1, text);
            }
            let new: Vec<Vec<u8>> = lines(b.as_bytes()).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(old, new);
        }
    }
}
