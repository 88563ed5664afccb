//! Profiles: options under a name, from files such as `.config/check.toml`.
//!
//! ```toml
//! [profile.ci]
//! inherits = "long"
//! timeout = 900
//! rerun-failed = 1
//! formats = ["qcow2", "raw"]
//! ```

use std::collections::BTreeMap;

use testdecl::nearest;
use toml::de::{DeTable, DeValue};

use super::flag::{Flag, Takes};
use super::flags::flags;
use super::low::LowArgs;

/// The key whose value is another profile.
const INHERITS: &str = "inherits";
/// The table that holds the profiles.
const PROFILE: &str = "profile";
/// Options that are about one call, or about where the profiles are.
const NOT_IN_PROFILES: [&str; 18] = [
    "-h",
    "--help",
    "--version",
    "-n",
    "--source-dir",
    "--build-dir",
    "--from-archive",
    "--profile",
    "--bless",
    "--all",
    "--review",
    "--unused-goldens",
    "--history",
    "--list",
    "--list-groups",
    "--new",
    "--install-into",
    "--remove-from",
];

/// Profiles by name.
#[derive(Debug, Clone, Default)]
pub struct Profiles(BTreeMap<String, Profile>);

#[derive(Debug, Clone, Default)]
struct Profile {
    /// Its base, and where that is said.
    inherits: Option<(String, String)>,
    options: Vec<Setting>,
}

/// An option that a profile sets.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) flag: &'static Flag,
    /// One for each time it is given; none where it is set to `false`.
    pub(super) values: Vec<Option<String>>,
}

impl Setting {
    /// Whether this one goes in the place of another.
    pub(super) fn replaces(&self, other: &'static Flag) -> bool {
        rivals(self.flag, other)
    }
}

/// Whether only one of two options can be given, or both are the same.
pub(super) fn rivals(a: &'static Flag, b: &'static Flag) -> bool {
    std::ptr::eq(a, b) || (a.exclusive.is_some() && a.exclusive == b.exclusive)
}

impl Profiles {
    /// Adds the profiles in `text`; `file` is its name in errors. What is set already is
    /// replaced, option by option.
    ///
    /// # Errors
    ///
    /// One line: the file, the line, what is wrong.
    pub fn read(&mut self, text: &str, file: &str) -> Result<(), String> {
        let place = |at: usize| {
            let line = text.bytes().take(at).filter(|b| *b == b'\n').count() + 1;
            format!("{file}:{line}")
        };
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let message: Vec<&str> = error.message().split_whitespace().collect();
            format!("{}: {}", place(at), message.join(" "))
        })?;
        for (key, value) in table.get_ref() {
            if key.get_ref() != PROFILE {
                let at = place(key.span().start);
                return Err(format!("{at}: {}", unknown(key.get_ref(), &[PROFILE])));
            }
            for (name, options) in tables(value.get_ref(), &place(key.span().start))? {
                let at = place(name.span().start);
                let profile = self.0.entry(name.get_ref().to_string()).or_default();
                for (key, value) in tables(options.get_ref(), &at)? {
                    let at = place(key.span().start);
                    let read = profile.take(key.get_ref(), value.get_ref(), &at);
                    read.map_err(|error| format!("{at}: {error}"))?;
                }
            }
        }
        Ok(())
    }

    /// The options of the profile `name`, those it inherits included.
    ///
    /// # Errors
    ///
    /// It, or one that it inherits, is not there; or it inherits itself.
    pub(super) fn options(&self, name: &str) -> Result<Vec<Setting>, String> {
        let mut chain: Vec<&str> = Vec::new();
        let mut next = Some((name, "argument --profile"));
        while let Some((name, place)) = next {
            if chain.contains(&name) {
                return Err(format!("{place}: profile '{name}' inherits itself"));
            }
            let Some((name, profile)) = self.0.get_key_value(name) else {
                let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
                let what = format!("{place}: there is no profile '{name}'");
                return Err(hint(&what, name, &known));
            };
            chain.push(name);
            let base = profile.inherits.as_ref();
            next = base.map(|(name, place)| (name.as_str(), place.as_str()));
        }
        let mut options = Vec::new();
        for name in chain.into_iter().rev() {
            for setting in &self.0[name].options {
                put(&mut options, setting.clone());
            }
        }
        Ok(options)
    }
}

impl Profile {
    fn take(&mut self, key: &str, value: &DeValue<'_>, place: &str) -> Result<(), String> {
        if key == INHERITS {
            let DeValue::String(name) = value else {
                return Err(format!("{INHERITS}: expected the name of a profile"));
            };
            self.inherits = Some((name.to_string(), place.to_owned()));
            return Ok(());
        }
        let flag = option(key)?;
        let values = values(flag, value).map_err(|error| format!("{key}: {error}"))?;
        for value in &values {
            (flag.effect)(&mut LowArgs::default(), value.as_deref())
                .map_err(|error| format!("{key}: {error}"))?;
        }
        put(&mut self.options, Setting { flag, values });
        Ok(())
    }
}

/// Adds a setting, in place of those that it replaces.
fn put(options: &mut Vec<Setting>, setting: Setting) {
    options.retain(|before| !setting.replaces(before.flag));
    options.push(setting);
}

type Entries<'t> = Vec<(
    &'t toml::Spanned<std::borrow::Cow<'t, str>>,
    &'t toml::Spanned<DeValue<'t>>,
)>;

fn tables<'t>(value: &'t DeValue<'t>, place: &str) -> Result<Entries<'t>, String> {
    match value {
        DeValue::Table(table) => Ok(table.iter().collect()),
        _ => Err(format!("{place}: expected a table, such as [{PROFILE}.ci]")),
    }
}

