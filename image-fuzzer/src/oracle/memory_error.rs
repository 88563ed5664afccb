//! The guarding allocator saw an access outside a block of memory, or a wrong free.

use super::shell::Script;
use super::{Class, Oracle, Verdict};
use crate::commands::{Command, quote};
use crate::exec::Observation;
use crate::signature::{self, Signature};

/// The oracle.
pub(super) struct MemoryError;

impl Oracle for MemoryError {
    /// Judges by the guard's line, however the program ended.
    fn judge(&self, _command: &Command, seen: &Observation) -> Verdict {
        let report = signature::guard(&seen.stderr)?;
        Some((Class::MemoryError, report.signature(), report.summary()))
    }

    fn verdict(&self, script: &Script<'_>) -> String {
        // The frames are those of one build.
        let kind = match script.signature {
            Signature::MemoryError { kind, .. } => kind.as_str(),
            _ => "",
        };
        let words = [" past", " before", " into", " of"];
        let start = words.iter().filter_map(|word| kind.find(word)).min();
        let what = format!(
            "image-fuzzer guard: {}",
            &kind[..start.unwrap_or(kind.len())]
        );
        format!(
            "{} 2>report\nstatus=$?\n\
             cat report >&2\n\
             echo \"status $status\"\n\
             # valgrind has words of its own.\n\
             grep -q -e {} -e '^==.*Invalid ' -e '^==.*Mismatched free' report\n",
            script.line,
            quote(&what)
        )
    }

    fn is_testable(&self) -> bool {
        false
    }
}
