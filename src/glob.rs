//! Patterns as in file names: `*`, `?`, `[..]`.

/// Whether `pattern` matches all of `text`. A `[` that is not closed stands for
/// itself.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    // Where to go on from when what follows a star did not fit: the star, and
    // how much of the text it has taken.
    let mut star = None;
    let (mut p, mut t) = (0, 0);
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, t));
            p += 1;
        } else if let Some(width) = one(&pattern[p..], text[t]) {
            p += width;
            t += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            p = at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// How much of `pattern` matches the single character `c`.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match *pattern.first()? {
        '?' => Some(1),
        '[' => match class(pattern) {
            Some((members, width)) => within(members, c).then_some(width),
            None => (c == '[').then_some(1),
        },
        first => (first == c).then_some(1),
    }
}

/// The inside of the class that `pattern` begins with, and the width of it all.
fn class(pattern: &[char]) -> Option<(&[char], usize)> {
    // A `]` right behind `[` or `[!` is a member.
    let first = if pattern.get(1) == Some(&'!') { 2 } else { 1 };
    let end = pattern.iter().skip(first + 1).position(|&c| c == ']')? + first + 1;
    Some((&pattern[1..end], end + 1))
}

fn within(members: &[char], c: char) -> bool {
    let (members, wanted) = match members.split_first() {
        Some(('!', rest)) => (rest, false),
        _ => (members, true),
    };
    let mut rest = members;
    let mut found = false;
    while let Some((&low, after)) = rest.split_first() {
        if let ['-', high, tail @ ..] = after {
            found |= (low..=*high).contains(&c);
            rest = tail;
        } else {
            found |= low == c;
            rest = after;
        }
    }
    found == wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_a_shell_does() {
        for (pattern, text, want) in [
            ("030", "030", true),
            ("03?", "031", true),
            ("03?", "03", false),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXc", false),
            ("[0-2]*", "199", true),
            ("[0-2]*", "300", false),
            ("[!0-2]*", "300", true),
            ("[]x]", "]", true),
            ("[x", "[x", true),
            ("2[12-]0", "2-0", true),
            ("é?", "éa", true),
        ] {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_words_match_themselves(p in "[a-c*?!\\[\\]-]{0,9}", t in "[a-c]{0,9}") {
            let _ = matches(&p, &t);
            prop_assert!(matches(&t, &t));
            prop_assert!(matches("*", &t));
            prop_assert!(matches(&t.replace('a', "*"), &t));
        }
    }
}
