//! What programs in other languages than C print as they give up, and the place in their own
//! code where that was: most of them exit with an ordinary status.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::failure::Failure;
use super::message::normalise;
use super::stack::{file, function};

/// How one language ends a program.
struct Language {
    kind: &'static str,
    /// The lines it prints, with the groups `text`, and `file` and `line` where it tells the
    /// place at once.
    report: LazyLock<Regex>,
    /// One frame of the stack that it prints, with the groups `function`, `file` and `line`.
    frame: Option<LazyLock<Regex>>,
    /// Whether the innermost frame comes last.
    innermost_last: bool,
    /// What the names and files of frames contain that are not the program's own.
    foreign: &'static [&'static str],
}

macro_rules! regex {
    ($regex:literal) => {
        // A constant expression, tried by the tests.
        LazyLock::new(|| Regex::new($regex).expect("a valid expression"))
    };
}

/// A new language is one row.
static LANGUAGES: [Language; 8] = [
    // Rust; the frames with RUST_BACKTRACE=1
    Language {
        kind: "panic",
        report: regex!(
            r"(?m)^thread '[^\n]*' (?:\(\d+\) )?panicked at (?:'(?<old>[^\n]*)', )?(?<file>[^:\n]+):(?<line>\d+):\d+(?::\n(?<text>[^\n]*))?"
        ),
        frame: Some(regex!(
            r"(?m)^ +\d+: (?<function>[^\n]+)\n +at (?<file>[^:\n]+):(?<line>\d+)"
        )),
        innermost_last: false,
        foreign: &[
            "/rustc/",
            "std::",
            "core::",
            "alloc::",
            "rust_begin_unwind",
            "__rust",
        ],
    },
    // Go
    Language {
        kind: "panic",
        report: regex!(r"(?m)^(?:panic|fatal error): (?<text>[^\n]*)$"),
        frame: Some(regex!(
            r"(?m)^(?<function>[\w./*()\[\]-]+)\([^\n]*\)\n\t(?<file>[^:\n]+):(?<line>\d+)"
        )),
        innermost_last: false,
        foreign: &["runtime.", "panic(", "/usr/lib/go", "/usr/local/go"],
    },
    // C++
    Language {
        kind: "exception",
        report: regex!(r"(?m)^terminate called after throwing an instance of '(?<text>[^\n]*)'$"),
        frame: None,
        innermost_last: false,
        foreign: &[],
    },
    // Python
    Language {
        kind: "exception",
        report: regex!(
            r"(?m)^Traceback \(most recent call last\):\n(?:[ \t]+[^\n]*\n)*(?<text>\w[\w.]*(?:: [^\n]*)?)$"
        ),
        frame: Some(regex!(
            r#"(?m)^ +File "(?<file>[^"\n]+)", line (?<line>\d+)(?:, in (?<function>[^\n]+))?"#
        )),
        innermost_last: true,
        foreign: &[
            "/lib/python",
            "/site-packages/",
            "/dist-packages/",
            "<frozen",
        ],
    },
    // Java
    Language {
        kind: "exception",
        report: regex!(r#"(?m)^Exception in thread "[^"\n]*" (?<text>[\w.$]+[^\n]*)$"#),
        frame: Some(regex!(
            r"(?m)^\s+at (?<function>[\w.$<>/]+)\((?<file>[^:)\n]+)(?::(?<line>\d+))?\)"
        )),
        innermost_last: false,
        foreign: &["java.", "javax.", "jdk.", "sun."],
    },
    // Node.js
    Language {
        kind: "exception",
        report: regex!(r"(?m)^(?:Uncaught )?(?<text>\w*Error(?: \[\w+\])?(?:: [^\n]*)?)\n {4}at "),
        frame: Some(regex!(
            r"(?m)^ {4}at (?:(?<function>[^\s()]+)(?: \[as \w+\])? \()?(?:file://)?(?<file>[^():\n]+):(?<line>\d+):\d+\)?$"
        )),
        innermost_last: false,
        foreign: &["node_modules/"],
    },
    // OCaml; the frames with OCAMLRUNPARAM=b
    Language {
        kind: "exception",
        report: regex!(r"(?m)^Fatal error: exception (?<text>[^\n]*)$"),
        frame: Some(regex!(
            r#"(?m)^(?:Raised|Re-raised|Called)[^\n]*? (?<function>\S+) in file "(?<file>[^"\n]+)"[^\n]*?, line (?<line>\d+)"#
        )),
        innermost_last: false,
        foreign: &["Stdlib", "stdlib"],
    },
    // C# and other .NET
    Language {
        kind: "exception",
        report: regex!(r"(?m)^Unhandled exception\. (?<text>[^\n]*)$"),
        frame: Some(regex!(
            r"(?m)^\s+at (?<function>[\w.<>`]+)\([^\n]*?\)(?: in (?<file>[^\n]+):line (?<line>\d+))?"
        )),
        innermost_last: false,
        foreign: &["System.", "Microsoft."],
    },
];

/// What these reports begin with, for grep(1).
pub const REPORTS: [&str; 8] = [
    "^thread '.*' .*panicked at ",
    "^panic: ",
    "^fatal error: ",
    "^terminate called after throwing ",
    "^Traceback (most recent call last):",
    "^Exception in thread ",
    "^Fatal error: exception ",
    "^Unhandled exception[.] ",
];

/// The first such report in `stderr`, and where it begins.
pub(super) fn report(stderr: &str) -> Option<(usize, Failure)> {
    let first = |language: &'static Language| {
        let found = language.report.captures(stderr)?;
        let whole = found.get(0)?;
        let group = |name| found.name(name).map(|found| found.as_str());
        let text = group("text").or_else(|| group("old")).unwrap_or_default();
        if text == "KeyboardInterrupt" {
            return None;
        }
        // A traceback of Python's has its frames before the text.
        let own = |frame: &Captures<'_>| {
            let part = |name| frame.name(name).map_or("", |part| part.as_str());
            let parts = [part("function"), part("file")];
            !language.foreign.iter().any(|foreign| {
                parts.iter().any(|part| {
                    part.starts_with(foreign) || foreign.contains('/') && part.contains(foreign)
                })
            })
        };
        // A traceback of Python's has its frames before the text.
        let innermost = language.frame.as_ref().and_then(|regex| {
            let frames = regex.captures_iter(&stderr[whole.start()..]);
            let mut frames = frames.filter(own);
            if language.innermost_last {
                frames.last()
            } else {
                frames.next()
            }
        });
        let place = |found: &Captures<'_>| {
            let path = found.name("file")?.as_str();
            let line = found.name("line")?.as_str().parse().ok()?;
            let foreign = language
                .foreign
                .iter()
                .any(|foreign| path.starts_with(foreign));
            (!foreign).then(|| (file(path), line))
        };
        let function = innermost
            .as_ref()
            .and_then(|frame| frame.name("function"))
            .map(|name| function(name.as_str()));
        let told = innermost.as_ref().and_then(place);
        let failure = Failure {
            kind: language.kind,
            place: told.or_else(|| language.report.captures(stderr).as_ref().and_then(place)),
            group_text: Some(match &function {
                // What is known of the place tells more than values in the message.
                Some(_) => kind_of_error(text),
                None => normalise(text),
            }),
            function,
            text: text.to_owned(),
        };
        Some((whole.start(), failure))
    };
    let found = LANGUAGES.iter().filter_map(first);
    found.min_by_key(|(at, _)| *at)
}

