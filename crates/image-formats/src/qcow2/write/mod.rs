//! From a description to a valid image.

pub(crate) mod build;
mod head;
mod plan;
pub(crate) mod recompute;
pub(crate) mod spec;
