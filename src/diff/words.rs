//! Which words of a changed line changed.

use std::time::Instant;

use similar::{Algorithm, DiffOp, capture_diff_slices_deadline};

use super::{Line, Side, Span, whole};

/// Longer lines (bytes) are shown without marked words.
const LONGEST: usize = 4096;

/// The lines `was` replaced by the lines `is`, those that stand for each other
/// with their changed words marked.
pub(super) fn replaced(was: &[&[u8]], is: &[&[u8]], deadline: Instant) -> Vec<Line> {
    let mut removed: Vec<Line> = was.iter().map(|l| whole(Side::Removed, l)).collect();
    let mut added: Vec<Line> = is.iter().map(|l| whole(Side::Added, l)).collect();
    for (n, (a, b)) in was.iter().zip(is).enumerate() {
        if Instant::now() >= deadline {
            break;
        }
        if let Some((old, new)) = marked(a, b, deadline) {
            removed[n].spans = old;
            added[n].spans = new;
        }
    }
    removed.append(&mut added);
    removed
}

/// The pieces of both lines; `None` where they have too little in common for
/// marks to help.
fn marked(a: &[u8], b: &[u8], deadline: Instant) -> Option<(Vec<Span>, Vec<Span>)> {
    if a.len() > LONGEST || b.len() > LONGEST {
        return None;
    }
    let (old, new) = (tokens(a), tokens(b));
    let ops = capture_diff_slices_deadline(Algorithm::Myers, &old, &new, Some(deadline));
    let letters = |tokens: &[&[u8]]| -> usize {
        let solid = tokens.iter().filter(|t| !t[0].is_ascii_whitespace());
        solid.map(|t| t.len()).sum()
    };
    let common: usize = ops
        .iter()
        .filter(|op| matches!(op, DiffOp::Equal { .. }))
        .map(|op| letters(&old[op.old_range()]))
        .sum();
    if common * 5 < letters(&old).max(letters(&new)) * 2 {
        return None;
    }
    let mut spans = (Vec::new(), Vec::new());
    for op in &ops {
        let changed = !matches!(op, DiffOp::Equal { .. });
        let push = |to: &mut Vec<Span>, tokens: &[&[u8]]| {
            if !tokens.is_empty() {
                to.push(Span {
                    changed,
                    bytes: tokens.concat(),
                });
            }
        };
        push(&mut spans.0, &old[op.old_range()]);
        push(&mut spans.1, &new[op.new_range()]);
    }
    Some(spans)
}

/// `line` as words, runs of white space, and single other bytes. Bytes of
/// characters beyond ASCII count as letters, so that none is torn apart.
fn tokens(line: &[u8]) -> Vec<&[u8]> {
    let class = |b: u8| match b {
        b if b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80 => 0,
        b if b.is_ascii_whitespace() => 1,
        _ => 2,
    };
    line.chunk_by(|&a, &b| class(a) == class(b) && class(a) != 2)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn show(line: &Line) -> String {
        let spans = line.spans.iter().map(|s| {
            let text = String::from_utf8_lossy(&s.bytes);
            if s.changed {
                format!("[{text}]")
            } else {
                text.into_owned()
            }
        });
        spans.collect()
    }

    #[test]
    fn changed_words_are_marked() {
        let lines = replaced(
            &[b"read 512/512 bytes at offset 0"],
            &[b"read 512/512 bytes at offset 65536"],
            soon(),
        );
        assert_eq!(show(&lines[0]), "read 512/512 bytes at offset [0]");
        assert_eq!(show(&lines[1]), "read 512/512 bytes at offset [65536]");
    }

    #[test]
    fn lines_with_nothing_in_common_are_not_marked() {
        let lines = replaced(&[b"alpha beta"], &["gamma délta".as_bytes()], soon());
        assert_eq!(show(&lines[0]), "alpha beta");
        assert_eq!(show(&lines[1]), "gamma délta");
        // A name in common is not enough.
        let lines = replaced(
            &[b"TEST_DIR/t.qcow2: matches the model in all clusters"],
            &[b"failed with exit status 1: resize TEST_DIR/t.qcow2 4194816"],
            soon(),
        );
        assert!(!show(&lines[0]).contains('['), "{}", show(&lines[0]));
    }

    #[test]
    fn removed_lines_come_before_added_ones() {
        let lines = replaced(&[b"a 1", b"b 1"], &[b"a 2", b"b 2", b"c 2"], soon());
        let sides: Vec<Side> = lines.iter().map(|l| l.side).collect();
        use Side::{Added, Removed};
        assert_eq!(sides, [Removed, Removed, Added, Added, Added]);
    }
}
