//! Exclude files (`-X FILE`) and `QEMU_TEST_IO_SKIP`: tests that are not run,
//! and why.

use std::path::Path;

use anyhow::{Context, Result, bail};
use globset::{GlobBuilder, GlobMatcher};
use testdecl::CACHES;

use crate::args::{FORMATS, PROTOCOLS};
use crate::model::{Combo, Test};

/// The variable that lists tests not to run.
pub const SKIP_VARIABLE: &str = "QEMU_TEST_IO_SKIP";

/// Tests that are not run.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    rules: Vec<Rule>,
    /// Pairs of a driver (empty for any) and a test.
    skipped: Vec<(String, String)>,
    host: String,
}

/// A line of an exclude file.
#[derive(Debug, Clone)]
struct Rule {
    /// Where it stands, for messages.
    place: String,
    pattern: GlobMatcher,
    conditions: Vec<(Key, Vec<GlobMatcher>)>,
    reason: String,
}

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Format,
    Protocol,
    Cache,
    Host,
}

impl Excludes {
    /// Takes the value of `QEMU_TEST_IO_SKIP` (words `DRIVER:NAME` or `NAME`)
    /// and the name of this host.
    #[must_use]
    pub fn new(skip: &str, host: &str) -> Self {
        let skipped = skip.split_whitespace().map(|word| {
            let (driver, name) = word.split_once(':').unwrap_or(("", word));
            (driver.to_owned(), name.to_owned())
        });
        Self {
            rules: Vec::new(),
            skipped: skipped.collect(),
            host: host.to_owned(),
        }
    }

    /// Adds the rules of an exclude file.
    ///
    /// # Errors
    ///
    /// It cannot be read, or a line is wrong: which one, and how.
    pub fn read(&mut self, file: &Path) -> Result<()> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("argument -X: cannot read {}", file.display()))?;
        for (n, line) in text.lines().enumerate() {
            let place = format!("{}:{}", file.display(), n + 1);
            let rule =
                Rule::parse(line, file, &place).with_context(|| format!("argument -X: {place}"))?;
            self.rules.extend(rule);
        }
        Ok(())
    }

    /// Rules of exclude files that are about none of `names`, as lines: a name that was
    /// misspelt excludes nothing.
    #[must_use]
    pub fn about_nothing(&self, names: &[&str]) -> Vec<String> {
        let idle = self
            .rules
            .iter()
            .filter(|rule| !names.iter().any(|name| rule.pattern.is_match(name)));
        idle.map(|rule| {
            format!(
                "argument -X: {}: no test is named '{}'",
                rule.place,
                rule.pattern.glob().glob()
            )
        })
        .collect()
    }

    /// Why `test` is not run under `combo`; `None` where nothing excludes it.
    #[must_use]
    pub fn reason(&self, test: &Test, combo: &Combo) -> Option<String> {
        let skipped = self.skipped.iter().any(|(driver, name)| {
            *name == test.name
                && (driver.is_empty() || *driver == combo.format || *driver == combo.protocol)
        });
        if skipped {
            return Some(format!("listed in {SKIP_VARIABLE}"));
        }
        let rule = self.rules.iter().find(|rule| {
            rule.pattern.is_match(&test.name)
                && rule.conditions.iter().all(|(key, values)| {
                    let value = match key {
                        Key::Format => &combo.format,
                        Key::Protocol => &combo.protocol,
                        Key::Cache => &combo.cache,
                        Key::Host => &self.host,
                    };
                    values.iter().any(|v| v.is_match(value))
                })
        })?;
        Some(rule.reason.clone())
    }
}

