//! What a numbered test declares in its header.
//!
//! A test file starts with a comment. Its first paragraph says in a sentence
//! what is tested; after it come `key: value` lines. The same header is read by
//! the runner (groups, `-n`, time-outs) and by the test program (what is
//! supported here), so that there is one declaration
//! for both:
//!
//! ```text
//! //! Data written across a cluster boundary is read back.
//! //!
//! //! group: rw auto quick
//! //! supported_fmt: generic
//! //! unsupported_fmt: luks
//! //! timeout: 120
//! ```
//!
//! Scripts use `#` where Rust files use `//!`.

mod nearest;

use std::fmt;
use std::time::Duration;

pub use nearest::nearest;

/// The comment marks a header line may start with, longest first.
const MARKS: [&str; 3] = ["//!", "//", "#"];

/// A declaration: the summary and the `key: value` lines of a test's header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decl {
    /// The sentence that describes the test; empty where there is none.
    pub summary: String,
    /// Every `key: value` line in order.
    pub entries: Vec<Entry>,
}

/// A `key: value` line of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What stands before the colon.
    pub key: String,
    /// What stands behind it, split at white space.
    pub words: Vec<String>,
    /// Its line in the file, from 1.
    pub line: usize,
}

/// Something wrong with a header. It is shown as `LINE: TEXT`, to stand behind the name
/// of a file and a colon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line it is in, from 1.
    pub line: usize,
    /// What is wrong, and what to write.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.text)
    }
}

/// The image formats that a header may name.
pub const FORMATS: &[&str] = &[
    "raw",
    "bochs",
    "cloop",
    "parallels",
    "qcow",
    "qcow2",
    "qed",
    "vdi",
    "vpc",
    "vhdx",
    "vmdk",
    "luks",
    "dmg",
    "vvfat",
];

/// The protocols that a header may name.
pub const PROTOCOLS: &[&str] = &["file", "rbd", "nbd", "ssh", "nfs", "fuse"];

/// The cache modes of QEMU.
pub const CACHES: &[&str] = &["none", "writeback", "writethrough", "directsync", "unsafe"];

/// The aio modes of QEMU.
pub const AIO_MODES: &[&str] = &["threads", "native", "io_uring"];

/// Every one that can be created or reached: what `supported_` lines may name too.
const GENERIC: &str = "generic";

/// The words that may stand behind a key; `None` where that is not a list of words.
fn known_words(key: &str) -> Option<&'static [&'static str]> {
    match key {
        "supported_fmt" | "unsupported_fmt" => Some(FORMATS),
        "supported_proto" | "unsupported_proto" => Some(PROTOCOLS),
        "supported_cache" => Some(CACHES),
        "supported_aio" => Some(AIO_MODES),
        "privileges" => Some(&["root"]),
        _ => None,
    }
}

/// The keys a header may use, each with what it means. An unknown key in one of
/// our own tests is an error ([`Decl::wrong_words`]).
pub const KEYS: &[(&str, &str)] = &[
    ("group", "groups the test is in"),
    (
        "supported_fmt",
        "image formats it runs with; generic: every format that can be created",
    ),
    ("unsupported_fmt", "image formats it does not run with"),
    (
        "supported_proto",
        "protocols it runs with; generic: every one",
    ),
    ("unsupported_proto", "protocols it does not run with"),
    ("supported_cache", "cache modes it runs with"),
    ("supported_aio", "aio modes it runs with"),
    (
        "unsupported_imgopts",
        "creation options (IMGOPTS) it does not support",
    ),
    (
        "needs",
        "programs and features it needs: qemu-storage-daemon, qemu-system, fuse, extended_l2, zstd, ...",
    ),
    (
        "space",
        "free space it needs, such as 512M or 2G; 128M where it does not say",
    ),
    (
        "file_size",
        "length of the largest file it makes, holes included; 1G where it does not say",
    ),
    ("privileges", "root, if it needs that"),
    ("timeout", "time limit in seconds, in place of the default"),
    (
        "retries",
        "how often it is run again after a failure; more where --rerun-failed says so",
    ),
];

