//! What a person needs of the stacks that [`crate::stacks`] wrote: programs first, without
//! the frames that say nothing.

use std::fmt::Write as _;

/// The most characters of a frame or command line that are kept.
const LINE: usize = 240;

/// Functions that begin a thread or a program.
const BEGINNINGS: [&str; 6] = [
    "start_thread",
    "clone",
    "clone3",
    "__clone",
    "__clone3",
    "_start",
];

/// Functions of QEMU, besides those of the C library, between a thread that waits for work
/// and what it waits in.
const WAITS_OF_QEMU: [&str; 10] = [
    "??",
    "call_rcu_thread",
    "qemu_cond_timedwait_impl",
    "qemu_cond_wait_impl",
    "qemu_event_wait",
    "qemu_futex_wait",
    "qemu_sem_timedwait",
    "qemu_sem_wait",
    "qemu_thread_start",
    "worker_thread",
];

/// Beginnings of the names of what threads wait for work in.
const WAITS: [&str; 6] = [
    "pthread_cond_timedwait",
    "pthread_cond_wait",
    "pthread_cond_clockwait",
    "sem_timedwait",
    "sem_wait",
    "syscall",
];

/// Namespaces of a Rust program's runtime.
const RUNTIMES: [&str; 8] = [
    "tokio::", "core::", "std::", "std[", "alloc::", "mio::", "<core::", "futures",
];

/// The stacks `raw`, folded: programs whose name begins with `qemu` first, each with its
/// command line; their frames without those of the C library's inside and of the start of
/// threads; threads that wait for work in a line; and of every other process a line on what
/// it waits in, with its own frames. What is not understood is kept.
#[must_use]
pub fn fold_stacks(raw: &str) -> String {
    let processes: Vec<Process<'_>> = sections(raw).map(Process::read).collect();
    let (programs, others): (Vec<_>, Vec<_>) = processes.iter().partition(|p| p.is_program());
    let mut text = String::new();
    for program in &programs {
        program.show(&mut text);
    }
    for other in &others {
        other.show_short(&mut text);
    }
    let mut unnamed: Vec<&str> = Vec::new();
    for program in programs.iter().filter(|p| p.has_unnamed()) {
        if !unnamed.contains(&program.file()) {
            unnamed.push(program.file());
        }
    }
    if !unnamed.is_empty() {
        let files = unnamed.join(" ");
        let _ = writeln!(
            text,
            "\n?? has no name: install debug symbols (Debian, Ubuntu: 'find-dbgsym-packages {files}' \
             names the packages; Fedora: 'dnf debuginfo-install {files}')"
        );
    }
    text
}

/// The text of each process, without the mark before it.
fn sections(raw: &str) -> impl Iterator<Item = &str> {
    const MARK: &str = "== process ";
    let mut rest = raw;
    let mut first = true;
    std::iter::from_fn(move || {
        if std::mem::take(&mut first) {
            let start = match rest.find(MARK) {
                Some(0) => 0,
                at => at.filter(|at| rest[..*at].ends_with('\n'))?,
            };
            rest = &rest[start..];
        }
        let body = rest.strip_prefix(MARK)?;
        let end = body.find("\n== process ").map_or(body.len(), |at| at + 1);
        let (section, left) = body.split_at(end);
        rest = left;
        Some(section)
    })
}

/// A process with its threads.
#[derive(Debug)]
struct Process<'a> {
    pid: &'a str,
    command: &'a str,
    threads: Vec<Thread<'a>>,
    /// The section where no thread was found in it, else what the debugger did not do.
    rest: Vec<&'a str>,
}

/// A thread: its number or id, and its frames from the innermost on.
#[derive(Debug)]
struct Thread<'a> {
    name: &'a str,
    frames: Vec<Frame<'a>>,
}

/// A frame.
#[derive(Debug, Clone, Copy)]
struct Frame<'a> {
    number: &'a str,
    function: &'a str,
    /// What stands behind the function: arguments and place.
    behind: &'a str,
}

impl<'a> Process<'a> {
    fn read(section: &'a str) -> Self {
        let mut lines = section.lines();
        let first = lines.next().unwrap_or_default();
        let (pid, command) = first.split_once(": ").unwrap_or((first, ""));
        let mut threads: Vec<Thread<'a>> = Vec::new();
        let mut rest = Vec::new();
        for line in lines.clone() {
            if let Some(name) = thread_name(line) {
                let frames = Vec::new();
                threads.push(Thread { name, frames });
            } else if let (Some(frame), Some(thread)) = (Frame::read(line), threads.last_mut()) {
                thread.frames.push(frame);
            } else if line.starts_with("gdb: ") || line.starts_with("eu-stack: ") {
                rest.push(line);
            }
        }
        if threads.is_empty() {
            rest = lines.filter(|line| !line.is_empty()).collect();
        }
        Self {
            pid,
            command,
            threads,
            rest,
        }
    }

