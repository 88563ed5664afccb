//! Naming the group a violation belongs to.

use anyhow::Result;

use super::Key;
use crate::input::recipe::Recipe;
use crate::named_file::NamedFile;
use crate::oracle::runner::{Outcome, TestRunner};
use crate::oracle::{Class, Violation};

/// How many frames of a stack tell one crash from another.
pub(crate) const DEPTH: usize = 3;

/// How many do where the innermost is known to the byte: which way it came to the same
/// instruction is then the same fault.
pub(crate) const DEPTH_EXACT: usize = 2;

/// What parts the signal, or [`STUCK`], from the stack in the name of a group.
pub(crate) const IN: &str = " in ";

/// What the names of hangs begin with whose stack is known. The command is not in them: an
/// image that a program hangs at when it opens it hangs every command.
pub(crate) const STUCK: &str = "stuck";

/// The groups of an outcome's violations. A crash without a word is named by its
/// stack, for which the command runs once more under a debugger.
///
/// Fails where the commands cannot be run again.
pub fn name(
    runner: &mut TestRunner,
    recipe: &Recipe,
    files: &[NamedFile],
    outcome: &Outcome,
) -> Result<Vec<Key>> {
    outcome
        .violations
        .iter()
        .map(|violation| {
            let mut key = Key::of(violation);
            if is_vague(violation)
                && let Some(frames) =
                    runner.site_of_crash(recipe, files, outcome, violation.command)?
            {
                key.site = format!("{}{IN}{frames}", key.site);
            }
            Ok(key)
        })
        .collect()
}

/// The groups of an outcome's violations as far as they can be told at once.
pub fn coarse(outcome: &Outcome) -> Vec<Key> {
    outcome.violations.iter().map(Key::of).collect()
}

/// What [`coarse`] says of a fault of this group when limits are short.
pub fn coarse_of(key: &Key) -> Key {
    let mut key = key.clone();
    if key.class == Class::Slow {
        key.class = Class::Hang;
    }
    let by_stack = match key.class {
        Class::Crash => key.site.starts_with("SIG"),
        Class::Hang => true,
        _ => false,
    };
    if by_stack && let Some((signal, _)) = key.site.split_once(IN) {
        key.site = signal.to_owned();
    }
    key
}

/// Whether a violation says no more than that there was a signal.
fn is_vague(violation: &Violation) -> bool {
    violation.class == Class::Crash && violation.site.starts_with("SIG")
}
