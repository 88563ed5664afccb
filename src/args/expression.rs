//! Filter expressions (`-E`): which jobs are meant, in the words of nextest.
//!
//! ```text
//! group(quick) & !format(luks) & needs(fuse)
//! test(00*) | test(/^1.5$/) - failed()
//! ```

use std::fmt;

use globset::{Glob, GlobMatcher};
use regex::Regex;

use crate::model::{Combo, Start, Test};

/// From how many seconds a test counts as slow.
pub const SLOW_SECS: f64 = 10.0;

/// What a predicate with a matcher is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The name of the test.
    Test,
    /// A group that it is in.
    Group,
    /// The image format.
    Format,
    /// The protocol.
    Protocol,
    /// The cache mode.
    Cache,
    /// A word of its `needs:`.
    Needs,
    /// What it is: see [`KINDS`].
    Kind,
}

/// What a test can be: one of our program, or a file that is run.
pub const KINDS: &[&str] = &["rust", "script"];

/// Every subject, as it is written.
pub(super) const SUBJECTS: &[(&str, Subject)] = &[
    ("test", Subject::Test),
    ("group", Subject::Group),
    ("format", Subject::Format),
    ("protocol", Subject::Protocol),
    ("cache", Subject::Cache),
    ("needs", Subject::Needs),
    ("kind", Subject::Kind),
];

/// How a text is compared.
#[derive(Debug, Clone)]
pub enum Matcher {
    /// `=TEXT`: the same.
    Exact(String),
    /// `~TEXT`: this is part of it.
    Contains(String),
    /// `PATTERN` or `#PATTERN`: as a shell does.
    Glob(GlobMatcher),
    /// `/REGEX/`: found in it.
    Regex(Regex),
}

impl Matcher {
    pub(super) fn glob(pattern: &str) -> Result<Self, String> {
        let glob = Glob::new(pattern).map_err(|error| error.kind().to_string())?;
        Ok(Self::Glob(glob.compile_matcher()))
    }

    pub(super) fn regex(pattern: &str) -> Result<Self, String> {
        let reason = |error: regex::Error| {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        };
        Ok(Self::Regex(Regex::new(pattern).map_err(reason)?))
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Contains(text) => text,
            Self::Glob(glob) => glob.glob().glob(),
            Self::Regex(regex) => regex.as_str(),
        }
    }

    /// Whether it matches `text`.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Contains(part) => text.contains(part.as_str()),
            Self::Glob(glob) => glob.is_match(text),
            Self::Regex(regex) => regex.is_match(text),
        }
    }

    /// The one text that it can match, where it has no wildcards.
    fn literal(&self) -> Option<&str> {
        match self {
            Self::Exact(text) => Some(text),
            Self::Glob(glob) => {
                let text = glob.glob().glob();
                (!text.contains(['*', '?', '[', '{', '\\'])).then_some(text)
            }
            Self::Contains(_) | Self::Regex(_) => None,
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self.text() == other.text()
    }
}

impl Eq for Matcher {}

/// A filter expression. It is shown as it is written, with every operation in parentheses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// `all()`.
    All,
    /// `none()`.
    None,
    /// `failed()`: it failed and has not passed since.
    Failed,
    /// `slow()`: it took [`SLOW_SECS`] or longer when it last passed.
    Slow,
    /// A subject and what it is compared with.
    Is(Subject, Matcher),
    /// `!A`, `not A`.
    Not(Box<Self>),
    /// `A & B`, `A and B`.
    And(Box<Self>, Box<Self>),
    /// `A | B`, `A + B`, `A or B`.
    Or(Box<Self>, Box<Self>),
    /// `A - B`.
    Minus(Box<Self>, Box<Self>),
}

/// What an expression is about: a test under a combination, and how it did.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The test.
    pub test: &'a Test,
    /// The combination.
    pub combo: &'a Combo,
    /// Whether it failed and has not passed since.
    pub failed: bool,
    /// How long it took when it last passed, in seconds.
    pub last_passed_secs: Option<f64>,
}

impl Expression {
    /// Whether the expression holds for `candidate`.
    #[must_use]
    pub fn matches(&self, candidate: &Candidate<'_>) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Failed => candidate.failed,
            Self::Slow => candidate.last_passed_secs.is_some_and(|s| s >= SLOW_SECS),
            Self::Is(subject, matcher) => is(*subject, matcher, candidate),
            Self::Not(a) => !a.matches(candidate),
            Self::And(a, b) => a.matches(candidate) && b.matches(candidate),
            Self::Or(a, b) => a.matches(candidate) || b.matches(candidate),
            Self::Minus(a, b) => a.matches(candidate) && !b.matches(candidate),
        }
    }

    /// The groups that it names without wildcards.
    #[must_use]
    pub fn groups(&self) -> Vec<&str> {
        match self {
            Self::Is(Subject::Group, matcher) => matcher.literal().into_iter().collect(),
            Self::Not(a) => a.groups(),
            Self::And(a, b) | Self::Or(a, b) | Self::Minus(a, b) => {
                [a.groups(), b.groups()].concat()
            }
            _ => Vec::new(),
        }
    }
}

fn is(subject: Subject, matcher: &Matcher, candidate: &Candidate<'_>) -> bool {
    let Candidate { test, combo, .. } = candidate;
    let fits = |word: &String| matcher.is_match(word);
    match subject {
        Subject::Test => {
            let short = matcher
                .literal()
                .filter(|text| text.len() < 3 && text.bytes().all(|b| b.is_ascii_digit()));
            matcher.is_match(&test.name) || short.is_some_and(|n| test.name == format!("{n:0>3}"))
        }
        Subject::Group => test.groups.iter().any(fits),
        Subject::Format => matcher.is_match(&combo.format),
        Subject::Protocol => matcher.is_match(&combo.protocol),
        Subject::Cache => matcher.is_match(&combo.cache),
        Subject::Needs => test.needs.iter().any(fits),
        Subject::Kind => {
            let [rust, script] = [KINDS[0], KINDS[1]];
            let kind = match test.start {
                Start::Call(..) => rust,
                Start::Exec(_) | Start::Python(_) => script,
            };
            matcher.is_match(kind)
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all()"),
            Self::None => f.write_str("none()"),
            Self::Failed => f.write_str("failed()"),
            Self::Slow => f.write_str("slow()"),
            Self::Is(subject, matcher) => {
                let name = SUBJECTS.iter().find(|(_, s)| s == subject);
                write!(f, "{}({matcher})", name.map_or("", |(name, _)| name))
            }
            Self::Not(a) => write!(f, "!{a}"),
            Self::And(a, b) => write!(f, "({a} & {b})"),
            Self::Or(a, b) => write!(f, "({a} | {b})"),
            Self::Minus(a, b) => write!(f, "({a} - {b})"),
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self {
            Self::Exact(_) => "=",
            Self::Contains(_) => "~",
            Self::Glob(_) => "#",
            Self::Regex(_) => return write!(f, "/{}/", self.text().replace('/', "\\/")),
        };
        f.write_str(mark)?;
        for c in self.text().chars() {
            if matches!(c, '\\' | ')') || c.is_whitespace() {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        Ok(())
    }
}
