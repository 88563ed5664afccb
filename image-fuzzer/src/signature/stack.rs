//! Frames of a stack, without what changes from one build or run to the next.

use std::fmt;
use std::path::PathBuf;

/// Functions on top of a stack that only perform the end which another decided on.
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
    /// Where it is in the program or library, where a debugger told.
    pub address: Option<Address>,
}

impl Frame {
    /// A frame of which only the name is known.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            place: None,
            address: None,
        }
    }
}

/// An address in a program or library that stays the same wherever that is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// The file of the program or library.
    pub module: PathBuf,
    /// Bytes behind where its first segment is loaded.
    pub offset: u64,
    /// Whether a call is to return there: the call itself is before it.
    pub is_return: bool,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let module = self.module.file_name().unwrap_or(self.module.as_os_str());
        write!(f, "{}+{:#x}", module.display(), self.offset)
    }
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
        // Of what a stripped library does within itself only the offset is known.
        let top = frames
            .iter()
            .take_while(|frame| is(&CARRYING_OUT, frame) || in_library(&frame.name).is_some())
            .enumerate()
            .filter(|(_, frame)| is(&CARRYING_OUT, frame))
            .map(|(index, _)| index + 1)
            .last();
        frames.drain(..top.unwrap_or(0));
        while frames.last().is_some_and(|frame| is(&STARTING, frame)) {
            frames.pop();
        }
        Self { frames }
    }

    /// Drops the start of the program or thread where frames without a name are around it.
    /// Not for what names groups: these have long been named with it.
    #[must_use]
    pub(crate) fn without_start(mut self) -> Self {
        let starts = |frame: &Frame| STARTING.contains(&frame.name.trim_start_matches('_'));
        let unnamed = |frame: &Frame| frame.name.contains("+0x") || frame.name == "??";
        let inner = self
            .frames
            .iter()
            .rposition(|it| !starts(it) && !unnamed(it));
        let outer = inner.map_or(0, |inner| inner + 1);
        let start = self.frames.iter().skip(outer).position(starts);
        if let Some(start) = start.filter(|start| outer + start > 0) {
            self.frames.truncate(outer + start);
        }
        self
    }

    /// Drops the waiting on top of a stack, where something is below it.
    pub(crate) fn without_waiting(mut self) -> Self {
        let waits = |frame: &Frame| WAITING.contains(&frame.name.trim_start_matches('_'));
        let inner = &self.frames[..WITHIN.min(self.frames.len())];
        if let Some(outermost) = inner.iter().rposition(waits)
            && outermost + 1 < self.frames.len()
        {
            self.frames.drain(..=outermost);
        }
        self
    }

    /// Whether the innermost frame is a place in the program to the byte, as in one that was
    /// stripped of its symbols: it tells more than the name of a function.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        let inner = self.frames.first().map(|frame| frame.name.as_str());
        inner.is_some_and(|name| name.contains("+0x") && in_library(name).is_none())
    }

    /// Whether one of its innermost `depth` frames is in the program itself.
    #[must_use]
    pub fn is_in_program(&self, depth: usize) -> bool {
        let mut names = self.frames.iter().take(depth).map(|frame| &frame.name);
        names.any(|name| in_library(name).is_none())
    }

    /// What groups findings: the innermost `depth` functions, without lines, which change
    /// with every edit of the source, and without offsets into libraries, which change with
    /// every update of the system. Of a recursion, one turn, which begins at the same
    /// function wherever it was looked at. `None` for an empty stack.
    #[must_use]
    pub fn key(&self, depth: usize) -> Option<Frames> {
        let names = self.frames.iter().map(|frame| frame.name.as_str());
        let mut names: Vec<_> = names.map(|name| in_library(name).unwrap_or(name)).collect();
        // Within one library there is then nothing to tell frames apart.
        names.dedup_by(|a, b| a == b && a.contains(LIBRARY));
        if let Some((inner, turn)) = recursion(&names, depth) {
            names.drain(..inner);
            names.truncate(turn);
            let first = (0..turn).min_by_key(|at| names[*at]).unwrap_or(0);
            names.rotate_left(first);
        }
        names.truncate(depth);
        (!names.is_empty()).then(|| Frames(names.into_iter().map(str::to_owned).collect()))
    }
}

/// The innermost frames of a stack, by name: what tells one place from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frames(Vec<String>);

/// What parts a frame from its caller in the text form.
const CALLER: &str = " < ";

impl Frames {
    /// Reads the text form: the innermost frame first, `a < b < c`.
    pub fn read(text: &str) -> Self {
        Self(text.split(CALLER).map(str::to_owned).collect())
    }

    /// The innermost of them alone, at most `depth`.
    #[must_use]
    pub fn innermost(&self, depth: usize) -> Self {
        Self(self.0.iter().take(depth).cloned().collect())
    }

