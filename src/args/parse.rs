//! From words to [`LowArgs`]: exact words first, then joined values, then
//! abbreviations, as Python's argparse reads them.

use std::collections::HashMap;
use std::ffi::OsString;

use testdecl::nearest;

use super::commands::{Command, command};
use super::conflicts;
use super::flag::{Flag, Takes};
use super::flags::flags;
use super::low::{Action, LowArgs};
use super::profiles::Profiles;

/// Reads the words of a command line (without the program's own name).
///
/// # Errors
///
/// One line that says which word is wrong and why.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<LowArgs, String> {
    let mut state = State::default();
    state.words(words.into_iter())?;
    state.args()
}

/// Reads the words of a command line, and what the profile that they name sets, where they do
/// not set it themselves.
///
/// # Errors
///
/// As for [`parse`]; or there is no such profile.
pub fn parse_with(
    words: impl IntoIterator<Item = OsString>,
    profiles: &Profiles,
) -> Result<LowArgs, String> {
    let words: Vec<OsString> = words.into_iter().collect();
    let mut alone = State::default();
    alone.words(words.iter().cloned())?;
    let Some(name) = &alone.args.profile else {
        return alone.args();
    };
    let mut both = State::default();
    for setting in profiles.options(name)? {
        let replaced = alone.given.iter().any(|given| setting.replaces(given));
        for value in setting.values.iter().filter(|_| !replaced) {
            both.set(setting.flag, value.as_deref())?;
        }
    }
    both.words(words.into_iter())?;
    both.args()
}

/// What has been read so far.
#[derive(Default)]
struct State {
    args: LowArgs,
    /// For each exclusive group the option that was given.
    exclusive: HashMap<&'static str, &'static Flag>,
    /// Every option that was given.
    given: Vec<&'static Flag>,
    /// What the first word asks for, where it is a command.
    command: Option<&'static Command>,
}

impl State {
    fn words(&mut self, words: impl Iterator<Item = OsString>) -> Result<(), String> {
        let mut words = words.peekable();
        self.command = words.peek().and_then(|word| command(word));
        if self.command.is_some() {
            words.next();
        }
        while let Some(word) = words.next() {
            if word == "--" {
                self.args.command = Some(words.by_ref().collect());
                break;
            }
            let word = utf8(word)?;
            if !looks_like_option(&word) {
                self.args.tests.push(word);
                continue;
            }
            self.option(&word, &mut words)?;
        }
        Ok(())
    }

    /// What all the words together say.
    fn args(mut self) -> Result<LowArgs, String> {
        let asks = matches!(self.args.action, Action::Help { .. } | Action::Version);
        if asks {
            return Ok(self.args);
        }
        let args = &mut self.args;
        if let Some(command) = self.command {
            command.has(&self.given)?;
            let operands = std::mem::take(&mut args.tests);
            args.action = command.action(operands)?;
            if args.command.is_some() {
                return Err(format!("no program can follow check {}", command.usage));
            }
        }
        let is_replay = matches!(args.action, Action::Replay(_));
        for (given, option, with, there) in [
            (
                args.shard_times.is_some(),
                "--shard-times",
                "--shard",
                args.shard.is_some(),
            ),
            (
                args.junit_failures_only,
                "--junit-failures-only",
                "--junit",
                args.junit.is_some(),
            ),
            (
                args.qemu_source.is_some(),
                "--qemu-source",
                "--affected-by",
                args.affected_by.is_some(),
            ),
            (
                !args.recordings.is_empty(),
                "--recording",
                "--coverage-report",
                matches!(args.action, Action::CoverageReport(_)),
            ),
            (
                args.extract.is_some(),
                "--extract",
                "the command replay",
                is_replay,
            ),
        ] {
            if given && !there {
                return Err(format!("argument {option}: only with {with}"));
            }
        }
        let reports =
            args.tap || args.junit.is_some() || args.json.is_some() || args.html.is_some();
        if args.extract.is_some() && reports {
            return Err("argument --extract: not with a report".to_owned());
        }
        conflicts::check(&self.args)?;
        Ok(self.args)
    }

    /// Takes the option `word`, and its value from `words` where that is a word
    /// of its own.
    fn option(
        &mut self,
        word: &str,
        words: &mut dyn Iterator<Item = OsString>,
    ) -> Result<(), String> {
        self.found(word, lookup(word)?, words)
    }

