//! Checking the rules of the format.

mod esx;
mod grains;
mod hosted;
mod text;

use super::fields::descriptor;
use super::layout::{SECTOR, Shape};
use super::rules::PADDING;
use crate::checker::Checker;
use crate::store::Store;

/// Checks the rules of a file of an image.
pub(super) fn check(source: &Store, checker: &mut Checker) {
    let shape = Shape::of(source);
    if let Some(descriptor) = descriptor(source) {
        text::check(&descriptor, shape == Shape::Descriptor, checker);
    }
    match shape {
        Shape::Descriptor => {}
        Shape::Hosted => hosted::check(source, checker),
        Shape::Cowd => esx::cowd(source, checker),
        Shape::Se => esx::se(source, checker),
    }
}

/// Bytes `at` to `at + len` must be zeros.
fn zeros(source: &Store, (path, at, len): (&str, u64, u64), checker: &mut Checker) {
    let bytes = source.read_vec(at, len.min(4 * SECTOR) as usize);
    let clean = bytes.iter().all(|byte| *byte == 0);
    checker.require(clean, (path, at, PADDING), || "must be zeros".to_owned());
}

#[cfg(test)]
mod tests;
