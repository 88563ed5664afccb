//! A sanitizer had something to say, also where the exit status is an ordinary one.

use super::shell::{Script, is_reported};
use super::{Class, Oracle, Verdict, end_word};
use crate::commands::Command;
use crate::exec::{End, Observation};
use crate::signature::{self, DEPTH};

/// The oracle.
pub(super) struct Sanitizer;

impl Oracle for Sanitizer {
    /// Judges by the report the executor collected, or one on the error output.
    fn judge(&self, _command: &Command, seen: &Observation) -> Verdict {
        let text = seen.sanitizer.as_deref().unwrap_or(&seen.stderr);
        let report = signature::sanitizer(text)?;
        let ordinary = matches!(seen.end, End::Exit(_));
        let note = if ordinary { ", an ordinary status" } else { "" };
        Some((
            Class::Sanitizer,
            report.signature(DEPTH),
            format!("{}; {}{note}", report.kind, end_word(&seen.end)),
        ))
    }

    fn verdict(&self, script: &Script<'_>) -> String {
        format!(
            "{} 2>report\nstatus=$?\n\
             cat report >&2\n\
             echo \"status $status\"\n\
             grep -q -e 'Sanitizer: ' -e 'runtime error: ' report{}\n",
            script.line,
            is_reported(&script.signature.to_string())
        )
    }
}