/// The plain words of `needs:`: each as a variant, as it is written, and what is said where it
/// is not met.
macro_rules! needs {
    ($($(#[$doc:meta])* $need:ident, $word:literal, $reason:literal;)*) => {
        /// A plain word of `needs:`, which is met or not.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Need {
            $($(#[$doc])* $need,)*
        }

        impl Need {
            /// Every one, as it is written, and what is said where it is not met.
            pub const ALL: &[(&str, Self, &str)] = &[$(($word, Self::$need, $reason)),*];
        }
    };
}

needs! {
    /// `qemu-img`: the program.
    QemuImg, "qemu-img", "qemu-img is not installed";
    /// `qemu-io`: the program.
    QemuIo, "qemu-io", "qemu-io is not installed";
    /// `qemu-nbd`: the program.
    QemuNbd, "qemu-nbd", "qemu-nbd is not installed";
    /// `qemu-storage-daemon`: the program.
    QemuStorageDaemon, "qemu-storage-daemon", "qemu-storage-daemon is not installed";
    /// `qemu-system`: an emulator.
    QemuSystem, "qemu-system", "no qemu-system program is installed";
    /// `qtest`: an emulator of a PC, whose devices a test can drive.
    Qtest, "qtest", "no emulator of a PC is installed (qemu-system-x86_64)";
    /// `guest`: a Linux guest that an emulator boots.
    Guest, "guest", "there is no guest to boot; make one with: make guest";
    /// `fuse`: FUSE exports: storage daemon, /dev/fuse, fusermount3.
    Fuse, "fuse", "there are no FUSE exports here (storage daemon, /dev/fuse, fusermount3)";
    /// `backing`: a format with backing files.
    Backing, "backing", "the format has no backing files";
    /// `snapshots`: a format with internal snapshots.
    Snapshots, "snapshots", "the format has no internal snapshots";
    /// `check`: a format that `qemu-img check` checks.
    Check, "check", "the format has no check";
    /// `resize`: images that can be resized, over this protocol too.
    Resize, "resize", "images of the format cannot be resized here";
    /// `growing`: files that grow, over this protocol too.
    Growing, "growing", "an NBD export does not grow";
    /// `shrinking`: files that can be made shorter, over this protocol too.
    Shrinking, "shrinking", "QEMU's ssh driver does not make files shorter";
    /// `reopen`: files whose nodes can be reopened, over this protocol too.
    Reopen, "reopen", "QEMU's ssh driver does not reopen files, as a commit has to";
    /// `rebase`: a format that can change its backing file (rebase, stream).
    Rebase, "rebase", "the format cannot change its backing file";
    /// `discard`: a format that gives clusters back.
    Discard, "discard", "the format cannot discard";
    /// `compress`: a format with compressed clusters anywhere.
    Compress, "compress", "the format does not compress";
    /// `bitmaps`: a format that keeps dirty bitmaps.
    Bitmaps, "bitmaps", "the format keeps no bitmaps here";
    /// `zstd`: qcow2 with zstd.
    Zstd, "zstd", "qcow2 has no zstd here";
    /// `extended_l2`: qcow2 with subclusters.
    ExtendedL2, "extended_l2", "qcow2 has no extended_l2 here";
    /// `data_file`: qcow2 with external data files.
    DataFile, "data_file", "qcow2 has no data_file here";
    /// `luks`: the luks driver.
    Luks, "luks", "there is no luks driver here";
    /// `ssh`: sshd and QEMU's ssh driver.
    Ssh, "ssh", "images cannot be reached over ssh here";
    /// `tls`: openssl, to make certificates.
    Tls, "tls", "openssl is not installed";
    /// `gdb`: gdb.
    Gdb, "gdb", "gdb is not installed";
    /// `sparse`: a file system with holes.
    Sparse, "sparse", "TEST_DIR has no sparse files";
    /// `not-wrapped`: no gdb or valgrind around the programs.
    NotWrapped, "not-wrapped", "not under gdb or valgrind";
}

impl Need {
    /// The need that `word` is, and what is said where it is not met.
    #[must_use]
    pub fn of(word: &str) -> Option<(Self, &'static str)> {
        let found = Self::ALL.iter().find(|(name, _, _)| *name == word);
        found.map(|(_, need, reason)| (*need, *reason))
    }
}

/// What the words of `needs:` begin with that go on with a name or version, each
/// with what it asks for.
pub const NAMED_NEEDS: &[(&str, &str)] = &[
    ("driver:", "a block driver, such as driver:quorum"),
    (
        "option:",
        "a creation option of the format, such as option:subformat",
    ),
    ("qemu-img:", "a subcommand, such as qemu-img:bitmap"),
    (
        "device:",
        "a device of the emulator, such as device:virtio-blk-pci",
    ),
    ("qemu>=", "a version, such as qemu>=8.1"),
];

/// Whether `word` may stand in `needs:`.
#[must_use]
pub fn is_need(word: &str) -> bool {
    Need::of(word).is_some()
        || NAMED_NEEDS
            .iter()
            .any(|(start, _)| word.len() > start.len() && word.starts_with(start))
}

impl Decl {
    /// Reads the header of `source`: comment lines from the top (a `#!` line and
    /// blank lines are passed over) up to the first line that is not a comment.
    #[must_use]
    pub fn parse(source: &str) -> Self {
        let mut decl = Self::default();
        let mut summary_done = false;
        for (n, line) in source.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || (n == 0 && line.starts_with("#!")) {
                continue;
            }
            let Some(text) = MARKS.iter().find_map(|m| line.strip_prefix(m)) else {
                break;
            };
            let text = text.trim();
            if let Some((key, value)) = text.split_once(':')
                && !key.is_empty()
                && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                && (value.is_empty() || value.starts_with([' ', '\t']))
            {
                summary_done = true;
                decl.entries.push(Entry {
                    key: key.to_owned(),
                    words: value.split_whitespace().map(str::to_owned).collect(),
                    line: n + 1,
                });
            } else if text.is_empty() {
                summary_done |= !decl.summary.is_empty();
            } else if !summary_done {
                if !decl.summary.is_empty() {
                    decl.summary.push(' ');
                }
                decl.summary.push_str(text);
            }
        }
        decl
    }

    /// The words of the first line with this key; `None` where there is none.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&[String]> {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| entry.words.as_slice())
    }

    /// The words of all lines with this key, in order.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.entries
            .iter()
            .filter(move |entry| entry.key == key)
            .flat_map(|entry| entry.words.iter().map(String::as_str))
    }

    /// The groups the test is in.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        self.get("group").unwrap_or(&[])
    }

    /// The test's own time-out (`timeout: SECONDS`), where it declares one that
    /// is a whole number of seconds above 0.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        whole_seconds(self.get("timeout")?)
    }

    /// How often the test is run again after a failure (`retries: N`), from 1 to 100; 0 where
    /// it declares no such number.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.get("retries").and_then(number).unwrap_or(0)
    }

    /// Everything wrong with this header as that of one of our own tests: no sentence, no
    /// groups, and [`Decl::wrong_words`].
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let first = |text: &str| Problem {
            line: 1,
            text: text.to_owned(),
        };
        let mut problems = Vec::new();
        if self.summary.is_empty() {
            problems.push(first("the header does not describe what the test tests"));
        }
        let wrong = self.wrong_words();
        // A `group:` that is misspelt is said where it stands.
        if self.groups().is_empty() && wrong.is_empty() {
            problems.push(first("the header has no 'group:' line"));
        }
        problems.extend(wrong);
        problems
    }

    /// The words that a header does not know, keys or values, and values out of range, in
    /// order of the lines.
    #[must_use]
    pub fn wrong_words(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for entry in &self.entries {
            let mut problem = |text: String| {
                let line = entry.line;
                problems.push(Problem { line, text });
            };
            let key = entry.key.as_str();
            if KEYS.iter().all(|(known, _)| *known != key) {
                problem(unknown(key, "", KEYS.iter().map(|(known, _)| *known)));
                continue;
            }
            let place = format!(" in '{key}'");
            if let Some(known) = known_words(key) {
                let generic = key.starts_with("supported_").then_some(GENERIC);
                let known = || known.iter().copied().chain(generic);
                let wrong = entry.words.iter().filter(|w| known().all(|k| k != *w));
                wrong.for_each(|word| problem(unknown(word, &place, known())));
            }
            if key == "needs" {
                let plain = Need::ALL.iter().map(|(word, _, _)| *word);
                let known = plain.chain(NAMED_NEEDS.iter().map(|(start, _)| *start));
                let wrong = entry.words.iter().filter(|w| !is_need(w));
                wrong.for_each(|word| problem(unknown(word, &place, known.clone())));
            }
            if key == "retries" && number(&entry.words).is_none() {
                problem("'retries' is not a whole number from 1 to 100".to_owned());
            }
            if key == "timeout" && whole_seconds(&entry.words).is_none() {
                problem("'timeout' is not a positive whole number of seconds".to_owned());
            }
        }
        problems
    }
}

