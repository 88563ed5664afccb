//! Command lines as a person types them: split into words, and joined.

use anyhow::{Context as _, Result};

/// Splits a line into words as a shell does: at white space, with single quotes,
/// double quotes, backslashes and comments.
///
/// # Errors
///
/// Fails if a quote is not closed.
pub fn split(line: &str) -> Result<Vec<String>> {
    shlex::split(line).with_context(|| format!("a quote or backslash is not closed in: {line}"))
}

/// Joins words to a line that [`split`] takes apart into the same words.
#[must_use]
pub fn join<S: AsRef<str>>(words: &[S]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| quote(w.as_ref())).collect();
    quoted.join(" ")
}

/// Goldens show these lines: what no shell takes apart stays without quotes, such as
/// `size=1M,compat=1.1`, which `shlex` would quote.
fn quote(word: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !"'\"\\$`&|;<>()*?#~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotes_hold_words_together() {
        let got = split(r#"a 'b c'  "d \"e" f\ g ''"#).expect("closed quotes");
        assert_eq!(got, ["a", "b c", "d \"e", "f g", ""]);
        assert!(split("'a").is_err() && split("\"a").is_err());
    }

    proptest! {
        #[test]
        fn a_joined_line_splits_into_the_same_words(words: Vec<String>) {
            prop_assert_eq!(split(&join(&words)).expect("closed quotes"), words);
        }
    }
}