/// The first part of a message: the type of an exception.
fn kind_of_error(text: &str) -> String {
    let first = text.split(':').next().unwrap_or(text);
    normalise(first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::failure;

    fn signature(text: &str) -> Option<String> {
        failure(text.as_bytes()).map(|failure| failure.signature().to_string())
    }

    #[test]
    fn each_language_is_grouped_by_its_innermost_own_frame() {
        for (text, expected) in [
            (
                "\nthread 'main' (7) panicked at src/qcow2.rs:77:9:\nindex out of bounds: the len is 4 but the index is 7\nnote: run with `RUST_BACKTRACE=1`\n",
                "panic: qcow2.rs: index out of bounds: the len is N but the index is N",
            ),
            (
                "thread 'main' panicked at 'no entry', src/old.rs:3:5\n",
                "panic: old.rs: no entry",
            ),
            (
                "thread 'main' panicked at /rustc/abc/library/core/src/option.rs:9:5:\nempty\nstack backtrace:\n   0: core::panicking::panic\n             at /rustc/abc/library/core/src/panicking.rs:1\n   1: reader::open\n             at ./src/lib.rs:12\n",
                "panic: lib.rs: reader::open: empty",
            ),
            (
                "panic: runtime error: index out of range [9] with length 3\n\ngoroutine 1 [running]:\nruntime.goPanicIndex(0x1)\n\t/usr/lib/go/panic.go:88 +0x1\nmain.readTable({0x1, 0x2})\n\t/src/reader/table.go:31 +0x9d\nmain.main()\n\t/src/reader/main.go:9\nexit status 2\n",
                "panic: table.go: main.readTable: runtime error",
            ),
            (
                "fatal error: all goroutines are asleep - deadlock!\n",
                "panic: all goroutines are asleep - deadlock!",
            ),
            (
                "Traceback (most recent call last):\n  File \"/src/tool.py\", line 9, in main\n    read(f)\n  File \"/src/tool.py\", line 4, in read\n    x = struct.unpack('>I', b)\n  File \"/usr/lib/python3.11/struct.py\", line 2, in unpack\nstruct.error: unpack requires a buffer of 4 bytes\n",
                "exception: tool.py: read: struct.error",
            ),
            (
                "Exception in thread \"main\" java.lang.ArrayIndexOutOfBoundsException: Index 5 out of bounds\n\tat java.base/java.util.Arrays.get(Arrays.java:1)\n\tat org.disk.Reader.open(Reader.java:44)\n\tat Main.main(Main.java:3)\n",
                "exception: Reader.java: org.disk.Reader.open: java.lang.ArrayIndexOutOfBoundsException",
            ),
            (
                "/src/read.js:8\n  throw new RangeError('x');\n  ^\n\nRangeError: offset 99 is out of range\n    at boundsError (node:internal/buffer:88:9)\n    at readTable (/src/read.js:8:11)\n    at main (/src/read.js:20:3)\n\nNode.js v20.1.0\n",
                "exception: read.js: readTable: RangeError",
            ),
            (
                "Fatal error: exception Invalid_argument(\"index out of bounds\")\nRaised by primitive operation at Qcow.table in file \"lib/qcow.ml\", line 88, characters 1-2\n",
                "exception: qcow.ml: Qcow.table: Invalid_argument('Q')",
            ),
            (
                "Unhandled exception. System.IndexOutOfRangeException: Index was outside the bounds of the array.\n   at System.Buffer.Copy(Byte[] x)\n   at Disk.Reader.Open(String path) in /src/Reader.cs:line 12\n",
                "exception: Reader.cs: Disk.Reader.Open: System.IndexOutOfRangeException",
            ),
            (
                "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n",
                "exception: std::bad_alloc",
            ),
        ] {
            assert_eq!(signature(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(
            signature(
                "Traceback (most recent call last):\n  File \"a\", line 1\nKeyboardInterrupt\n"
            ),
            None
        );
        assert_eq!(signature("reader: Error: bad magic\n"), None);
    }

    #[test]
    fn the_place_is_told_with_its_line() {
        let text = "Traceback (most recent call last):\n  File \"/src/tool.py\", line 4, in read\nValueError: 7 is bad\n";
        let failure = failure(text.as_bytes()).unwrap();
        assert_eq!(
            failure.to_string(),
            "exception at src/tool.py:4 in read: ValueError: 7 is bad"
        );
    }

    proptest! {
        #[test]
        fn no_text_is_too_wild(text in r#"(Traceback \(most recent call last\):\n|  File "a", line 9, in f\n|panic: |thread 'a' panicked at |:|9|\n|    at f \(|goroutine|\t/a:1){0,20}"#) {
            let _ = failure(text.as_bytes());
        }
    }
}
