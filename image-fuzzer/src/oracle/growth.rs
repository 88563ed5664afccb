//! Memory, disk, output or processes out of proportion to the image.

use super::{Class, Verdict};
use crate::commands::Command;
use crate::exec::{End, Limit, Observation};
use crate::signature::Signature;

/// Judges by the limit a run was ended at. The limits stand far above what an
/// image of some hundred kilobytes can need.
pub(super) fn judge(command: &Command, seen: &Observation) -> Verdict {
    let End::OverLimit(limit) = seen.end else {
        return None;
    };
    let word = limit_word(limit);
    let amount = match limit {
        Limit::Memory => format!(": {} MiB resident", seen.max_rss >> 20),
        Limit::DiskGrowth => format!(": {} MiB more on disk", seen.disk_growth >> 20),
        Limit::Output => format!(
            ": {} KiB printed",
            (seen.stdout.len() + seen.stderr.len()) >> 10
        ),
        Limit::Cpu | Limit::Processes => String::new(),
    };
    Some((
        Class::Growth,
        Signature::aspect(word, command.group_verb()),
        format!("went over the {word} limit{amount}"),
    ))
}

/// The limit's word.
pub(super) fn limit_word(limit: Limit) -> &'static str {
    match limit {
        Limit::Cpu => "processor time",
        Limit::Memory => "memory",
        Limit::Processes => "process",
        Limit::Output => "output",
        Limit::DiskGrowth => "disk",
    }
}
