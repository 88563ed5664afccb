//! What programs and sanitizers say as they give up.

use std::fmt;
use std::sync::LazyLock;

use regex::Regex;

use super::Signature;
use super::stack::{Frame, Stack, file, file_name, function};

/// Where a program gave up, by its own words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Failure {
    /// What kind of end: `assertion`, `heap`, `panic`, ...
    pub kind: &'static str,
    /// Source file, without the folders of a build, and line.
    pub place: Option<(String, u32)>,
    /// The function.
    pub function: Option<String>,
    /// The condition that failed, or the message, as it was printed.
    pub text: String,
    /// What of it tells groups apart; `None` is all but the numbers.
    pub(super) group_text: Option<String>,
}

impl Failure {
    /// What groups findings: all but the line, which changes with every edit of the source,
    /// and the file's folders, which are each build's own.
    #[must_use]
    pub fn signature(&self) -> Signature {
        let mut key = self.kind.to_owned();
        let place = self.place.as_ref().map(|(file, _)| file_name(file));
        // Numbers differ from build to build, and often from run to run.
        let text = self.group_text.clone();
        let text = text.unwrap_or_else(|| without_numbers(&self.text));
        for part in [place, self.function.as_deref(), Some(&text)] {
            if let Some(part) = part.filter(|part| !part.is_empty()) {
                key.push_str(": ");
                key.push_str(part);
            }
        }
        Signature::crash(&key)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        if let Some((file, line)) = &self.place {
            write!(f, " at {file}:{line}")?;
        }
        if let Some(function) = &self.function {
            write!(f, " in {function}")?;
        }
        write!(f, ": {}", self.text)
    }
}

/// A way in which programs give up: its name and the line they print, with the groups
/// `file`, `line`, `function` and `text` where there are such.
struct Pattern(&'static str, LazyLock<Regex>);

macro_rules! pattern {
    ($kind:literal, $regex:literal) => {
        Pattern(
            $kind,
            // A constant expression, tried by the tests.
            LazyLock::new(|| Regex::new($regex).expect("a valid expression")),
        )
    };
}

static PATTERNS: [Pattern; 7] = [
    // assert(3)
    pattern!(
        "assertion",
        r"(?m)^(?:[^:\n]+: )?(?<file>[^:\n ]+):(?<line>\d+): (?<function>[^\n]+?): Assertion [`'](?<text>[^\n]*)' failed\.$"
    ),
    // The same as musl prints it
    pattern!(
        "assertion",
        r"(?m)^Assertion failed: (?<text>[^\n]*) \((?<file>[^:\n]+): (?<function>[^:\n]+): (?<line>\d+)\)$"
    ),
    // The same as the BSDs and macOS print it
    pattern!(
        "assertion",
        r"(?m)^Assertion failed: \((?<text>[^\n]*)\), function (?<function>[^,\n]+), file (?<file>[^,\n]+), line (?<line>\d+)\.$"
    ),
    // g_assert and its kin
    pattern!(
        "assertion",
        r"(?m)^(?:Bail out! )?ERROR:(?<file>[^:\n]+):(?<line>\d+):(?<function>[^:\n]+): (?:assertion failed:? ?)?(?<text>[^\n]*)$"
    ),
    // g_error, also for memory that cannot be had
    pattern!(
        "fatal",
        r"(?m)^[^\n]*-ERROR \*\*: (?:[0-9:.]+: )?(?:(?<file>[^:\n ]+):(?<line>\d+): )?(?<text>[^\n]*)$"
    ),
    // The C library's checks of its heap
    pattern!(
        "heap",
        r"(?m)^(?<text>(?:malloc|free|realloc|calloc|munmap_chunk|malloc_consolidate|mremap_chunk|corrupted|double free|_int_\w+)[^\n]*(?:corrupt|invalid|free|mismatch|unaligned|unsorted|overlap|overwr)[^\n]*)$"
    ),
    // Its checks of buffers and of the stack
    pattern!("overflow", r"(?m)^\*\*\* (?<text>[^\n]* detected) \*\*\*"),
];

/// The first place where a program says that it gives up, by a report of C, its libraries or
/// its run-time; and where that begins.
pub(super) fn report(stderr: &str) -> Option<(usize, Failure)> {
    let first = |Pattern(kind, regex): &'static Pattern| {
        let found = regex.captures(stderr)?;
        let group = |name| found.name(name).map(|m| m.as_str());
        let line = group("line").and_then(|line| line.parse().ok());
        let place = group("file").map(file).zip(line);
        let at = found.get(0).map_or(0, |all| all.start());
        let failure = Failure {
            kind,
            place,
            function: group("function").map(plain_function),
            text: group("text").unwrap_or_default().to_owned(),
            group_text: None,
        };
        Some((at, failure))
    };
    let found = PATTERNS.iter().filter_map(first);
    found.min_by_key(|(at, _)| *at)
}