/// The option that a key names: one of its words, without the dashes.
fn option(key: &str) -> Result<&'static Flag, String> {
    let allowed = |flag: &&Flag| !flag.words().any(|word| NOT_IN_PROFILES.contains(&word));
    let bare = |word: &'static str| word.trim_start_matches('-');
    let mut named = flags().filter(|flag| flag.words().any(|word| bare(word) == key));
    match named.next() {
        Some(flag) if allowed(&flag) => Ok(flag),
        Some(flag) => Err(format!("{} cannot stand in a profile", flag.title())),
        None => {
            let words = flags().filter(allowed).flat_map(Flag::words).map(bare);
            let words: Vec<&str> = words.chain([INHERITS]).collect();
            Err(unknown(key, &words))
        }
    }
}

/// What an option is given: texts and numbers as they are; of a list the words with commas
/// between them, or each by itself where the option may be repeated.
fn values(flag: &Flag, value: &DeValue<'_>) -> Result<Vec<Option<String>>, String> {
    let word = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        _ => Err("expected a text or a number".to_owned()),
    };
    let repeated = flag.words().any(|word| matches!(word, "-X" | "-E"));
    match (flag.takes(), value) {
        (_, DeValue::Boolean(false)) => Ok(Vec::new()),
        (Takes::Nothing | Takes::Maybe, DeValue::Boolean(true)) => Ok(vec![None]),
        (Takes::Nothing, _) => Err("expected true or false".to_owned()),
        (_, DeValue::Array(list)) => {
            let words = list.iter().map(|value| word(value.get_ref()));
            let words = words.collect::<Result<Vec<_>, _>>()?;
            if repeated {
                return Ok(words.into_iter().map(Some).collect());
            }
            Ok(vec![Some(words.join(","))])
        }
        (_, value) => Ok(vec![Some(word(value)?)]),
    }
}

fn unknown(key: &str, known: &[&str]) -> String {
    hint(&format!("unknown key '{key}'"), key, known)
}

fn hint(text: &str, word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("{text}; did you mean '{near}'?"),
        None if known.len() > 10 => format!("{text} (a key is the name of an option)"),
        None if known.is_empty() => text.to_owned(),
        None => format!("{text} (known: {})", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::args::parse_with;

    const FILE: &str = "\
[profile.long]
timeout = 900
qcow2 = true
fail-fast = true
E = \"group(rw)\"

[profile.ci]
inherits = \"long\"
rerun-failed = 2
formats = [\"qcow2\", \"raw\"]
fail-fast = false
exclude-file = [\"a\", \"b\"]
";

    fn with(line: &str) -> Result<LowArgs, String> {
        let mut profiles = Profiles::default();
        profiles.read(FILE, "f")?;
        parse_with(line.split_whitespace().map(OsString::from), &profiles)
    }

    #[test]
    fn a_profile_inherits_and_the_command_line_wins() {
        let long = with("--profile long").unwrap();
        assert_eq!(
            (long.timeout, long.format.as_deref()),
            (Some(900), Some("qcow2"))
        );
        assert!(long.fail_fast && long.filter.is_some());
        let ci = with("--profile ci 001").unwrap();
        assert_eq!((ci.timeout, ci.rerun_failed), (Some(900), 2));
        assert_eq!(
            (ci.format, ci.formats),
            (None, vec!["qcow2".into(), "raw".into()])
        );
        assert_eq!(ci.exclude_files, ["a", "b"].map(std::path::PathBuf::from));
        assert_eq!((ci.fail_fast, ci.tests), (false, vec!["001".to_owned()]));
        let over = with("--profile ci -luks --timeout 5 -E all()").unwrap();
        assert_eq!(
            (over.timeout, over.format.as_deref()),
            (Some(5), Some("luks"))
        );
        assert!(over.formats.is_empty());
        assert_eq!(over.filter.unwrap().to_string(), "all()");
        assert_eq!(with("-raw").unwrap().timeout, None);
    }

    #[test]
    fn mistakes_name_file_and_line() {
        for (text, want) in [
            (
                "[profile.ci]\ntimeuot = 3\n",
                "f:2: unknown key 'timeuot'; did you mean 'timeout'?",
            ),
            (
                "[profile.ci]\ntimeout = \"5m\"\n",
                "f:2: timeout: invalid time: '5m'",
            ),
            (
                "[profile.ci]\ntimeout = 1.5\n",
                "f:2: timeout: expected a text or a number",
            ),
            (
                "[profile.ci]\nkeep = 1\n",
                "f:2: keep: expected true or false",
            ),
            (
                "[profile.ci]\nbless = true\n",
                "f:2: --bless cannot stand in a profile",
            ),
            (
                "\n[profiles.ci]\n",
                "f:2: unknown key 'profiles'; did you mean 'profile'?",
            ),
            ("profile = 1\n", "f:1: expected a table"),
            ("[profile.ci]\nkeep =\n", "f:2: "),
            (
                "[profile.ci]\ninherits = 1\n",
                "f:2: inherits: expected the name",
            ),
        ] {
            let error = Profiles::default().read(text, "f").expect_err(text);
            assert!(error.starts_with(want), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        for (text, want) in [
            (
                "[profile.cii]\n",
                "argument --profile: there is no profile 'ci'; did you mean 'cii'?",
            ),
            (
                "[profile.ci]\ninherits = \"x\"\n",
                "f:2: there is no profile 'x'",
            ),
            (
                "[profile.ci]\ninherits = \"ci\"\n",
                "f:2: profile 'ci' inherits itself",
            ),
        ] {
            let mut profiles = Profiles::default();
            profiles.read(text, "f").unwrap();
            let error = profiles.options("ci").expect_err(text);
            assert!(error.starts_with(want), "{error}");
        }
    }
}
