//! From a description to a valid image, and what follows from other fields put right.

pub(crate) mod build;
pub(crate) mod derived;
mod head;
mod plan;
pub(crate) mod recompute;
pub(crate) mod spec;