    /// Takes what was found in `word`.
    fn found(
        &mut self,
        word: &str,
        Found { flag, value }: Found<'_>,
        words: &mut dyn Iterator<Item = OsString>,
    ) -> Result<(), String> {
        match (flag.takes(), value) {
            (Takes::Nothing | Takes::Maybe, None) => self.set(flag, None),
            (Takes::Nothing, Some(Value::Rest(rest))) => {
                // Single letters may stand together: -nd is -n -d.
                let rest_word = format!("-{rest}");
                let (next, _) = single_letter(&rest_word).ok_or_else(|| ignored(flag, rest))?;
                self.set(flag, None)?;
                self.found(word, next, words)
            }
            (Takes::Nothing, Some(Value::Joined(v))) => Err(ignored(flag, v)),
            (Takes::Value, None) => {
                let next = words.next().filter(|w| w != "--").map(utf8).transpose()?;
                let value = next.filter(|w| !looks_like_option(w));
                let missing = || format!("argument {}: expected one argument", flag.title());
                self.set(flag, Some(&value.ok_or_else(missing)?))
            }
            (_, Some(Value::Rest(v))) if !flag.attached.is_none_or(|part| v.contains(part)) => {
                Err(unknown(word))
            }
            (_, Some(Value::Joined(v) | Value::Rest(v))) => self.set(flag, Some(v)),
        }
    }

    fn set(&mut self, flag: &'static Flag, value: Option<&str>) -> Result<(), String> {
        self.given.push(flag);
        if let Some(group) = flag.exclusive {
            let first = self.exclusive.entry(group).or_insert(flag);
            if !std::ptr::eq(*first, flag) {
                return Err(format!(
                    "argument {}: not allowed with argument {}",
                    flag.title(),
                    first.title()
                ));
            }
        }
        (flag.effect)(&mut self.args, value).map_err(|e| format!("argument {}: {e}", flag.title()))
    }
}

/// An option as found in a word.
struct Found<'w> {
    flag: &'static Flag,
    value: Option<Value<'w>>,
}

/// The value that stands in the same word.
enum Value<'w> {
    /// After `=`.
    Joined(&'w str),
    /// Directly after a single letter.
    Rest(&'w str),
}

/// Whether argparse would take a word for an option: a lone `-`, negative
/// numbers and words with blanks that no option accepts are arguments.
fn looks_like_option(word: &str) -> bool {
    let Some(rest) = word.strip_prefix('-') else {
        return false;
    };
    let numeric = !rest.is_empty()
        && rest.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && rest.parse::<f64>().is_ok();
    !(rest.is_empty() || numeric || (word.contains(' ') && lookup(word).is_err()))
}

fn lookup(word: &str) -> Result<Found<'_>, String> {
    let exact = |w: &str| flags().find(|f| f.words().any(|word| word == w));
    if let Some(flag) = exact(word) {
        return Ok(Found { flag, value: None });
    }
    let (name, joined) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    if let (Some(flag), Some(value)) = (exact(name), joined) {
        return Ok(Found {
            flag,
            value: Some(Value::Joined(value)),
        });
    }
    let mut matches = abbreviated(name, joined);
    if !word.starts_with("--") {
        matches.extend(single_letter(word));
    }
    // What was unambiguous for QEMU's runner stays so: its options go first.
    let classic = matches.iter().filter(|(f, _)| f.flag.classic).count();
    if classic > 0 {
        matches.retain(|(f, _)| f.flag.classic);
    }
    match matches.len() {
        0 => Err(unknown(name)),
        1 => Ok(matches.remove(0).0),
        _ => {
            let could: Vec<_> = matches.iter().map(|(_, word)| *word).collect();
            Err(format!(
                "ambiguous option: {word} could match {}",
                could.join(", ")
            ))
        }
    }
}

/// Options one of whose words begins with `name`.
fn abbreviated<'w>(name: &str, joined: Option<&'w str>) -> Vec<(Found<'w>, &'static str)> {
    let mut found = Vec::new();
    for flag in flags() {
        for word in flag.words() {
            if word.len() > 2 && name.len() > 1 && word.starts_with(name) {
                let value = joined.map(Value::Joined);
                found.push((Found { flag, value }, word));
            }
        }
    }
    found
}

