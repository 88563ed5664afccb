//! Exclude files (`-X FILE`) and `QEMU_TEST_IO_SKIP`: tests that are not run, or are known
//! to fail, and why.

use std::path::Path;

use anyhow::{Context, Result, bail};
use globset::{GlobBuilder, GlobMatcher};
use testdecl::CACHES;

use crate::args::{FORMATS, PROTOCOLS};
use crate::groups::is_known_failure;
use crate::model::{Combo, KnownFailure, Test};

/// The variable that lists tests not to run.
pub const SKIP_VARIABLE: &str = "QEMU_TEST_IO_SKIP";

/// The word of a known failure that may pass too.
const FLAKY: &str = "flaky";

/// Tests that are not run, or are known to fail.
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
    effect: Effect,
    pattern: GlobMatcher,
    conditions: Vec<(Key, Vec<GlobMatcher>)>,
    reason: String,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Its tests are not run.
    Exclude,
    /// Its tests are known to fail.
    Fail { flaky: bool },
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
        self.read_lines(file, |_| true).context("argument -X")
    }

    /// Adds the known failures of a `group.local` file; its other lines are about groups.
    ///
    /// # Errors
    ///
    /// It cannot be read, or a line of a known failure is wrong: which one, and how.
    pub fn read_local(&mut self, file: &Path) -> Result<()> {
        self.read_lines(file, is_known_failure)
    }

    fn read_lines(&mut self, file: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        for (n, line) in text.lines().enumerate().filter(|(_, line)| wanted(line)) {
            let place = format!("{}:{}", file.display(), n + 1);
            let rule = Rule::parse(line, file, &place).context(place)?;
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
                "{}: no test is named '{}'",
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
        let mut rules = self.rules_about(test, combo);
        let rule = rules.find(|rule| rule.effect == Effect::Exclude)?;
        Some(rule.reason.clone())
    }

    /// Whether `test` is known to fail under `combo`; the first rule that says so counts.
    #[must_use]
    pub fn known_failure(&self, test: &Test, combo: &Combo) -> Option<KnownFailure> {
        let mut rules = self.rules_about(test, combo);
        rules.find_map(|rule| match rule.effect {
            Effect::Exclude => None,
            Effect::Fail { flaky } => Some(KnownFailure {
                reason: rule.reason.clone(),
                flaky,
            }),
        })
    }

    fn rules_about(&self, test: &Test, combo: &Combo) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| {
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
        })
    }
}

impl Rule {
    /// The rule of a line; `None` where it is blank or a comment.
    fn parse(line: &str, file: &Path, place: &str) -> Result<Option<Self>> {
        let (rule, reason) = line.split_once('#').unwrap_or((line, ""));
        let mut words = rule.split_whitespace().peekable();
        let mut effect = Effect::Exclude;
        if is_known_failure(rule) {
            words.next();
            effect = Effect::Fail { flaky: false };
        }
        let Some(pattern) = words.next() else {
            return Ok(None);
        };
        if effect != Effect::Exclude && words.next_if_eq(&FLAKY).is_some() {
            effect = Effect::Fail { flaky: true };
        }
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
            effect,
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
    fn known_failures_stand_beside_exclusions() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        let text = "fail 30 fmt=qcow2 # bug 7\nfail 03? flaky # at times\nfail fmt=raw\n\
                    031 fmt=raw\n";
        std::fs::write(&file, text).unwrap();
        let mut e = Excludes::new("", "");
        e.read(&file).unwrap();
        let known = |name: &str, format: &str| {
            let known = e.known_failure(&sample::test(name), &sample::combo(format));
            known.map(|known| (known.reason, known.flaky))
        };
        assert_eq!(known("030", "qcow2"), Some(("bug 7".into(), false)));
        assert_eq!(known("030", "raw"), Some(("at times".into(), true)));
        assert_eq!(known("040", "raw"), None);
        // A test of that name.
        let excluded = |name| {
            e.reason(&sample::test(name), &sample::combo("raw"))
                .is_some()
        };
        assert!(excluded("fail") && excluded("031") && !excluded("030"));
        std::fs::write(&file, "fail 030 later\n").unwrap();
        let err = format!("{:#}", Excludes::new("", "").read(&file).unwrap_err());
        assert!(err.contains("x:1: unknown condition 'later'"), "{err}");
        std::fs::write(&file, "1 mine\nfail 030 # here\n").unwrap();
        let mut local = Excludes::new("", "");
        local.read_local(&file).unwrap();
        let known = local.known_failure(&sample::test("030"), &sample::combo("raw"));
        assert_eq!(known.map(|known| known.reason).as_deref(), Some("here"));
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