/// The name of a function that is given with its type: `int f(char *)` is `f`.
fn plain_function(signature: &str) -> String {
    let name = signature.split('(').next().unwrap_or(signature);
    let name = name.rsplit([' ', '*', '&']).next().unwrap_or(name);
    function(if name.is_empty() { signature } else { name })
}

/// Replaces numbers, which depend on the image, by `N`; a digit within a word stays.
fn without_numbers(text: &str) -> String {
    static NUMBER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b(?:0x[0-9a-fA-F]+|\d+)\b").expect("a valid expression"));
    NUMBER.replace_all(text, "N").into_owned()
}

/// The report of a sanitizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SanitizerReport {
    /// Its kind in the sanitizer's words: `heap-buffer-overflow`, `SEGV`, or, for undefined
    /// behaviour, the message without its numbers.
    pub kind: String,
    /// The first stack it gives: that of the bad access.
    pub stack: Stack,
}

impl SanitizerReport {
    /// What groups findings: the kind and the innermost `depth` functions.
    #[must_use]
    pub fn signature(&self, depth: usize) -> Signature {
        Signature::sanitizer(&match self.stack.key(depth) {
            Some(stack) => format!("{}: {stack}", self.kind),
            None => self.kind.clone(),
        })
    }
}

/// Reads the report of a sanitizer: address, undefined behaviour, memory or thread.
#[must_use]
pub fn sanitizer(report: &[u8]) -> Option<SanitizerReport> {
    static HEAD: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?m)(?<level>ERROR|WARNING): (?:Address|Leak|Memory|Thread|UndefinedBehavior)Sanitizer:? (?:attempting )?(?<kind>data race|[\w-]+)|^(?<file>[^:\n]+):(?<line>\d+):\d+: runtime error: (?<text>[^\n]*)",
        )
        .expect("a valid expression")
    });
    let report = String::from_utf8_lossy(report);
    // An allocation that failed is the program's to deal with.
    let is_warning = |head: &regex::Captures<'_>| {
        let is = |name, word| head.name(name).is_some_and(|m| m.as_str() == word);
        is("level", "WARNING") && is("kind", "failed")
    };
    let head = HEAD.captures_iter(&report).find(|head| !is_warning(head))?;
    let rest = &report[head.get(0)?.end()..];
    let mut frames: Vec<_> = rest
        .lines()
        .skip_while(|line| sanitizer_frame(line).is_none())
        .map_while(sanitizer_frame)
        .skip_while(|frame| is_of_sanitizer(&frame.name))
        .collect();
    let group = |name| head.name(name).map(|m| m.as_str());
    let kind = match (group("kind"), group("text")) {
        // LeakSanitizer: detected memory leaks
        (Some("detected"), _) => "leak".to_owned(),
        (Some(kind), _) => kind.to_owned(),
        (None, text) => without_numbers(text.unwrap_or_default()),
    };
    if frames.is_empty()
        && let (Some(path), Some(line)) = (group("file"), group("line"))
    {
        // Without a stack there is still the place.
        frames.push(Frame {
            name: file_name(path).to_owned(),
            place: line.parse().ok().map(|line| (file(path), line)),
            address: None,
        });
    }
    Some(SanitizerReport {
        kind,
        stack: Stack::new(frames),
    })
}

/// `    #1 0x55d in function file.c:12:3`, or `    #1 0x55d (/path/module+0x12) (BuildId: ..)`.
fn sanitizer_frame(line: &str) -> Option<Frame> {
    let rest = line.trim_start().strip_prefix('#')?;
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = rest.trim_start();
    let rest = match rest.strip_prefix("0x") {
        Some(rest) => rest.split_once(' ')?.1.trim_start(),
        None => rest,
    };
    let Some(rest) = rest.strip_prefix("in ") else {
        return module_in(rest).map(Frame::named);
    };
    let (name, place) = rest.rsplit_once(' ').unwrap_or((rest, ""));
    // A module's name in parentheses stands where there are no lines.
    let (name, place) = match rest.find(" (/") {
        Some(at) => (&rest[..at], ""),
        None => (name, place),
    };
    let mut parts = place.split(':');
    let path = parts.next().filter(|path| !path.is_empty());
    let line = parts.next().and_then(|line| line.parse().ok());
    Some(Frame {
        name: plain_function(name),
        place: path.map(file).zip(line),
        address: None,
    })
}

