//! One command of a test, as words.

use serde::{Deserialize, Serialize};

/// One command: a program's name and its arguments, placeholders resolved but
/// for `$test_img`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Command(pub Vec<String>);

impl Command {
    /// A command of the given words.
    pub fn new<const N: usize>(words: [&str; N]) -> Self {
        Self(words.map(String::from).to_vec())
    }

    /// The first word, as it was given.
    pub fn program(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// The words as a line for a POSIX shell, `$test_img` left to the shell.
    pub fn shell(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|word| quote(word)).collect();
        words.join(" ")
    }
}

/// `word` as a POSIX shell reads it back, with `$test_img` still a variable.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if word == "$test_img" {
        return "\"$test_img\"".into();
    }
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    if word.contains("$test_img") {
        let escaped: String = word
            .split("$test_img")
            .map(|part| {
                let mut out = String::new();
                for c in part.chars() {
                    if "\"\\$`".contains(c) {
                        out.push('\\');
                    }
                    out.push(c);
                }
                out
            })
            .collect::<Vec<_>>()
            .join("$test_img");
        return format!("\"{escaped}\"");
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for word in ["", "a b", "it's", "$HOME", "a\"b`c", "plain-1.0"] {
            assert_eq!(shlex::split(&quote(word)).unwrap(), [word], "{word}");
        }
        assert_eq!(quote("$test_img"), "\"$test_img\"");
        assert_eq!(quote("json:{\"$test_img\"}"), r#""json:{\"$test_img\"}""#);
    }
}
