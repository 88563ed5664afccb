//! What differs from run to run: process ids, generated node names, dates, times.

use std::sync::LazyLock;

use super::Rules;

/// A kind of generated text and its replacement.
static RULES: LazyLock<Rules> = LazyLock::new(|| {
    Rules::new(&[
        // Node names that QEMU generates.
        (r"#block[0-9]{2,}", b"#blockN"),
        // Process ids in messages.
        (r"\b(pid|PID|process) [0-9]+", b"$1 N"),
        // Dates and times of day.
        (
            r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?",
            b"DATE TIME",
        ),
        // A random UUID.
        (
            r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
            b"UUID",
        ),
        // Progress that a terminal would overwrite.
        (r"(?m)^ *\([0-9]+\.[0-9]{2}/100%\)\r", b""),
        (r"\r *\([0-9]+\.[0-9]{2}/100%\)", b""),
    ])
});

/// Replaces what this run generated.
#[must_use]
pub fn hide(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    loop {
        let before = text.len();
        text = RULES.apply(&text);
        // Removing progress can move other progress to a line's start.
        if text.len() >= before {
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_are_replaced() {
        assert_eq!(
            hide(b"node '#block123' of pid 4711"),
            b"node '#blockN' of pid N"
        );
        assert_eq!(hide(b"at 2024-02-03 10:11:12.125 ok"), b"at DATE TIME ok");
    }

    #[test]
    fn numbers_a_test_is_about_stay() {
        for text in [
            &b"read 512/512 bytes at offset 1024"[..],
            b"#block",
            b"2024-02-03",
            b"process",
        ] {
            assert_eq!(hide(text), text);
        }
    }

    #[test]
    fn every_rule_is_a_regex() {
        assert_eq!(RULES.0.len(), 6);
    }
}
