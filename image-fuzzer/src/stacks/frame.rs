//! Frames of a stack, without what changes from one build or run to the next.

use std::fmt;

/// Functions on top of a stack that only carry out the end which another decided on.
const CARRYING_OUT: [&str; 21] = [
    "raise",
    "gsignal",
    "abort",
    "kill",
    "pthread_kill",
    "pthread_kill_implementation",
    "pthread_kill_internal",
    "pthread_kill@@GLIBC_2.34",
    "kernel_vsyscall",
    "assert_fail",
    "assert_fail_base",
    "assert",
    "g_logv",
    "g_log",
    "g_log_structured_array",
    "g_log_structured_standard",
    "g_log_default_handler",
    "g_assertion_message",
    "g_assertion_message_expr",
    "fortify_fail",
    "stack_chk_fail",
];

/// Functions at the bottom that are the same under every stack.
const STARTING: [&str; 10] = [
    "libc_start_call_main",
    "libc_start_main",
    "libc_start_main_impl",
    "start",
    "start_thread",
    "clone",
    "clone3",
    "start_context",
    "coroutine_trampoline",
    "qemu_thread_start",
];

/// Functions in which a program waits for what is to happen next. What they call to do so,
/// and what of it is seen, differs from look to look.
const WAITING: [&str; 18] = [
    "aio_poll",
    "bdrv_poll_co",
    "main_loop_wait",
    "g_main_context_iteration",
    "g_main_loop_run",
    "futex_wait",
    "futex_abstimed_wait_common64",
    "futex_abstimed_wait_common",
    "futex_abstimed_wait_cancelable64",
    "lll_lock_wait",
    "pthread_cond_wait",
    "pthread_cond_wait_common",
    "pthread_cond_timedwait",
    "pthread_clockjoin_ex",
    "pthread_join",
    "qemu_cond_wait_impl",
    "qemu_thread_join",
    "qemu_event_wait",
];

/// How far inside such a function a stack is looked for it.
const WITHIN: usize = 8;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The function, or `MODULE+0xOFFSET` where the program has no symbols.
    pub name: String,
    /// Source file, without the folders of a build, and line.
    pub place: Option<(String, u32)>,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.place {
            Some((file, line)) => write!(f, " ({file}:{line})"),
            None => Ok(()),
        }
    }
}

/// A stack, innermost frame first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Stack {
    /// The frames that tell something.
    pub frames: Vec<Frame>,
}

impl Stack {
    /// Drops what every stack has: the carrying out of an abort on top, the start of the
    /// program or thread at the bottom.
    #[must_use]
    pub fn new(mut frames: Vec<Frame>) -> Self {
        let is = |names: &[&str], frame: &Frame| {
            let name = frame.name.trim_start_matches('_');
            names.contains(&name.strip_prefix("GI_").unwrap_or(name))
        };
        let top = frames.iter().take_while(|f| is(&CARRYING_OUT, f)).count();
        frames.drain(..top);
        while frames.last().is_some_and(|frame| is(&STARTING, frame)) {
            frames.pop();
        }
        Self { frames }
    }

    /// Drops the waiting on top of a stack, where something is below it.
    pub(super) fn without_waiting(mut self) -> Self {
        let waits = |frame: &Frame| WAITING.contains(&frame.name.trim_start_matches('_'));
        let inner = &self.frames[..WITHIN.min(self.frames.len())];
        if let Some(outermost) = inner.iter().rposition(waits)
            && outermost + 1 < self.frames.len()
        {
            self.frames.drain(..=outermost);
        }
        self
    }

    /// What groups findings: the innermost `depth` functions, without lines, which change
    /// with every edit of the source. `None` for an empty stack.
    #[must_use]
    pub fn key(&self, depth: usize) -> Option<String> {
        let names: Vec<_> = self.frames.iter().map(|f| f.name.as_str()).collect();
        let names = names.get(..depth.min(names.len()))?;
        (!names.is_empty()).then(|| names.join(" < "))
    }
}

impl fmt::Display for Stack {
    /// One numbered frame a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, frame) in self.frames.iter().enumerate() {
            writeln!(f, "#{number} {frame}")?;
        }
        Ok(())
    }
}

/// A function's name without the marks that compilers and linkers add to it.
pub(super) fn function(name: &str) -> String {
    const MARKS: [&str; 7] = [
        ".part.",
        ".constprop.",
        ".isra.",
        ".cold",
        ".lto_priv.",
        ".llvm.",
        "@",
    ];
    let end = MARKS.iter().filter_map(|mark| name.find(mark)).min();
    // Only behind a name: a name may not begin with a mark.
    let name = match end {
        Some(end) if end > 0 => &name[..end],
        _ => name,
    };
    name.strip_prefix("__GI_").unwrap_or(name).to_owned()
}

/// A source file without the folders that only one build has: no `.` and `..`, and of an
/// absolute path the last two parts.
pub(super) fn file(path: &str) -> String {
    let parts: Vec<_> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "." | ".."))
        .collect();
    let keep = if path.starts_with('/') {
        2
    } else {
        parts.len()
    };
    parts[parts.len().saturating_sub(keep)..].join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(names: &[&str]) -> Stack {
        let frame = |name: &&str| Frame {
            name: function(name),
            place: None,
        };
        Stack::new(names.iter().map(frame).collect())
    }

    #[test]
    fn the_ends_of_a_stack_are_dropped() {
        let aborted = stack(&[
            "__pthread_kill_implementation",
            "__GI_raise",
            "__GI_abort",
            "__assert_fail_base",
            "__GI___assert_fail",
            "qcow2_free_clusters.part.0",
            "abort",
            "main",
            "__libc_start_call_main",
            "__libc_start_main_impl",
            "_start",
        ]);
        assert_eq!(
            aborted.key(9).as_deref(),
            Some("qcow2_free_clusters < abort < main")
        );
        assert_eq!(aborted.key(1).as_deref(), Some("qcow2_free_clusters"));
        assert_eq!(stack(&["raise", "abort"]).key(3), None);
    }

    #[test]
    fn files_lose_the_folders_of_a_build() {
        assert_eq!(file("../../block/qcow2.c"), "block/qcow2.c");
        assert_eq!(file("./block/qcow2.c"), "block/qcow2.c");
        assert_eq!(file("/build/x-1.2/block/qcow2.c"), "block/qcow2.c");
        assert_eq!(file(""), "");
    }

    #[test]
    fn names_lose_the_marks_of_compilers() {
        assert_eq!(function("f.constprop.0.isra.0"), "f");
        assert_eq!(function("memcpy@@GLIBC_2.14"), "memcpy");
        assert_eq!(function(".cold"), ".cold");
    }
}
