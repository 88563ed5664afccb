//! The rules of the format.

mod bat;
mod headers;
mod metadata;
mod regions;
pub(super) mod table;

use super::layout::Layout;
use super::log::Replay;
use crate::checker::Checker;
use crate::store::Store;

pub use table::RULES;

/// Checks the rules of an image.
pub(super) fn check(source: &Store, checker: &mut Checker) {
    headers::check(source, checker);
    let replay = Replay::of(source);
    headers::check_replay(source, &replay, checker);
    // What a reader sees is what the log leaves.
    let bytes = replay.bytes(source);
    let layout = Layout::read(&bytes);
    regions::check(&bytes, &layout, checker);
    metadata::check(&bytes, &layout, checker);
    bat::check(&bytes, &layout, checker);
}

#[cfg(test)]
mod tests;
