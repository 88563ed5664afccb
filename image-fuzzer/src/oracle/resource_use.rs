//! Too much memory, disk, output or too many processes for the image.

use super::shell::Script;
use super::{Class, Oracle, Verdict};
use crate::commands::Command;
use crate::exec::{End, Limit, Limits, Observation};
use crate::signature::Signature;

/// The oracle.
pub(super) struct ResourceUse;

impl Oracle for ResourceUse {
    /// Judges by the limit a run was ended at. The limits are far above what an image of some
    /// hundred kilobytes can need.
    fn judge(&self, command: &Command, seen: &Observation) -> Verdict {
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
            Class::ResourceUse,
            Signature::aspect(word, command.group_verb()),
            format!("went over the {word} limit{amount}"),
        ))
    }

    fn variables(&self, limits: &Limits) -> String {
        format!(
            "before=\n\
             end_by=KILL\n\
             most_kib={}\nmost_disk_kib={}\nmost_printed={}\n",
            limits.memory >> 10,
            limits.disk_growth >> 10,
            limits.output
        )
    }

    fn verdict(&self, script: &Script<'_>) -> String {
        format!(
            "peak=0\n\
             over() {{\n\
             \x20   now=$(sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p' \"/proc/$pid/status\" 2>/dev/null)\n\
             \x20   [ \"${{now:-0}}\" -gt \"$peak\" ] && peak=$now\n\
             \x20   disk=$(du -sk . | cut -f 1)\n\
             \x20   printed=$(wc -c <printed)\n\
             \x20   [ \"$peak\" -gt \"$most_kib\" ] || [ \"$disk\" -gt \"$most_disk_kib\" ] ||\n\
             \x20       [ \"$printed\" -gt \"$most_printed\" ]\n\
             }}\n\
             watch() {{\n\
             \x20   pid=$!\n\
             \x20   while kill -0 \"$pid\" 2>/dev/null; do\n\
             \x20       if over; then kill -KILL \"$pid\"; break; fi\n\
             \x20       sleep 0.1\n\
             \x20   done\n\
             }}\n\
             {} >printed 2>&1\n\
             over\n\
             status=$?\n\
             echo \"memory $peak KiB, disk $disk KiB, output $printed bytes\"\n\
             exit \"$status\"\n",
            script.line
        )
    }

    fn is_testable(&self) -> bool {
        false
    }
}

/// The limit's word.
pub(super) fn limit_word(limit: Limit) -> &'static str {
    match limit {
        Limit::Cpu => "CPU time",
        Limit::Memory => "memory",
        Limit::Processes => "process",
        Limit::Output => "output",
        Limit::DiskGrowth => "disk",
    }
}