/// That `word` is none of `known`; `place` stands behind it.
fn unknown<'k>(word: &str, place: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
    match nearest(word, known.clone()) {
        Some(near) => format!("unknown word '{word}'{place}; did you mean '{near}'?"),
        None => {
            let known: Vec<&str> = known.collect();
            format!("unknown word '{word}'{place} (known: {})", known.join(", "))
        }
    }
}

/// The number that the words of a `retries:` line say.
fn number(words: &[String]) -> Option<u32> {
    let number = words.first()?.parse().ok()?;
    (1..=100).contains(&number).then_some(number)
}

/// The time that the words of a `timeout:` line say.
fn whole_seconds(words: &[String]) -> Option<Duration> {
    let secs: u64 = words.first()?.parse().ok()?;
    (secs > 0).then(|| Duration::from_secs(secs))
}

/// Whether a test with this source can support `format`, read line by line from
/// its `supported_fmt` and `unsupported_fmt` lines, whatever language it is in.
///
/// A line with `unsupported_fmt` that names the format as a word means no. Else
/// a line with `supported_fmt` decides, unless it names `generic`. A Python list
/// (`supported_fmts=[`) may go on over lines until `]`. Without any such line
/// the answer is yes.
#[must_use]
pub fn may_support(source: &str, format: &str) -> bool {
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if line.contains("unsupported_fmt") {
            if names(line, format) {
                return false;
            }
        } else if line.contains("supported_fmt") {
            let mut text = line.to_owned();
            if line.contains("supported_fmts=[") {
                while !text.contains(']') {
                    let Some(more) = lines.next() else { break };
                    text.push('\n');
                    text.push_str(more);
                }
            }
            if names(&text, "generic") {
                continue;
            }
            if !names(&text, format) {
                return false;
            }
        }
    }
    true
}