    /// The file of the program.
    fn file(&self) -> &'a str {
        self.command.split(' ').next().unwrap_or_default()
    }

    /// Whether it is a program under test.
    fn is_program(&self) -> bool {
        let name = self.file().rsplit('/').next().unwrap_or_default();
        name.starts_with("qemu")
    }

    fn has_unnamed(&self) -> bool {
        let mut frames = self.threads.iter().flat_map(|t| &t.frames);
        frames.any(|frame| frame.function == "??")
    }

    fn head(&self, text: &mut String) {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "process {}: {}", self.pid, shortened(self.command));
    }

    /// Each thread that does something, the first one at the top; then what waits.
    fn show(&self, text: &mut String) {
        self.head(text);
        // Debuggers show the first thread last.
        let (idle, busy): (Vec<_>, Vec<_>) = self.threads.iter().rev().partition(|t| t.is_idle());
        for thread in busy {
            let _ = writeln!(text, "  thread {}", thread.name);
            thread.show(text);
        }
        if !idle.is_empty() {
            let names: Vec<&str> = idle.iter().map(|t| t.name).collect();
            let (threads, wait) = match idle.len() {
                1 => ("thread", "waits"),
                _ => ("threads", "wait"),
            };
            let count = idle.len();
            let _ = writeln!(
                text,
                "  {count} {threads} {wait} for work: {}",
                names.join(" ")
            );
        }
        self.show_rest(text);
    }

    /// What it waits in, and frames of its own.
    fn show_short(&self, text: &mut String) {
        self.head(text);
        if let Some(main) = self.threads.last() {
            let outer = main.frames.iter().rfind(|f| f.is_inside_library());
            if let Some(frame) = outer.or(main.frames.first()) {
                let _ = writeln!(text, "  waits in {}", plain(frame.function));
            }
        }
        let frames = self.threads.iter().rev().flat_map(|t| &t.frames);
        for frame in frames.filter(|frame| frame.is_of_suite()) {
            frame.show(text);
        }
        self.show_rest(text);
    }

    fn show_rest(&self, text: &mut String) {
        for line in &self.rest {
            let _ = writeln!(text, "  {}", shortened(line));
        }
    }
}

impl Thread<'_> {
    /// Whether it waits for work, as far as names tell.
    fn is_idle(&self) -> bool {
        let mut frames = self.frames.iter().map(|frame| frame.function);
        // The first thread is what the program is at.
        let begun = frames.clone().any(|f| f == "start_thread");
        let waits = |f: &str| WAITS.iter().any(|w| plain(f).starts_with(w));
        begun
            && self.frames.iter().any(|f| waits(f.function))
            && frames.all(|f| {
                waits(f)
                    || f.contains("futex")
                    || plain(f).starts_with("pthread_cond")
                    || plain(f).starts_with("new_sem_wait")
                    || WAITS_OF_QEMU.contains(&f)
                    || BEGINNINGS.contains(&f)
            })
    }

    fn show(&self, text: &mut String) {
        let frames: Vec<&Frame<'_>> = self
            .frames
            .iter()
            .filter(|frame| !BEGINNINGS.contains(&frame.function))
            .collect();
        // How the C library is built inside is its own business.
        let inside = frames.iter().take_while(|f| f.is_inside_library()).count();
        let mut frames = &frames[inside.saturating_sub(1).min(frames.len())..];
        while let [first, ..] = frames {
            let run = frames.iter().take_while(|f| f.function == "??").count();
            if run > 1 {
                let last = frames[run - 1].number;
                let _ = writeln!(text, "    {}..{last} ??", first.number);
                frames = &frames[run..];
            } else {
                first.show(text);
                frames = &frames[1..];
            }
        }
    }
}

impl<'a> Frame<'a> {
    /// Reads `#1  0x... in main (argc=1) at a.c:1` or, of eu-stack, `#1  0x... main`.
    fn read(line: &'a str) -> Option<Self> {
        let (number, rest) = line.strip_prefix('#')?.split_once(' ')?;
        if !number.bytes().all(|b| b.is_ascii_digit()) || number.is_empty() {
            return None;
        }
        let number = &line[..=number.len()];
        let mut rest = rest.trim_start();
        if rest.starts_with("0x") {
            rest = rest.split_once(' ').map_or("??", |(_, rest)| rest);
            rest = rest.strip_prefix("in ").unwrap_or(rest);
        }
        // Names of Rust have blanks in them, none before their arguments.
        let end = rest.find(" (").unwrap_or(rest.len());
        let (function, behind) = rest.split_at(end);
        Some(Self {
            number,
            function: function.trim(),
            behind: behind.trim(),
        })
    }

    /// Whether it is of the C library.
    fn is_inside_library(&self) -> bool {
        let place = self.behind.rsplit(") ").next().unwrap_or_default();
        place.starts_with("at ./")
            || place.starts_with("at ../")
            || (place.starts_with("from ") && place.contains("/libc."))
    }

    /// Whether it is of the numbered tests and their library.
    fn is_of_suite(&self) -> bool {
        let of = |name: &str| self.function.contains(name);
        (of("iotest::") || of("iotests::"))
            && !RUNTIMES.iter().any(|r| self.function.starts_with(r))
            // Every test is in these.
            && !["iotest::main", "iotest::run"].iter().any(|f| without_hash(self.function) == *f)
    }

