//! The program exited, but only after a multiple of its time limit. The run that finds out
//! whether it hangs tells ([`super::hang`]).

use super::shell::Script;
use super::{Oracle, hang};
use crate::exec::Limits;

/// The oracle.
pub(super) struct Slow;

impl Oracle for Slow {
    fn is_hang(&self) -> bool {
        true
    }

    fn variables(&self, limits: &Limits) -> String {
        hang::time_limit(limits)
    }

    fn verdict(&self, script: &Script<'_>) -> String {
        format!(
            "start=$(date +%s)\n\
             {}\n\
             seconds=$(($(date +%s) - start))\n\
             echo \"$seconds s\"\n\
             [ \"$seconds\" -ge {} ]\n",
            script.line,
            script.limits.wall.as_secs()
        )
    }

    fn is_testable(&self) -> bool {
        false
    }
}