/// `(/usr/bin/qemu-img+0x12)` as `qemu-img+0x12`.
fn module_in(text: &str) -> Option<String> {
    let inside = text.trim_start().strip_prefix('(')?.split(')').next()?;
    Some(inside.rsplit('/').next().unwrap_or(inside).to_owned())
}

/// Whether a function is the sanitizer's own, which stands above the one that called it.
fn is_of_sanitizer(name: &str) -> bool {
    const PREFIXES: [&str; 7] = [
        "__interceptor_",
        "__asan_",
        "__ubsan_",
        "__sanitizer_",
        "__tsan_",
        "__msan_",
        "___interceptor_",
    ];
    const WRAPPED: [&str; 14] = [
        "malloc", "calloc", "realloc", "free", "memcpy", "memmove", "memset", "strlen", "strcpy",
        "strncpy", "pread", "pwrite", "read", "write",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || WRAPPED.contains(&name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::failure;
    use super::*;

    fn key(text: &str) -> Option<String> {
        failure(text.as_bytes()).map(|failure| failure.signature().to_string())
    }

    /// A warning of the allocator was once a finding of its own.
    #[test]
    fn a_failed_allocation_is_no_report() {
        let warning = "==7==WARNING: AddressSanitizer failed to allocate 0xffffffffff bytes\n";
        assert_eq!(sanitizer(warning.as_bytes()), None);
        let error =
            "==7==ERROR: AddressSanitizer: SEGV on unknown address\n    #0 0x1 in f a.c:1\n";
        let report = sanitizer(format!("{warning}{error}").as_bytes()).unwrap();
        assert_eq!(report.signature(3).to_string(), "SEGV: f");
    }

    #[test]
    fn a_leak_is_known_by_where_it_was_allocated() {
        let text = "==7==ERROR: LeakSanitizer: detected memory leaks\n\n\
                    Direct leak of 8 byte(s) in 1 object(s) allocated from:\n    \
                    #0 0x1 in malloc (/lib/libasan.so.8+0x1)\n    #1 0x2 in open_it a.c:3:4\n";
        let report = sanitizer(text.as_bytes()).unwrap();
        assert_eq!(report.signature(3).to_string(), "leak: open_it");
    }

    #[test]
    fn every_expression_is_valid() {
        for Pattern(_, regex) in &PATTERNS {
            assert!(!regex.is_match(""));
        }
    }

    #[test]
    fn assertions_are_read() {
        let text = "warning\nqemu-img: ../../block/qcow2-cluster.c:1153: \
                    handle_dependencies: Assertion `old_end > bytes' failed.\n";
        let site = failure(text.as_bytes()).unwrap();
        assert_eq!(
            site.signature().to_string(),
            "assertion: qcow2-cluster.c: handle_dependencies: old_end > bytes"
        );
        assert_eq!(site.place, Some(("block/qcow2-cluster.c".into(), 1153)));
        assert_eq!(
            site.to_string(),
            "assertion at block/qcow2-cluster.c:1153 in handle_dependencies: old_end > bytes"
        );
        assert_eq!(
            key("a.cc:7: int N::f(const char*): Assertion `x' failed."),
            Some("assertion: a.cc: N::f: x".into())
        );
    }

    /// Builds differ in where their sources are and in the C library that prints.
    #[test]
    fn a_bug_has_one_signature_whatever_the_build() {
        let wanted = Some("assertion: x.c: f: a == b".to_owned());
        for text in [
            "qemu-img: ../src/block/x.c:7: f: Assertion `a == b' failed.\n",
            "qemu-img: src/block/x.c:1153: f: Assertion `a == b' failed.\n",
            "qemu-img: block/x.c:8: f: Assertion `a == b' failed.\n",
            "qemu-img: ../block/x.c:8: void f(int): Assertion `a == b' failed.\n",
            "lt-qemu-img: /build/qemu-9.1/block/x.c:9: f.part.0: Assertion `a == b' failed.\n",
            "Assertion failed: a == b (../block/x.c: f: 12)\n",
            "Assertion failed: (a == b), function f, file ../block/x.c, line 12.\n",
        ] {
            assert_eq!(key(text), wanted, "{text}");
        }
        let report = |path: &str, function: &str| {
            let text = format!(
                "==7==ERROR: AddressSanitizer: SEGV on unknown address\n    #0 0x1 in {function} {path}:3:1\n"
            );
            sanitizer(text.as_bytes()).unwrap().signature(3).to_string()
        };
        assert_eq!(report("../src/block/x.c", "f.isra.0"), "SEGV: f");
        assert_eq!(report("block/x.c", "f"), "SEGV: f");
        for path in [
            "../src/block/x.c",
            "src/block/x.c",
            "block/x.c",
            "/b/q-1/block/x.c",
        ] {
            let text = format!("{path}:7:9: runtime error: shift exponent 64 is too large\n");
            assert_eq!(
                sanitizer(text.as_bytes()).unwrap().signature(3).to_string(),
                "shift exponent N is too large: x.c"
            );
        }
    }

    #[test]
    fn glib_is_read() {
        assert_eq!(
            key(
                "**\nERROR:../block/io.c:12:bdrv_do: assertion failed: (x == 3)\nBail out! ERROR:x"
            ),
            Some("assertion: io.c: bdrv_do: (x == N)".into())
        );
        assert_eq!(
            key("**\nERROR:../a.c:12:f: code should not be reached\n"),
            Some("assertion: a.c: f: code should not be reached".into())
        );
        let failed = "\n(process:77): GLib-ERROR **: 12:01:02.345: ../../../glib/gmem.c:136: \
                      failed to allocate 18446744073709551 bytes\n";
        assert_eq!(
            key(failed),
            Some("fatal: gmem.c: failed to allocate N bytes".into())
        );
    }

    #[test]
    fn the_c_library_is_read() {
        assert_eq!(
            key("double free or corruption (out)\n"),
            Some("heap: double free or corruption (out)".into())
        );
        assert_eq!(
            key("malloc(): corrupted top size\n"),
            Some("heap: malloc(): corrupted top size".into())
        );
        assert_eq!(
            key("*** stack smashing detected ***: terminated\n"),
            Some("overflow: stack smashing detected".into())
        );
    }

    #[test]
    fn ordinary_errors_are_no_sites() {
        for text in [
            "qemu-img: Could not open 'x': Image is corrupt: L1 table is too large\n",
            "qemu-img: free space is missing\n",
            "ERROR cluster 3 refcount=1 reference=2\n",
            "",
        ] {
            assert_eq!(key(text), None, "{text}");
        }
    }

    #[test]
    fn sanitizers_are_read() {
        let report =
            b"=====\n==7==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x60 at pc\n\
            WRITE of size 8 at 0x60 thread T0\n\
            \x20   #0 0x7f1 in __interceptor_memcpy ../../sanitizer.inc:827\n\
            \x20   #1 0x55a in qcow2_read_extensions ../block/qcow2.c:123:9\n\
            \x20   #2 0x55b  (/usr/bin/qemu-img+0x4a2) (BuildId: 99)\n\
            \x20   #3 0x55c in main /src/q/qemu-img.c:5\n\
            \n0x60 is located 0 bytes after\nallocated by thread T0 here:\n\
            \x20   #0 0x7f2 in malloc x.cpp:3\n";
        let report = sanitizer(report).unwrap();
        assert_eq!(
            report.signature(9).to_string(),
            "heap-buffer-overflow: qcow2_read_extensions < qemu-img+0x4a2 < main"
        );
        assert_eq!(
            report.stack.frames[0].place,
            Some(("block/qcow2.c".into(), 123))
        );
        let report = sanitizer(b"../a.c:7:9: runtime error: shift exponent 64 is too large\n");
        assert_eq!(
            report.unwrap().signature(3).to_string(),
            "shift exponent N is too large: a.c"
        );
        assert_eq!(sanitizer(b"qemu-img: no\n"), None);
    }

    proptest! {
        #[test]
        fn no_text_is_too_wild(text: Vec<u8>) {
            let _ = failure(&text);
            let _ = sanitizer(&text);
        }

        #[test]
        fn nor_one_that_looks_like_it(text in r"(ERROR: AddressSanitizer: |#1 0x| in |\(/|:|\n|\)|a|: runtime error: |7){0,20}") {
            let _ = failure(text.as_bytes());
            let _ = sanitizer(text.as_bytes());
        }
    }
}