/// The option whose single letter `word` begins with: `-j4`, `-nd`.
fn single_letter(word: &str) -> Option<(Found<'_>, &'static str)> {
    let (letter, rest) = word.split_at_checked(2)?;
    flags().find_map(|flag| {
        let name = flag.words().find(|w| *w == letter)?;
        let value = match rest.strip_prefix('=') {
            Some(value) => Some(Value::Joined(value)),
            None => (!rest.is_empty()).then_some(Value::Rest(rest)),
        };
        Some((Found { flag, value }, name))
    })
}

fn ignored(flag: &Flag, value: &str) -> String {
    format!(
        "argument {}: ignored explicit argument '{value}'",
        flag.title()
    )
}

fn unknown(name: &str) -> String {
    let words = flags().flat_map(Flag::words).filter(|w| w.len() > 2);
    let words: Vec<&str> = words.collect();
    let near = match nearest(name, words.iter().copied()) {
        Some(near) => vec![near],
        None => alike(name, &words),
    };
    if near.is_empty() {
        return format!("unrecognized arguments: {name}");
    }
    let near = near.join(", ");
    format!("unrecognized arguments: {name} (did you mean {near}?)")
}

/// The words that begin like `name` for longest, if for more than a letter.
fn alike<'w>(name: &str, words: &[&'w str]) -> Vec<&'w str> {
    let common = |word: &str| {
        let pairs = name.chars().zip(word.chars());
        pairs.take_while(|(a, b)| a == b).count()
    };
    let dashes = name.chars().take_while(|c| *c == '-').count();
    let longest = words.iter().map(|word| common(word)).max().unwrap_or(0);
    let enough = longest >= dashes + 2;
    let alike = words.iter().copied();
    alike
        .filter(|word| enough && common(word) == longest)
        .collect()
}

