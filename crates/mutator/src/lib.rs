#![doc = include_str!("../README.md")]

#[cfg(any(feature = "afl", feature = "libfuzzer", feature = "c-api"))]
pub mod abi;
mod cross_over;
mod decoded;
mod dictionary;
mod fresh;
mod havoc;
pub mod libfuzzer;
mod mutator;
mod options;
mod origins;
mod repair;
mod summary;
mod trim;

pub use dictionary::dictionary;
pub use fresh::seeds;
pub use image_formats::Format;
pub use mutator::Mutator;
pub use options::{Options, OptionsError};
pub use repair::repaired;
pub use trim::Trim;
