//! What a command does depends on memory that was never written: with two bytes that fresh
//! memory is filled with, it prints other text, ends in another way, or writes other files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::unistd::{Whence, lseek64};

use super::shell::Script;
use super::{Class, Oracle, Verdict, end_word};
use crate::commands::Command;
use crate::exec::{End, Limits, Observation};
use crate::signature::Signature;

/// The oracle.
pub(super) struct Uninitialised;

impl Oracle for Uninitialised {
    fn variables(&self, _limits: &Limits) -> String {
        format!("before='timeout -k 1 0'\n{COPY}")
    }

    fn verdict(&self, script: &Script<'_>) -> String {
        let line = script.line;
        format!(
            "if ! [ -f \"$GUARD\" ]; then\n\
             \x20   {line} 2>report\n\
             \x20   cat report >&2\n\
             \x20   grep -q -i -e '^==.*uninitialised' report\n\
             \x20   exit\n\
             fi\n\
             copy . .before\n\
             {line} >.stdout 2>.stderr\n\
             echo \"status $?\" >.status\n\
             sed -i '/ ops; /d' .stdout\n\
             copy . .one\n\
             find . -maxdepth 1 -type f -delete\n\
             copy .before .\n\
             other_fill\n\
             {line} >.stdout 2>.stderr\n\
             echo \"status $?\" >.status\n\
             sed -i '/ ops; /d' .stdout\n\
             copy . .two\n\
             diff -r .one .two\n\
             [ $? -eq 1 ]\n"
        )
    }

    fn is_testable(&self) -> bool {
        false
    }
}

/// What copies the files of a folder to another, which may not exist yet.
const COPY: &str = "\
copy() {
    mkdir -p \"$2\" || exit 2
    find \"$1\" -maxdepth 1 -type f -exec cp --sparse=always -- {} \"$2\" \\;
}
";

/// Bytes of the pieces in which files are compared.
const BLOCK: usize = 4096;

/// The most bytes of a file that are compared.
const MOST: u64 = 64 << 20;

/// What was seen of one command under one fill byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trace {
    end: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// The length of each file, and its blocks that are not zero.
    files: BTreeMap<String, (u64, BTreeMap<u64, Vec<u8>>)>,
}

impl Trace {
    /// What was seen of a command that left its files in `folder`; `None` where it did not
    /// end by itself, so that where it was cut off is chance.
    pub(super) fn new(seen: &Observation, folder: &Path) -> io::Result<Option<Self>> {
        if !matches!(seen.end, End::Exit(_) | End::Signal(_)) {
            return Ok(None);
        }
        let mut files = BTreeMap::new();
        for entry in folder.read_dir()? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                files.insert(name, contents(&entry.path())?);
            }
        }
        Ok(Some(Self {
            end: end_word(&seen.end),
            stdout: without_times(&seen.stdout),
            stderr: without_times(&seen.stderr),
            files,
        }))
    }

    /// What differs, in a word, and where.
    fn difference(&self, other: &Self) -> Option<(String, String)> {
        if self.end != other.end {
            return Some(("status".into(), format!("{} / {}", self.end, other.end)));
        }
        for (name, one, two) in [
            ("stdout", &self.stdout, &other.stdout),
            ("stderr", &self.stderr, &other.stderr),
        ] {
            if one != two {
                return Some((name.into(), different_line(one, two)));
            }
        }
        let names = self.files.keys().chain(other.files.keys());
        for name in names {
            let (Some(one), Some(two)) = (self.files.get(name), other.files.get(name)) else {
                return Some((name.clone(), "it exists with one of them only".into()));
            };
            if one.0 != two.0 {
                return Some((name.clone(), format!("length {} / {}", one.0, two.0)));
            }
            let offsets = one.1.keys().chain(two.1.keys());
            let zero = vec![0; BLOCK];
            let block = |of: &BTreeMap<u64, Vec<u8>>, at| of.get(at).unwrap_or(&zero).clone();
            let differing = offsets
                .filter(|at| block(&one.1, at) != block(&two.1, at))
                .min();
            if let Some(at) = differing {
                let text = different_bytes(*at, &block(&one.1, at), &block(&two.1, at));
                return Some((name.clone(), text));
            }
        }
        None
    }
}

/// Judges a command by what was seen under one fill byte and under the other, each several
/// times alternately: what differs between runs of the same byte is chance, or time.
pub(super) fn judge(command: &Command, one: &[Trace], two: &[Trace], fill: u8) -> Verdict {
    let same = |traces: &[Trace]| traces.windows(2).all(|pair| pair[0] == pair[1]);
    let (first, second) = (one.first()?, two.first()?);
    if !same(one) || !same(two) {
        return None;
    }
    let (what, place) = first.difference(second)?;
    let summary = format!(
        "{what} differs between fresh memory filled with {fill:#04x} and {:#04x}: {place}",
        !fill
    );
    let signature = Signature::aspect(what.replace(' ', "_"), command.verb());
    Some((Class::Uninitialised, signature, summary))
}

