//! Commands: first words that ask for something other than a run of tests.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::low::Action;

/// A command.
#[derive(Debug)]
pub(super) struct Command {
    /// How the help shows it: its word and its operands.
    pub(super) usage: &'static str,
    /// What it does, in a line.
    pub(super) short: &'static str,
    /// More of it, for `--help`.
    pub(super) long: &'static str,
    /// Reads its operands.
    read: fn(Vec<PathBuf>) -> Option<Action>,
}

/// Every command there is.
pub(super) static COMMANDS: &[Command] = &[Command {
    usage: "archive FILE",
    short: "write this suite, as built, to a program that runs elsewhere",
    long: "FILE -qcow2 -g quick runs it on another machine: without cargo, sources or \
           unpacking tools, with the image tools that are there. It holds the runner, the tests, \
           references, groups and profiles, and runs in a folder beside TEST_DIR. \
           FILE --version tells what it is.",
    read: |operands| Some(Action::Archive(one(operands)?)),
}];

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
}

/// The only operand.
fn one(operands: Vec<PathBuf>) -> Option<PathBuf> {
    let [operand] = <[PathBuf; 1]>::try_from(operands).ok()?;
    Some(operand)
}
