//! Command lines as a person types them: split into words, and put back.

use anyhow::{Result, bail};

/// Splits a line into words as a shell does: at white space, with single quotes,
/// double quotes and backslashes.
///
/// # Errors
/// Where a quote is not closed.
pub fn split(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let w = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => w.push(c),
                        None => bail!("a single quote is not closed in: {line}"),
                    }
                }
            }
            '"' => {
                let w = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => w.extend(chars.next()),
                        Some(c) => w.push(c),
                        None => bail!("a double quote is not closed in: {line}"),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Joins words to a line that [`split`] takes apart into the same words.
#[must_use]
pub fn join<S: AsRef<str>>(words: &[S]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| quote(w.as_ref())).collect();
    quoted.join(" ")
}

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