fn utf8(word: OsString) -> Result<String, String> {
    word.into_string()
        .map_err(|w| format!("argument is not UTF-8: {}", w.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::args::low::Color;

    fn ok(line: &str) -> LowArgs {
        parse(
            line.split(' ')
                .filter(|w| !w.is_empty())
                .map(OsString::from),
        )
        .unwrap_or_else(|e| panic!("{line}: {e}"))
    }

    fn err(line: &str) -> String {
        parse(line.split(' ').map(OsString::from)).expect_err(line)
    }

    #[test]
    fn single_dash_words_are_read_whole() {
        let a = ok("-qcow2 -nbd -nocache -gdb -valgrind -misalign -tap -d -p -n");
        assert_eq!(a.format.as_deref(), Some("qcow2"));
        assert_eq!(a.protocol.as_deref(), Some("nbd"));
        assert_eq!(a.cache.as_deref(), Some("none"));
        assert!(a.gdb && a.valgrind && a.misalign && a.tap);
        assert!(a.debug && a.print && a.dry_run);
    }

    #[test]
    fn options_and_tests_mix_in_any_order() {
        let a = ok("001 -qcow2 30 -j 4 named --color=on x");
        assert_eq!(a.tests, ["001", "30", "named", "x"]);
        assert_eq!((a.jobs, a.color), (Some(4), Color::On));
    }

    #[test]
    fn values_may_be_joined() {
        for line in ["-j4", "-j 4", "-j=4"] {
            assert_eq!(ok(line).jobs, Some(4), "{line}");
        }
        for (line, jobs) in [("-j 1", 1), ("-j 0", 0), ("-j -1", -1)] {
            assert_eq!(ok(line).jobs, Some(jobs), "{line}");
        }
        assert_eq!(ok("-grw,auto").groups, ["rw", "auto"]);
        assert_eq!(ok("-nd -np"), ok("-n -d -p"));
        assert_eq!(ok("-dj4"), ok("-d -j 4"));
        assert_eq!(ok("-dgdb"), ok("-d -g db"));
        assert!(err("-nqcow2").contains("ignored explicit argument 'qcow2'"));
        assert_eq!(ok("-o a=b").options.as_deref(), Some("a=b"));
    }

    #[test]
    fn unambiguous_beginnings_are_enough() {
        assert_eq!(ok("--gr rw").groups, ["rw"]);
        assert_eq!(ok("--col=off").color, Color::Off);
        assert_eq!(ok("-val"), ok("-valgrind"));
        assert_eq!(ok("-t -b"), ok("-tap -bochs"));
        assert!(
            err("--s 1")
                .starts_with("ambiguous option: --s could match --source-dir, --start-from")
        );
        assert!(err("-qc").contains("-qcow, -qcow2"));
        assert!(err("-nf").contains("-nfs"));
    }

    #[test]
    fn new_options_leave_old_abbreviations_alone() {
        assert!(ok("--d").dry_run);
        assert_eq!(ok("--c on").color, Color::On);
        assert_eq!(ok("--b x").build_dir, Some("x".into()));
        assert_eq!(ok("--ex rw").exclude_groups, ["rw"]);
        assert_eq!(ok("--he").action, Action::Help { long: true });
        assert_eq!(ok("--rep 3").repeat, Some(3));
    }

    #[test]
    fn at_most_one_of_a_kind() {
        assert_eq!(
            err("-qcow2 -raw"),
            "argument -raw: not allowed with argument -qcow2"
        );
        assert!(err("-nocache -c none").contains("argument -c: not allowed with"));
        assert!(err("-nbd --protocols file").contains("not allowed with argument -nbd"));
        assert_eq!(ok("-qcow2 -qcow2").format.as_deref(), Some("qcow2"));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(err("-j"), "argument -j: expected one argument");
        assert_eq!(err("-j -qcow2"), "argument -j: expected one argument");
        assert_eq!(err("-j x"), "argument -j: invalid int value: 'x'");
        assert!(err("--color red").contains("choose from 'on', 'off', 'auto'"));
        assert!(err("--colour").contains("did you mean --color?"));
        assert!(err("--dry-run=1").contains("ignored explicit argument '1'"));
        assert!(err("-zzz").starts_with("unrecognized arguments: -zzz"));
    }

    /// `-nope` was once `-n -o pe`: `make check-block-nope` listed names and was fine.
    #[test]
    fn misspelt_words_are_not_letters_with_values() {
        assert_eq!(
            err("-nope"),
            "unrecognized arguments: -nope (did you mean -nocache?)"
        );
        for line in ["-oops", "-dope", "-npope"] {
            let want = format!("unrecognized arguments: {line}");
            assert!(err(line).starts_with(&want), "{line}: {}", err(line));
        }
        assert_eq!(ok("-ocompat=0.10"), ok("-o compat=0.10"));
        assert_eq!(ok("-do compat6"), ok("-d -o compat6"));
        assert!(err("-nice").starts_with("argument -i: invalid choice: 'ce'"));
    }

    #[test]
    fn modes_and_times_are_those_there_are() {
        assert_eq!(ok("-c off").cache.as_deref(), Some("off"));
        for (line, want) in [
            (
                "-c nnoe",
                "argument -c: invalid choice: 'nnoe' (choose from 'none', 'writeback', \
                 'writethrough', 'directsync', 'unsafe')",
            ),
            (
                "-i uring",
                "argument -i: invalid choice: 'uring' (choose from 'threads', 'native', \
                 'io_uring')",
            ),
            (
                "--timeout 5m",
                "argument --timeout: invalid time: '5m' (whole seconds up to 31536000; 0 for no \
                 limit)",
            ),
            ("--timeout -1", "argument --timeout: invalid time: '-1'"),
            (
                "--timeout 31536001",
                "argument --timeout: invalid time: '31536001'",
            ),
        ] {
            assert!(err(line).starts_with(want), "{line}: {}", err(line));
        }
    }

    #[test]
    fn a_command_follows_two_dashes() {
        let a = ok("-qcow2 -- qemu-img -raw --help");
        let command: Vec<OsString> = ["qemu-img", "-raw", "--help"].map(OsString::from).into();
        assert_eq!(a.command, Some(command));
        assert_eq!(ok("--").command, Some(vec![]));
    }

    #[test]
    fn optional_values_are_joined_or_absent() {
        assert_eq!(ok("--bless 001").bless, Some(None));
        assert_eq!(ok("--bless=raw").bless, Some(Some("raw".into())));
        assert_eq!(ok("--shuffle=7").shuffle, Some(Some(7)));
    }

    proptest! {
        #[test]
        fn no_line_panics(words in prop::collection::vec("-{0,2}[a-z0-9=é ]{0,9}", 0..6)) {
            let _ = parse(words.into_iter().map(OsString::from));
        }

    }

    #[test]
    fn every_flag_is_found_by_its_words() {
        for flag in flags() {
            for word in flag.words() {
                assert!(std::ptr::eq(lookup(word).unwrap().flag, flag), "{word}");
            }
        }
    }
}
