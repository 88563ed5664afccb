//! What a program said, reduced to what tells one path through it from another.
//!
//! The distinct messages and exit statuses are the feedback that any program
//! gives: a message not seen before means that an image got somewhere new.
//! Numbers, paths and quoted names are taken out, so that the same complaint
//! about another offset counts as the same.

use image_mutations::rng::{FNV_START, fnv};

/// The message with its accidents taken out: numbers become `N`, quoted parts
/// `'Q'`, runs of blanks one blank; at most 200 characters of it.
pub fn normalise(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.trim().chars().peekable();
    while let Some(c) = chars.next() {
        if out.len() >= 200 {
            break;
        }
        match c {
            '\'' | '"' => {
                for inner in chars.by_ref() {
                    if inner == c {
                        break;
                    }
                }
                out.push_str("'Q'");
            }
            c if c.is_ascii_digit() => {
                while chars.peek().is_some_and(char::is_ascii_alphanumeric) {
                    chars.next();
                }
                if chars.peek() == Some(&'.') {
                    let mut ahead = chars.clone();
                    ahead.next();
                    if ahead.peek().is_some_and(char::is_ascii_digit) {
                        chars.next();
                        while chars.peek().is_some_and(char::is_ascii_alphanumeric) {
                            chars.next();
                        }
                    }
                }
                if !out.ends_with('N') {
                    out.push('N');
                }
            }
            c if c.is_whitespace() => {
                if !out.ends_with(' ') {
                    out.push(' ');
                }
            }
            c if c.is_control() || !c.is_ascii() => {
                if !out.ends_with('?') {
                    out.push('?');
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// The distinct normalised lines of an output, in order, at most `most` of them.
pub fn distinct_lines(output: &[u8], most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in String::from_utf8_lossy(output).lines() {
        let line = normalise(line);
        if !line.is_empty() && !lines.contains(&line) {
            lines.push(line);
            if lines.len() == most {
                break;
            }
        }
    }
    lines
}

/// The number that stands for how one command ended: its program and verb, its
/// status, and each distinct message of its error output.
pub fn features(verb: &str, end: &str, stderr: &[u8]) -> Vec<u64> {
    let base = fnv(fnv(FNV_START, verb.as_bytes()), b"\0");
    let mut features = vec![fnv(base, end.as_bytes())];
    for line in distinct_lines(stderr, 16) {
        features.push(fnv(fnv(base, b"\x01"), line.as_bytes()));
    }
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accidents_are_taken_out() {
        assert_eq!(
            normalise("qemu-img: Could not open '/tmp/x 1.qcow2': size 0xfff too  big (12)"),
            "qemu-img: Could not open 'Q': size N too big (N)"
        );
        assert_eq!(normalise("took 1.25 s, 3KiB"), "took N s, N");
        assert_eq!(normalise("it's unclosed"), "it'Q'");
    }

    #[test]
    fn equal_complaints_have_equal_marks() {
        let a = features("qemu-img check", "exit 2", b"ERROR cluster 5 refcount=1\n");
        let b = features("qemu-img check", "exit 2", b"ERROR cluster 77 refcount=0\n");
        assert_eq!(a, b);
        assert_ne!(a, features("qemu-img info", "exit 2", b""));
    }

    proptest::proptest! {
        #[test]
        fn normalising_twice_changes_nothing(line in ".{0,80}") {
            let once = normalise(&line);
            proptest::prop_assert_eq!(normalise(&once), once);
        }
    }
}
