//! The description of an image, and its builder.

mod build;
mod spec;

pub use build::build;
pub use spec::{Compression, Directory, FEATURES, Spec};