    fn show(&self, text: &mut String) {
        let behind = match self.behind {
            _ if self.is_inside_library() => "",
            "()" => "",
            behind => behind,
        };
        let function = match self.is_inside_library() {
            true => plain(self.function),
            false => without_hash(self.function),
        };
        let line = format!("    {} {function} {behind}", self.number);
        let _ = writeln!(text, "{}", shortened(line.trim_end()));
    }
}

/// The name of a thread, where `line` begins one: of gdb its number, of eu-stack its id.
fn thread_name(line: &str) -> Option<&str> {
    let of_gdb = line
        .strip_prefix("Thread ")
        .and_then(|rest| rest.split_once(" ("))
        .filter(|(_, rest)| rest.ends_with(':'));
    let of_eu_stack = || line.strip_prefix("TID ")?.strip_suffix(':');
    let name = of_gdb.map(|(name, _)| name).or_else(of_eu_stack)?;
    name.bytes().all(|b| b.is_ascii_digit()).then_some(name)
}

/// A name of the C library as its callers write it.
fn plain(function: &str) -> &str {
    let name = function.trim_start_matches('_');
    let name = name.strip_prefix("GI_").unwrap_or(name);
    let name = name.trim_start_matches('_');
    name.split('@').next().unwrap_or(name)
}

/// A name of Rust without the hash behind it.
fn without_hash(function: &str) -> &str {
    match function.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            name
        }
        _ => function,
    }
}

/// A line without what is more than anybody reads.
fn shortened(line: &str) -> String {
    match line.char_indices().nth(LINE) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OF_GDB: &str = include_str!("../tests/samples/stacks-gdb.txt");

    #[test]
    fn programs_come_first_and_threads_that_wait_are_a_line() {
        let wanted = "\
process 9048: /usr/bin/qemu-io --cache writeback -f qcow2 /s/qcow2-file-001/t.qcow2
  thread 1
    #0 ppoll
    #1 main_loop_wait
    #2 main
  3 threads wait for work: 2 3 4

process 8998: /usr/lib/iotests/iotest 001
  waits in epoll_wait

?? has no name: install debug symbols (Debian, Ubuntu: 'find-dbgsym-packages /usr/bin/qemu-io' \
names the packages; Fedora: 'dnf debuginfo-install /usr/bin/qemu-io')
";
        assert_eq!(fold_stacks(OF_GDB), wanted);
    }

    #[test]
    fn a_thread_that_waits_for_a_lock_is_shown() {
        let raw = "
== process 7: /b/qemu-img bench -c 1
Thread 2 (Thread 0x7f (LWP 8) \"qemu-img\"):
#0  futex_wait (private=0, expected=2) at ../sysdeps/nptl/futex-internal.h:146
#1  __GI___lll_lock_wait (futex=0x55, private=0) at ./nptl/lowlevellock.c:49
#2  0x00007f in ___pthread_mutex_lock (mutex=0x55) at ./nptl/pthread_mutex_lock.c:93
#3  0x000055 in ?? ()
#4  0x000055 in ?? ()
#5  0x000055 in qcow2_co_flush (bs=0x1) at block/qcow2.c:12
#6  0x00007f in start_thread (arg=0x1) at ./nptl/pthread_create.c:442

Thread 1 (Thread 0x7f (LWP 7) \"qemu-img\"):
#0  0x00007f in ppoll () from /lib/x86_64-linux-gnu/libc.so.6
#1  0x000055 in main ()
gdb: timed out and was ended
";
        let text = fold_stacks(raw);
        let wanted = "\
process 7: /b/qemu-img bench -c 1
  thread 1
    #0 ppoll
    #1 main
  thread 2
    #2 pthread_mutex_lock
    #3..#4 ??
    #5 qcow2_co_flush (bs=0x1) at block/qcow2.c:12
  gdb: timed out and was ended
";
        assert!(text.starts_with(wanted), "{text}");
    }

    #[test]
    fn what_is_not_understood_is_kept() {
        let raw = "no stacks: install gdb\n\n== process 5: sh 001\nptrace: Operation not permitted.\n\
                   \n== process 6: qemu-nbd\nskipped: the others took too long\n";
        assert_eq!(
            fold_stacks(raw),
            "process 6: qemu-nbd\n  skipped: the others took too long\n\nprocess 5: sh 001\n  ptrace: Operation not permitted.\n"
        );
        let of_eu_stack = "\n== process 9: qemu-io\nPID 9 - process\nTID 9:\n#0  0x00007f __poll\n#1  0x000055 main\nTID 10:\n#0  0x7f\n";
        let text = fold_stacks(of_eu_stack);
        assert!(
            text.contains("  thread 9\n    #0 __poll\n    #1 main\n"),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_folded(parts in prop::collection::vec(prop::sample::select(vec![
            "== process ", "\n", "1: qemu", "Thread 1 (", "):", "#0  ", "0x1", " in ", "é", "TID ", "::h", "@"
        ]), 0..40)) {
            let raw: String = parts.concat();
            let _ = fold_stacks(&raw);
        }
    }
}