/// Whether `text` has `word` between blanks, tabs or quotes, or at a line's end.
fn names(text: &str, word: &str) -> bool {
    let edge = |c: char| matches!(c, ' ' | '\t' | '\'' | '"');
    text.lines().any(|line| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].chars().next();
            before.is_some_and(edge) && after.is_none_or(edge)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "//! Data is read back\n//! as written.\n//!\n//! More words: not a key.\n//!\n//! group: rw auto quick\n//! unsupported_fmt: luks vpc\n//! timeout: 120\n\nuse x;\n//! group: late\n";

    #[test]
    fn a_header_gives_summary_groups_and_timeout() {
        let d = Decl::parse(HEADER);
        assert_eq!(d.summary, "Data is read back as written.");
        assert_eq!(d.groups(), ["rw", "auto", "quick"]);
        assert_eq!(d.timeout(), Some(Duration::from_secs(120)));
        assert_eq!(d.all("group").count(), 3);
    }

    #[test]
    fn a_script_header_is_read_behind_its_interpreter_line() {
        let d = Decl::parse("#!/bin/sh\n#\n# Shows info.\n#\n# group: quick\n# tmeout: 3\necho\n");
        assert_eq!(d.summary, "Shows info.");
        assert_eq!(d.groups(), ["quick"]);
        let wrong: Vec<_> = d.wrong_words().iter().map(Problem::to_string).collect();
        assert_eq!(wrong, ["6: unknown word 'tmeout'; did you mean 'timeout'?"]);
    }

    #[test]
    fn problems_name_what_is_wrong() {
        assert_eq!(Decl::parse(HEADER).problems(), []);
        let bad = "# Asks.\n#\n# grop: a\n# needs: zstd driver: qemu>=8 foo\n# timeout: 0\n\
                   # supported_fmt: generic qcow3\n# unsupported_proto: generic\n\
                   # retries: 0\n";
        let problems = Decl::parse(bad).problems();
        let problems: Vec<_> = problems.iter().map(Problem::to_string).collect();
        for (problem, start) in problems.iter().zip([
            "3: unknown word 'grop'; did you mean 'group'?",
            "4: unknown word 'driver:' in 'needs'",
            "4: unknown word 'foo' in 'needs' (known: qemu-img, ",
            "5: 'timeout' is not a positive",
            "6: unknown word 'qcow3' in 'supported_fmt'; did you mean 'qcow2'?",
            "7: unknown word 'generic' in 'unsupported_proto' (known: file, ",
            "8: 'retries' is not a whole number from 1 to 100",
        ]) {
            assert!(problem.starts_with(start), "{problem}");
        }
        assert_eq!(problems.len(), 7, "{problems:?}");
        let bare = Decl::parse("echo\n").problems();
        let bare: Vec<_> = bare.iter().map(|p| (p.line, p.text.as_str())).collect();
        let [(1, summary), (1, group)] = bare[..] else {
            panic!("{bare:?}")
        };
        assert!(summary.contains("describe") && group.contains("'group:'"));
    }

    #[test]
    fn formats_are_read_as_words() {
        assert!(!may_support(HEADER, "luks"));
        assert!(!may_support(HEADER, "vpc"));
        assert!(may_support(HEADER, "qcow2"));
        assert!(!may_support("_supported_fmt qcow2\n", "qcow"));
        assert!(may_support("_supported_fmt qcow qcow2\n", "qcow"));
        assert!(may_support(
            "_supported_fmt generic\n_unsupported_fmt vdi\n",
            "qcow"
        ));
        assert!(!may_support(
            "_supported_fmt generic\n_unsupported_fmt vdi\n",
            "vdi"
        ));
        assert!(may_support(
            "    supported_fmts=['raw',\n  'qcow2'])\n",
            "qcow2"
        ));
        assert!(!may_support(
            "    supported_fmts=['raw',\n  'qed'])\n",
            "qcow2"
        ));
    }
}
