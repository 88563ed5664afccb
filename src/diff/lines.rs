//! The lines of an output, as they are compared.

/// The lines of `text` without their newlines; a newline at the very end opens
/// no further line.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let none = text.is_empty();
    body.split(|&b| b == b'\n').filter(move |_| !none)
}

/// `line` without the white space at its end: blanks, tabs, carriage returns,
/// vertical tabs and form feeds.
#[must_use]
pub fn trim_line_end(line: &[u8]) -> &[u8] {
    let blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | 0x0b | 0x0c);
    let end = line.iter().rposition(|b| !blank(b)).map_or(0, |at| at + 1);
    &line[..end]
}