    /// Their names, the innermost first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether this is the place of `outer`, looked at while a function was called there: all
    /// frames but the innermost are the innermost ones of `outer`.
    pub(super) fn is_called_from(&self, outer: &Self) -> bool {
        self.0.len() > 1 && outer.0.starts_with(&self.0[1..])
    }

    /// Whether this is the same place in another build, as told by at least one frame that
    /// has a name.
    pub(super) fn is_rebuilt(&self, other: &Self) -> bool {
        let alike = |(one, other): (&String, &String)| match (module(one), module(other)) {
            (Some(one), Some(other)) => one == other,
            _ => one == other,
        };
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(alike)
            && self.0.iter().any(|frame| module(frame).is_none())
    }
}

impl fmt::Display for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(CALLER))
    }
}

/// The program or library of a frame that has an offset into it and no name.
fn module(frame: &str) -> Option<&str> {
    let (module, offset) = frame.rsplit_once("+0x")?;
    let is_offset = !offset.is_empty() && offset.chars().all(|c| c.is_ascii_hexdigit());
    is_offset.then_some(module)
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

/// As many frames are those of a recursion without end: what stands behind each other in a
/// program, a chain of images for instance, is seldom as deep.
const DEEP: usize = 48;
/// The longest turn of such a recursion that is looked for, and how far inside the stack it
/// may begin: what it called when the stack was at its end is chance.
const LONG: usize = 20;

/// Where a recursion begins, as a number of frames inside of it, and how many frames one turn
/// of it has: up to `most` that come again at once or, in a deep stack, those that come a
/// third time.
fn recursion(names: &[&str], most: usize) -> Option<(usize, usize)> {
    let turns = |from: usize, turn: usize, times: usize| {
        let frames = names.get(from..from + turn * times)?;
        frames[turn..]
            .iter()
            .eq(&frames[..turn * (times - 1)])
            .then_some((from, turn))
    };
    let at_once = (1..=most).find_map(|turn| turns(0, turn, 2));
    at_once.or_else(|| {
        if names.len() < DEEP {
            return None;
        }
        let starts = 0..=LONG;
        starts
            .into_iter()
            .find_map(|from| (1..=LONG).find_map(|turn| turns(from, turn, 3)))
    })
}

/// What the names of files of libraries have.
const LIBRARY: &str = ".so";

/// The library of a frame that has no name but an offset into one.
fn in_library(name: &str) -> Option<&str> {
    let (module, _) = name.rsplit_once("+0x")?;
    module.contains(LIBRARY).then_some(module)
}

/// A function's name without the marks that compilers and linkers add to it, and without
/// what the C library calls its variants for one processor or another.
pub(crate) fn function(name: &str) -> String {
    const MARKS: [&str; 13] = [
        ".part.",
        ".constprop.",
        ".isra.",
        ".cold",
        ".hot",
        ".unlikely",
        ".lto_priv.",
        ".localalias",
        ".clone.",
        ".llvm.",
        ".resolver",
        " [clone ",
        "@",
    ];
    let end = MARKS.iter().filter_map(|mark| name.find(mark)).min();
    // Only behind a name: a name may not begin with a mark.
    let name = match end {
        Some(end) if end > 0 => &name[..end],
        _ => name,
    };
    let name = name.strip_prefix("__GI_").unwrap_or(name);
    any_processor(without_hash(name)).to_owned()
}

/// The name of a Rust function without the hash of its build.
fn without_hash(name: &str) -> &str {
    let hash = |hash: &str| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    match name.rsplit_once("::h") {
        Some((plain, end)) if hash(end) => plain,
        _ => name,
    }
}

/// `memmove` for `__memmove_avx_unaligned_erms`, and so for the C library's other functions
/// on memory and strings, of which each processor has its own.
fn any_processor(name: &str) -> &str {
    const STEMS: [&str; 6] = ["mem", "str", "stp", "wmem", "wcs", "rawmem"];
    const VARIANTS: [&str; 14] = [
        "_avx",
        "_evex",
        "_sse",
        "_ssse",
        "_erms",
        "_unaligned",
        "_generic",
        "_asimd",
        "_simd",
        "_sve",
        "_mops",
        "_mte",
        "_a64fx",
        "_thunderx",
    ];
    let Some(stem) = name.strip_prefix("__") else {
        return name;
    };
    let variant = VARIANTS.iter().filter_map(|mark| stem.find(mark)).min();
    match variant {
        Some(end) if STEMS.iter().any(|known| stem.starts_with(known)) => match &stem[..end] {
            // One and the same code on many processors, with many names.
            "memcpy" | "mempcpy" => "memmove",
            plain if plain.contains('_') => name,
            plain => plain,
        },
        _ => name,
    }
}

/// A source file as people read it: no `.` and `..`, and of an absolute path the last two
/// parts.
pub(crate) fn file(path: &str) -> String {
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

/// A source file as it names groups: without any folder, since where a build has its sources
/// (`../block/x.c`, `src/block/x.c`, `/build/y-1.2/block/x.c`) is in all of them.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(names: &[&str]) -> Stack {
        let frame = |name: &&str| Frame::named(function(name));
        Stack::new(names.iter().map(frame).collect())
    }

    fn text(frames: Option<Frames>) -> Option<String> {
        frames.map(|frames| frames.to_string())
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
            text(aborted.key(9)).as_deref(),
            Some("qcow2_free_clusters < abort < main")
        );
        assert_eq!(text(aborted.key(1)).as_deref(), Some("qcow2_free_clusters"));
        assert_eq!(stack(&["raise", "abort"]).key(3), None);
    }

    /// A recursion without end once had a group for each place in it that was looked at.
    #[test]
    fn a_recursion_is_one_turn_of_it() {
        let key = |names: &[&str]| text(stack(names).key(3));
        let open = ["open", "backing", "open", "backing", "open", "main"];
        assert_eq!(key(&open).as_deref(), Some("backing < open"));
        assert_eq!(key(&open[1..]).as_deref(), Some("backing < open"));
        assert_eq!(key(&["a", "a", "a", "main"]).as_deref(), Some("a"));
        let three = ["c", "a", "b", "c", "a", "b", "main"];
        assert_eq!(key(&three).as_deref(), Some("a < b < c"));
        assert_eq!(key(&["a", "b", "a", "main"]).as_deref(), Some("a < b < a"));
        assert_eq!(key(&["a", "b"]).as_deref(), Some("a < b"));
    }

    /// A stack that was full had a group for each function that happened to be called last.
    #[test]
    fn a_full_stack_is_the_recursion_that_filled_it() {
        let turn = ["read", "map", "lock", "load", "fetch"];
        let full = |inner: &[&str], from: usize| {
            let turns = turn.iter().cycle().skip(from).take(60);
            let names: Vec<_> = inner.iter().chain(turns).copied().collect();
            text(stack(&names).key(3))
        };
        let group = Some("fetch < read < map".to_owned());
        for from in 0..5 {
            assert_eq!(full(&[], from), group);
            assert_eq!(full(&["memset", "clear"], from), group);
        }
        // A chain of images of some length has findings of its own.
        let chain: Vec<_> = ["crash"]
            .iter()
            .chain(turn.iter().cycle().take(20))
            .copied()
            .collect();
        assert_eq!(
            text(stack(&chain).key(3)).as_deref(),
            Some("crash < read < map")
        );
    }

    /// The same bug once had another group in every build that had its sources elsewhere,
    /// on every processor, and after every update of the C library.
    #[test]
    fn what_differs_between_builds_is_not_in_a_key() {
        for (one, other) in [
            ("qcow2_open.part.0", "qcow2_open.isra.0.constprop.1"),
            ("qcow2_open.cold", "qcow2_open.lto_priv.17"),
            ("qcow2_open.localalias", "qcow2_open"),
            ("N::f(int) [clone .cold]", "N::f(int)"),
            ("reader::open::h0123456789abcdef", "reader::open"),
            ("__memmove_avx_unaligned_erms", "__memcpy_sse2_unaligned"),
            ("__strlen_evex", "__strlen_avx2"),
            ("libc.so.6+0x1234", "libc.so.6+0x99"),
        ] {
            let key = |name| stack(&[name, "main"]).key(2);
            assert_eq!(key(one), key(other), "{one}, {other}");
            assert_ne!(key(one), stack(&["other", "main"]).key(2));
        }
        // Offsets into the program tell its places apart.
        assert_ne!(
            stack(&["qemu-img+0x12"]).key(1),
            stack(&["qemu-img+0x13"]).key(1)
        );
        assert!(stack(&["qemu-img+0x12", "main"]).is_exact());
        assert!(!stack(&["libc.so.6+0x12", "qemu-img+0x12"]).is_exact());
        assert!(!stack(&["qcow2_open", "qemu-img+0x12"]).is_exact());
        assert_eq!(
            function("__memory_region_generic"),
            "__memory_region_generic"
        );
        assert_eq!(
            text(stack(&["libc.so.6+0x1", "libc.so.6+0x2", "a", "a"]).key(3)).as_deref(),
            Some("libc.so.6 < a < a")
        );
    }

    #[test]
    fn nameless_frames_of_an_abort_are_dropped_with_it() {
        let aborted = [
            "libc.so.6+0x8a",
            "gsignal",
            "abort",
            "libc.so.6+0x2",
            "__assert_fail",
            "f",
        ];
        assert_eq!(text(stack(&aborted).key(3)).as_deref(), Some("f"));
        let crashed = ["libc.so.6+0x8a", "f", "abort"];
        assert_eq!(
            text(stack(&crashed).key(3)).as_deref(),
            Some("libc.so.6 < f < abort")
        );
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
