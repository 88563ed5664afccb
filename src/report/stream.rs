//! What tests print, shown as it comes: pieces that end anywhere, as safe text.

use crate::diff::{Blanks, visible};

/// A text that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The end of what has come that the next piece may belong to: an incomplete
    /// character, or a carriage return that may be before a newline.
    held: Vec<u8>,
    /// Whether the line that was shown last has not ended.
    open: bool,
}

impl Stream {
    /// What is shown of the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(piece);
        let keep = bytes.len() - incomplete(&bytes);
        self.held = bytes.split_off(keep);
        self.show(&bytes)
    }

    /// What is shown when no more comes; it ends the last line.
    pub(super) fn finish(&mut self) -> String {
        let rest = std::mem::take(&mut self.held);
        let mut text = self.show(&rest);
        if std::mem::take(&mut self.open) {
            text.push('\n');
        }
        text
    }

    fn show(&mut self, bytes: &[u8]) -> String {
        let mut text = String::new();
        for line in bytes.split_inclusive(|&b| b == b'\n') {
            let (body, ends) = match line.strip_suffix(b"\n") {
                Some(body) => (body.strip_suffix(b"\r").unwrap_or(body), true),
                None => (line, false),
            };
            text.push_str(&visible(body, Blanks::Plain));
            if ends {
                text.push('\n');
            }
            self.open = !ends;
        }
        text
    }
}

/// How many bytes at the end of `bytes` the next piece may belong to.
fn incomplete(bytes: &[u8]) -> usize {
    if bytes.ends_with(b"\r") {
        return 1;
    }
    // A character has up to four bytes; its first one says how many.
    let from = bytes.len().saturating_sub(3);
    let start = bytes[from..].iter().rposition(|b| b & 0xc0 != 0x80);
    let Some(start) = start.map(|at| from + at) else {
        return 0;
    };
    let whole = match bytes[start] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let there = bytes.len() - start;
    if there < whole { there } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_shown_as_far_as_it_has_come() {
        let mut stream = Stream::default();
        assert_eq!(stream.push(b"a\r"), "a");
        assert_eq!(stream.push(b"\nb \xc3"), "\nb ");
        assert_eq!(stream.push(b"\xbc\x1b[2J"), "\u{fc}\u{241b}[2J");
        assert_eq!(stream.finish(), "\n");
        assert_eq!(stream.push(b"\xff\n"), "\\xff\n");
        assert_eq!(stream.finish(), "");
        assert_eq!(
            (stream.push(b"\xe2\x82"), stream.finish()),
            (String::new(), "\\xe2\\x82\n".to_owned())
        );
    }

    proptest! {
        #[test]
        fn pieces_show_what_the_whole_does(bytes: Vec<u8>, cuts: Vec<prop::sample::Index>) {
            let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut stream = Stream::default();
            let mut text: String = cuts.windows(2).map(|w| stream.push(&bytes[w[0]..w[1]])).collect();
            text.push_str(&stream.finish());
            let mut stream = Stream::default();
            let whole = stream.push(&bytes) + &stream.finish();
            prop_assert!(text.chars().all(|c| matches!(c, '\t' | '\n') || !c.is_control()));
            prop_assert_eq!(text, whole);
        }
    }
}
