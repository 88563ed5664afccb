//! A suite in one file that runs without sources, cargo or unpacking tools.
//!
//! The file is the runner itself, with the rest appended; `format` tells how. It is
//! unpacked beside the scratch directory, into a folder that is named after the contents,
//! and the runner there is started. That folder is compared with the archive each time, so
//! a later run uses it and none trusts what was changed.

mod contents;
mod elf;
mod format;
mod pack;
mod unpack;

pub use contents::Contents;
pub use format::Archive;
pub use pack::write;
pub use unpack::{Unpacked, unpacked_here};

/// The runner in an unpacked archive.
const RUNNER: &str = "check";

/// The program with the tests in an unpacked archive, beside the runner.
const TESTS: &str = "iotest";

/// The file in an unpacked archive that lists the others.
const LIST: &str = "contents";
