//! Reporters: what people, harnesses and later tools are told of a run.

use std::path::PathBuf;

use crate::history::Previous;
use crate::model::Reporter;

#[cfg(test)]
pub(crate) mod sample;

/// When the console is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Color {
    /// Always.
    On,
    /// Never.
    Off,
    /// When stdout is a terminal.
    #[default]
    Auto,
}

/// Which reports are made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// When the console is coloured.
    pub color: Color,
    /// TAP version 13 on stdout in place of the console's lines.
    pub tap: bool,
    /// Where a JUnit file is written.
    pub junit: Option<PathBuf>,
    /// Where JSON events are written, one a line.
    pub json: Option<PathBuf>,
    /// The directory in which `index.html` is written.
    pub html: Option<PathBuf>,
    /// The run before this one, for comparison
    /// ([`crate::history::History::previous`]).
    pub previous: Option<Previous>,
}

/// Makes the reporters that `options` ask for, the console (or TAP) among them.
///
/// # Errors
/// A file or directory that cannot be made, with its path.
pub fn build(options: &Options) -> anyhow::Result<Vec<Box<dyn Reporter>>> {
    let _ = options;
    Ok(Vec::new())
}
