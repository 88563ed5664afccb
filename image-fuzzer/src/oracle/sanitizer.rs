//! A sanitizer had something to say, also where the exit status is an ordinary one.

use super::{Class, Verdict, end_word};
use crate::exec::{End, Observation};
use crate::signature::{self, DEPTH};

/// Judges by the report the executor collected, or one on the error output.
pub(super) fn judge(seen: &Observation) -> Verdict {
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
