//! The rules of the format.

mod blocks;
mod footer;
mod sparse;
pub(super) mod table;

use super::layout::{FIXED, Layout};
use crate::checker::Checker;
use crate::store::Store;

pub use table::RULES;

/// Checks the rules of an image.
pub(super) fn check(source: &Store, checker: &mut Checker) {
    let layout = Layout::read(source);
    footer::check(source, &layout, checker);
    if layout.kind() != FIXED
        && let Some(dynamic) = layout.dynamic
    {
        sparse::check(source, &layout, &dynamic, checker);
        blocks::check(source, &layout, &dynamic, checker);
    }
}

#[cfg(test)]
mod tests;