/// Whether a command does one thing after another: `qemu-io`'s asynchronous operations and
/// `qemu-img convert -W` finish in the order that chance has.
pub(super) fn is_ordered(command: &Command) -> bool {
    let racing = |word: &String| word == "-W" || word.starts_with("aio_");
    !command.0.iter().any(racing)
}

/// A file's length, and its blocks that are not zero.
fn contents(path: &Path) -> io::Result<(u64, BTreeMap<u64, Vec<u8>>)> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut blocks = BTreeMap::new();
    let mut at = 0;
    while at < len && blocks.len() as u64 * (BLOCK as u64) < MOST {
        // A hole is zero, however long.
        let start = i64::try_from(at).map_err(io::Error::other)?;
        match lseek64(&file, start, Whence::SeekData) {
            Ok(data) => at = u64::try_from(data).unwrap_or(at) / BLOCK as u64 * BLOCK as u64,
            Err(nix::Error::ENXIO) => break,
            Err(_) => {}
        }
        let mut block = vec![0; BLOCK];
        let mut done = 0;
        while done < BLOCK {
            match file.read_at(&mut block[done..], at + done as u64)? {
                0 => break,
                read => done += read,
            }
        }
        if block.iter().any(|&byte| byte != 0) {
            blocks.insert(at, block);
        }
        at += BLOCK as u64;
    }
    Ok((len, blocks))
}

/// An output without the lines in which `qemu-io` says how long an operation took.
fn without_times(output: &[u8]) -> Vec<u8> {
    let lines = output.split_inclusive(|&byte| byte == b'\n');
    let timed = |line: &&[u8]| !bstr::ByteSlice::contains_str(*line, " ops; ");
    lines.filter(timed).flatten().copied().collect()
}

/// The first line that differs between two outputs.
fn different_line(one: &[u8], two: &[u8]) -> String {
    let (one, two) = (String::from_utf8_lossy(one), String::from_utf8_lossy(two));
    let (mut ones, mut twos) = (one.lines(), two.lines());
    let mut number = 1;
    loop {
        match (ones.next(), twos.next()) {
            (Some(one), Some(two)) if one == two => number += 1,
            (one, two) => {
                let [one, two] = [one, two].map(|line| line.unwrap_or("(nothing)"));
                return format!("line {number}: {one} / {two}");
            }
        }
    }
}

/// Where two blocks at `at` begin to differ, and what is there.
fn different_bytes(at: u64, one: &[u8], two: &[u8]) -> String {
    let first = one
        .iter()
        .zip(two)
        .position(|(one, two)| one != two)
        .unwrap_or(0);
    let shown = |block: &[u8]| {
        let bytes = block.iter().skip(first).take(8);
        bytes
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    format!(
        "at {:#x}: {} / {}",
        at + first as u64,
        shown(one),
        shown(two)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(folder: &Path, stdout: &str, file: &[u8]) -> Trace {
        std::fs::write(folder.join("test.qcow2"), file).unwrap();
        let mut seen = Observation::not_started(String::new());
        seen.end = End::Exit(0);
        seen.stdout = stdout.into();
        Trace::new(&seen, folder).unwrap().unwrap()
    }

    #[test]
    fn what_differs_with_the_fill_byte_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let command = Command::new(["qemu-img", "info", "$test_img"]);
        let verdict = |one: [(&str, &[u8]); 2], two: [(&str, &[u8]); 2]| {
            let traces = |seen: [(&str, &[u8]); 2]| {
                seen.map(|(stdout, file)| trace(folder.path(), stdout, file))
            };
            judge(&command, &traces(one), &traces(two), 0xa5)
                .map(|(_, signature, summary)| (signature.to_string(), summary))
        };
        let time = |seconds| format!("a\nread 1/1\n1 KiB, 1 ops; {seconds} sec\n");
        let (fast, slow) = (time(1), time(2));
        let same = [(&*fast, &b"x"[..]), (&*slow, b"x")];
        assert_eq!(verdict(same, same), None);
        let said = verdict([("a\nb\n", b""); 2], [("a\nc\n", b""); 2]).unwrap();
        assert_eq!(said.0, "stdout qemu-img info");
        assert!(
            said.1.ends_with("0xa5 and 0x5a: line 2: b / c"),
            "{}",
            said.1
        );
        let mut file = vec![0; 10_000];
        file[9000] = 0xa5;
        let mut other = file.clone();
        other[9000] = 0x5a;
        let said = verdict([("", &file); 2], [("", &other); 2]).unwrap();
        assert_eq!(said.0, "test.qcow2 qemu-img info");
        assert!(said.1.contains("at 0x2328: a5 00"), "{}", said.1);
        // What differs by itself says nothing.
        assert_eq!(verdict([("a", b""), ("b", b"")], [("c", b""); 2]), None);
    }

    #[test]
    fn holes_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        file.write_all_at(b"end", (1 << 40) - 3).unwrap();
        let (len, blocks) = contents(&path).unwrap();
        assert_eq!((len, blocks.len()), (1 << 40, 1));
    }
}
