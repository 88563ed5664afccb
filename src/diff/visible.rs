//! Bytes as printable text: no invisible characters, no control sequences.

use bstr::ByteSlice;

use super::lines;

/// How blanks that can be seen anyway are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blanks {
    /// As they are: for text around a change.
    Plain,
    /// Tabs as `→` and a tab: for a piece within a changed line.
    Inner,
    /// The same, and blanks at the end as `·`: for the end of a changed line.
    Marked,
}

/// `line` (without its newline) as text. Control bytes are shown as their Unicode
/// pictures (`␍`, `␛`), bytes that are not UTF-8 as `\xNN`, characters that would
/// reorder or hide text as `<U+NNNN>`.
#[must_use]
pub fn visible(line: &[u8], blanks: Blanks) -> String {
    let body = match blanks {
        Blanks::Plain | Blanks::Inner => line.len(),
        Blanks::Marked => line.trim_end_with(|c| c == ' ').len(),
    };
    let mut out = String::with_capacity(line.len() + 8);
    for (start, end, c) in line[..body].char_indices() {
        if c == char::REPLACEMENT_CHARACTER && line[start..end] != *"\u{fffd}".as_bytes() {
            for byte in &line[start..end] {
                out.push_str(&format!("\\x{byte:02x}"));
            }
        } else {
            push(&mut out, c, blanks);
        }
    }
    for _ in body..line.len() {
        out.push('·');
    }
    out
}

/// A text of several lines made visible line by line, for logs.
#[must_use]
pub fn visible_text(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for line in lines(text) {
        out.push_str(&visible(
            line.strip_suffix(b"\r").unwrap_or(line),
            Blanks::Plain,
        ));
        out.push('\n');
    }
    out
}

fn push(out: &mut String, c: char, blanks: Blanks) {
    match c {
        '\t' if blanks != Blanks::Plain => out.push_str("→\t"),
        '\t' => out.push('\t'),
        '\0'..='\x1f' => out.push(picture(u32::from(c))),
        '\x7f' => out.push('␡'),
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}' => out.push_str(&format!("<U+{:04X}>", u32::from(c))),
        c => out.push(c),
    }
}

/// The picture of a control byte below 0x20 (Unicode's block Control Pictures).
fn picture(byte: u32) -> char {
    char::from_u32(0x2400 + byte).unwrap_or('␀')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_seen_is_shown() {
        for (bytes, plain, marked) in [
            (&b"a\tb  "[..], "a\tb  ", "a→\tb··"),
            (b"x\r", "x␍", "x␍"),
            (b"\x1b[31m\x7f\0", "␛[31m␡␀", "␛[31m␡␀"),
            (b"\xff\xc3(", "\\xff\\xc3(", "\\xff\\xc3("),
            (
                "ü\u{202e}\u{fffd}".as_bytes(),
                "ü<U+202E>\u{fffd}",
                "ü<U+202E>\u{fffd}",
            ),
        ] {
            assert_eq!(visible(bytes, Blanks::Plain), plain);
            assert_eq!(visible(bytes, Blanks::Marked), marked);
        }
        assert_eq!(visible_text(b"a\r\nb\x07"), "a\nb␇\n");
    }

    proptest! {
        #[test]
        fn nothing_a_terminal_obeys_is_left(bytes: Vec<u8>) {
            let shown = visible(&bytes, Blanks::Marked);
            prop_assert!(shown.chars().all(|c| c == '\t' || !c.is_control()));
        }
    }
}
