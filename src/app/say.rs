//! The one place that writes plain text to stdout and errors to stderr.

use std::io::Write;

use anyhow::Context;

use crate::report::unless_gone;

/// Writes `text` to stdout. A closed pipe is not an error.
///
/// # Errors
///
/// It cannot be written.
pub fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    unless_gone(written).context("cannot write to standard output")
}

/// Writes a line that begins with the program's name to stderr.
pub(super) fn error(text: &str) {
    // Errors on stderr cannot be reported.
    let _ = writeln!(std::io::stderr(), "check: {text}");
}

/// Asks a question on the terminal; whether the answer is yes.
///
/// # Errors
///
/// The answer cannot be read.
pub(super) fn ask(question: &str) -> anyhow::Result<bool> {
    let _ = write!(std::io::stderr(), "check: {question}");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
