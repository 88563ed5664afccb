//! One command of a test, as words.

use std::path::Path;

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

    /// The program and its verb (`qemu-img info`), which is what messages and
    /// groups of findings are told apart by. For `qemu-io` the verbs of its script.
    pub fn verb(&self) -> String {
        let program = Path::new(self.program())
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        match program.as_str() {
            "qemu-img" => {
                let mut verb = program;
                for word in self.0.iter().skip(1) {
                    let flag = ["-l", "-c", "-a", "-d"].contains(&word.as_str());
                    if verb == "qemu-img" {
                        verb = format!("qemu-img {word}");
                    } else if (flag && verb.ends_with("snapshot")) || word == "-r" {
                        verb = format!("{verb} {word}");
                        break;
                    }
                }
                verb
            }
            "qemu-io" => {
                let mut verbs: Vec<&str> = Vec::new();
                let mut words = self.0.iter();
                while let Some(word) = words.next() {
                    if word == "-c"
                        && let Some(first) = words.next().and_then(|s| s.split(' ').next())
                        && !verbs.contains(&first)
                    {
                        verbs.push(first);
                    }
                }
                format!("qemu-io {}", verbs.join("+"))
            }
            _ => program,
        }
    }

    /// As [`Command::verb`], but a script of `qemu-io` is the program alone: what
    /// groups are named by, and so must stay when a script gets shorter.
    pub fn group_verb(&self) -> String {
        let verb = self.verb();
        match verb.strip_prefix("qemu-io ") {
            Some(_) => "qemu-io".into(),
            None => verb,
        }
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
    fn verbs_tell_commands_apart() {
        let verb = |line: &str| Command(shlex::split(line).unwrap()).verb();
        assert_eq!(verb("qemu-img info $test_img"), "qemu-img info");
        assert_eq!(verb("qemu-img check -r all $test_img"), "qemu-img check -r");
        assert_eq!(
            verb("qemu-img snapshot -q -c a $test_img"),
            "qemu-img snapshot -c"
        );
        assert_eq!(
            verb("qemu-io -c 'read 0 1' -c 'write 0 1' -c 'read 1 1' $test_img"),
            "qemu-io read+write"
        );
        assert_eq!(verb("/usr/bin/reader $test_img"), "reader");
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for word in ["", "a b", "it's", "$HOME", "a\"b`c", "plain-1.0"] {
            assert_eq!(shlex::split(&quote(word)).unwrap(), [word], "{word}");
        }
        assert_eq!(quote("$test_img"), "\"$test_img\"");
        assert_eq!(quote("json:{\"$test_img\"}"), r#""json:{\"$test_img\"}""#);
    }
}
