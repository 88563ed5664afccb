//! Commands: first words that ask for something other than a run of tests.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::flag::Flag;
use super::low::Action;

/// A command.
#[derive(Debug)]
pub struct Command {
    /// How the help shows it: its word and its operands.
    pub usage: &'static str,
    /// What it does, in a line.
    pub short: &'static str,
    /// More of it, for `--help`.
    pub long: &'static str,
    /// The options that it has, each by one of its words.
    options: &'static [&'static str],
    /// Reads its operands.
    read: fn(Vec<PathBuf>) -> Option<Action>,
}

/// Every command there is.
pub(super) static COMMANDS: &[Command] = &[
    Command {
        usage: "archive FILE",
        short: "write this suite, as built, to a program that runs elsewhere",
        long: "FILE -qcow2 -g quick runs it on another machine: without cargo, sources or \
             unpacking tools, with the image tools that are there. It holds the runner, the \
             tests, references, groups and profiles, and runs in a folder beside TEST_DIR. \
             FILE --version tells what it is.",
        options: &["--source-dir"],
        read: |operands| Some(Action::Archive(one(operands)?)),
    },
    Command {
        usage: "replay FILE",
        short: "show a run again, from its file of --record or --json",
        long: "As the terminal showed it, or with -tap, --junit, --html, --json as these would \
             have. The exit status is that of the run; a run that was killed is shown as \
             interrupted. With --extract DIR the files in a record (outputs, core files) are \
             unpacked and listed instead. Needs no tests, QEMU or build.",
        options: &[
            "--color",
            "-tap",
            "--junit",
            "--junit-failures-only",
            "--json",
            "--html",
            "--trace",
            "--extract",
        ],
        read: |operands| Some(Action::Replay(one(operands)?)),
    },
    Command {
        usage: "merge-results FILE...",
        short: "make one run of several, from their files of --record or --json",
        long: "For shards and for runs on several machines. Header lines that differ name \
             their file; the same test under the same combination in two files is shown as two \
             repetitions; the time is from the first start to the last end. A shard that is \
             missing is named, and makes the exit status 1; else it is that of a run.",
        options: &[
            "--color",
            "-tap",
            "--junit",
            "--junit-failures-only",
            "--json",
            "--html",
            "--trace",
        ],
        read: |operands| (!operands.is_empty()).then_some(Action::MergeResults(operands)),
    },
];

/// Every command there is.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter()
}

/// The command that `word` is, if it is one.
pub(super) fn command(word: &OsStr) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.word() == word)
}

impl Command {
    fn word(&self) -> &'static str {
        self.usage.split(' ').next().unwrap_or(self.usage)
    }

    /// What it asks for, given its operands.
    pub(super) fn action(&self, operands: Vec<String>) -> Result<Action, String> {
        let operands = operands.into_iter().map(PathBuf::from).collect();
        (self.read)(operands).ok_or_else(|| format!("usage of this command: check {}", self.usage))
    }

    /// Checks that it has all of the options `given`.
    pub(super) fn has(&self, given: &[&Flag]) -> Result<(), String> {
        let known = |flag: &&&Flag| flag.words().any(|word| self.options.contains(&word));
        match given.iter().find(|flag| !known(flag)) {
            None => Ok(()),
            Some(flag) => Err(format!(
                "argument {}: check {} does not have it (it has {})",
                flag.title(),
                self.word(),
                self.options.join(" ")
            )),
        }
    }
}

/// The only operand.
fn one(operands: Vec<PathBuf>) -> Option<PathBuf> {
    let [operand] = <[PathBuf; 1]>::try_from(operands).ok()?;
    Some(operand)
}
