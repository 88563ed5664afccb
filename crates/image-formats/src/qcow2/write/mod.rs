//! From a description to a valid image.

pub(crate) mod build;
pub(crate) mod features;
mod head;
mod plan;
pub(crate) mod recompute;
pub(crate) mod spec;
