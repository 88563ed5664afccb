//! The description of an image, and its builder.

mod build;
mod log;
mod places;
mod spec;

pub use build::build;
pub use spec::{Block, BlockState, FEATURES, Headers, Log, LogWrite, Parent, Spec};
