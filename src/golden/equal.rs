//! Comparison of an output with its reference: bytes, but for white space at
//! line ends.

use crate::diff::{lines, trim_line_end};

/// Whether `actual` is what `expected` says: line by line the same bytes, white
/// space at the end of a line ignored, and with it whether the last line ends in
/// a newline.
#[must_use]
pub fn equal(expected: &[u8], actual: &[u8]) -> bool {
    let trimmed = |text| lines(text).map(trim_line_end);
    trimmed(expected).eq(trimmed(actual))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_white_space_at_line_ends_is_ignored() {
        for (a, b, same) in [
            ("", "", true),
            ("a\n", "a", true),
            ("a \t\r\nb\n", "a\nb\n", true),
            ("a\n", "a\n\n", false),
            ("", "\n", false),
            (" a\n", "a\n", false),
            ("a  b\n", "a b\n", false),
            ("a\nb\n", "a\n", false),
            ("a\rb\n", "a\nb\n", false),
        ] {
            assert_eq!(equal(a.as_bytes(), b.as_bytes()), same, "{a:?} {b:?}");
        }
        assert!(equal(b"\xff\xfe \n", b"\xff\xfe\n"));
        assert!(!equal(b"\xff\n", b"\xfe\n"));
    }

    proptest! {
        #[test]
        fn trailing_blanks_never_matter(
            text in proptest::collection::vec("[a-z ]{0,6}", 0..8),
            blanks in "[ \t\r]{0,3}",
        ) {
            let plain: String = text.iter().map(|l| format!("{l}\n")).collect();
            let padded: String = text.iter().map(|l| format!("{l}{blanks}\n")).collect();
            prop_assert!(equal(plain.as_bytes(), padded.as_bytes()));
            prop_assert!(equal(padded.as_bytes(), plain.as_bytes()));
        }

        #[test]
        fn another_byte_always_matters(text in "[a-z\n]{1,40}", at in any::<prop::sample::Index>()) {
            let mut other = text.clone().into_bytes();
            let at = at.index(other.len());
            other[at] = b'#';
            prop_assert!(!equal(text.as_bytes(), &other));
        }
    }
}
