//! The one place that writes plain text to stdout and errors to stderr.

use std::io::{ErrorKind, Write};

/// Writes `text` to stdout. A reader that has gone has read enough.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(e) = written
        && e.kind() != ErrorKind::BrokenPipe
    {
        error(&format!("cannot write to stdout: {e}"));
    }
}

/// Writes a line that begins with the program's name to stderr.
pub(super) fn error(text: &str) {
    // Without a stderr there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "check: {text}");
}