impl Rule {
    /// The rule of a line; `None` where it is blank or a comment.
    fn parse(line: &str, file: &Path, place: &str) -> Result<Option<Self>> {
        let (rule, reason) = line.split_once('#').unwrap_or((line, ""));
        let mut words = rule.split_whitespace();
        let Some(pattern) = words.next() else {
            return Ok(None);
        };
        if pattern.contains('=') {
            bail!("'{pattern}': expected the name of a test first ('*' for all)");
        }
        let mut conditions: Vec<(Key, Vec<GlobMatcher>)> = Vec::new();
        for word in words {
            let Some((key, values)) = word.split_once('=') else {
                bail!(
                    "unknown condition '{word}' (known: fmt=, proto=, cache=, host=; put a reason after '#')"
                );
            };
            let (key, known): (Key, &[&str]) = match key {
                "fmt" => (Key::Format, FORMATS),
                "proto" => (Key::Protocol, PROTOCOLS),
                "cache" => (Key::Cache, CACHES),
                "host" => (Key::Host, &[]),
                _ => bail!("unknown condition '{key}=' (known: fmt=, proto=, cache=, host=)"),
            };
            if conditions.iter().any(|(before, _)| *before == key) {
                bail!("'{word}': duplicate condition; separate values by commas");
            }
            let mut matchers = Vec::new();
            for value in values.split(',') {
                let matcher = matcher(value)?;
                let any = known.is_empty() || known.iter().any(|name| matcher.is_match(name));
                if value.is_empty() || !any {
                    let known = known.join(", ");
                    let known = if known.is_empty() { "a name" } else { &known };
                    bail!("'{word}': invalid value '{value}' (expected {known})");
                }
                matchers.push(matcher);
            }
            conditions.push((key, matchers));
        }
        let reason = match reason.trim() {
            "" => format!("listed in {}", file.display()),
            reason => reason.to_owned(),
        };
        let pattern = if pattern.len() < 3 && pattern.bytes().all(|b| b.is_ascii_digit()) {
            format!("{pattern:0>3}")
        } else {
            pattern.to_owned()
        };
        Ok(Some(Self {
            place: place.to_owned(),
            pattern: matcher(&pattern)?,
            conditions,
            reason,
        }))
    }
}

/// What matches `pattern`: `*`, `?` and `[..]` as in a shell; a `[` that is not closed
/// stands for itself.
fn matcher(pattern: &str) -> Result<GlobMatcher> {
    let glob = GlobBuilder::new(pattern)
        .allow_unclosed_class(true)
        .build()?;
    Ok(glob.compile_matcher())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::sample;

    fn matches(pattern: &str, text: &str) -> bool {
        matcher(pattern).is_ok_and(|m| m.is_match(text))
    }

    #[test]
    fn the_variable_lists_tests_for_drivers() {
        let e = Excludes::new("qcow2:030 nbd:031 :032 033", "host");
        let why = |name: &str| e.reason(&sample::test(name), &sample::combo("qcow2"));
        assert_eq!(why("030").as_deref(), Some("listed in QEMU_TEST_IO_SKIP"));
        assert_eq!(why("031"), None);
        assert!(why("032").is_some() && why("033").is_some());
        assert!(
            e.reason(&sample::test("030"), &sample::combo("raw"))
                .is_none()
        );
    }

    #[test]
    fn rules_match_by_pattern_and_conditions() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        std::fs::write(
            &file,
            "# comment\n\n7 # broken\n2?? fmt=luks,v* proto=file # too slow\n9* host=ci-*\n",
        )
        .unwrap();
        let mut e = Excludes::new("", "ci-3");
        e.read(&file).unwrap();
        let why = |name: &str, format: &str| e.reason(&sample::test(name), &sample::combo(format));
        assert_eq!(why("007", "raw").as_deref(), Some("broken"));
        assert_eq!(why("210", "luks").as_deref(), Some("too slow"));
        assert_eq!(why("210", "vmdk").as_deref(), Some("too slow"));
        assert_eq!(why("210", "raw"), None);
        assert_eq!(
            why("900", "raw"),
            Some(format!("listed in {}", file.display()))
        );
    }

    #[test]
    fn rules_about_no_test_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        std::fs::write(&file, "001\n77? # gone\n").unwrap();
        let mut e = Excludes::new("", "");
        e.read(&file).unwrap();
        let told = e.about_nothing(&["001", "002"]);
        assert_eq!(told.len(), 1);
        assert!(told[0].ends_with("x:2: no test is named '77?'"), "{told:?}");
    }

    #[test]
    fn a_wrong_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        for (text, want) in [
            ("001 too slow\n", "x:1: unknown condition 'too'"),
            ("\n001 arch=x\n", "x:2: unknown condition 'arch='"),
            ("001 fmt=\n", "'fmt=': invalid value ''"),
            (
                "001 fmt=raw,quack\n",
                "invalid value 'quack' (expected raw, ",
            ),
            ("fmt=raw\n", "'fmt=raw': expected the name of a test first"),
            ("001 fmt=raw fmt=qcow2\n", "duplicate condition"),
        ] {
            std::fs::write(&file, text).unwrap();
            let err = format!("{:#}", Excludes::new("", "").read(&file).unwrap_err());
            assert!(err.contains(want), "{err}");
        }
    }

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
