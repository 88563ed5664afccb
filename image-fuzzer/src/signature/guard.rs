//! The line in which the guarding allocator says what was done to which block.

use std::sync::LazyLock;

use regex::Regex;

use super::stack::{Frame, Frames, Stack};
use super::{DEPTH, Signature};

/// What a report of the guard begins with.
const PREFIX: &str = "image-fuzzer guard: ";

/// What is done in all reads past the end of a block.
const OVER_READ: &str = "read past the end of a block";

/// A report of the guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardReport {
    /// What was done to a block, with its size: `read 0 bytes past the end of a block of 16
    /// bytes`.
    pub text: String,
    /// What was done, without numbers: `read past the end of a block`.
    pub kind: String,
    /// Where it was done.
    pub accessed: Stack,
    /// Where the block was allocated; outer frames may be stale.
    pub allocated: Stack,
    /// Where the block was freed; outer frames may be stale.
    pub freed: Stack,
}

/// The report of the guard on a standard error, where there is one.
#[must_use]
pub fn guard(stderr: &[u8]) -> Option<GuardReport> {
    static WHAT: LazyLock<Regex> = LazyLock::new(|| {
        let places = "past the end of|before the start of|into|of|near";
        Regex::new(&format!(
            r"^(?<what>.+?)(?: \d+ bytes?)? (?<place>{places}) a (?<block>(?:freed )?block) of"
        ))
        .expect("a valid expression")
    });
    let stderr = String::from_utf8_lossy(stderr);
    let (_, line) = stderr.split_once(PREFIX)?;
    let mut parts = line.lines().next()?.split("; ");
    let text = parts.next()?.to_owned();
    let kind = WHAT.captures(&text).map_or_else(
        || text.clone(),
        |found| {
            format!(
                "{} {} a {}",
                &found["what"], &found["place"], &found["block"]
            )
        },
    );
    let mut report = GuardReport {
        text,
        kind,
        accessed: Stack::default(),
        allocated: Stack::default(),
        freed: Stack::default(),
    };
    for part in parts {
        match part.split_once(" at ") {
            Some(("accessed", frames)) => report.accessed = stack(frames),
            Some(("allocated", frames)) => report.allocated = stack(frames),
            Some(("freed", frames)) => report.freed = stack(frames),
            _ => {}
        }
    }
    Some(report)
}

fn stack(frames: &str) -> Stack {
    Stack::new(Frames::read(frames).names().map(Frame::named).collect())
}

impl GuardReport {
    /// What groups findings: what was done, where the block was allocated, and where it was
    /// done. A block that is too short is read past its end wherever its contents are looked
    /// at, by whatever function, so that of such a read only the allocation counts, where that
    /// is known to be in the program itself.
    #[must_use]
    pub fn signature(&self) -> Signature {
        let allocated = self.allocated.key(DEPTH);
        if self.is_over_read() && self.allocated.is_in_program(DEPTH) {
            return Signature::MemoryError {
                kind: OVER_READ.to_owned(),
                allocated,
                accessed: None,
            };
        }
        Signature::MemoryError {
            kind: self.kind.clone(),
            allocated,
            accessed: self.accessed.key(DEPTH),
        }
    }

    /// Whether a block was read past its end, by an instruction or by a function of a library
    /// that was told to.
    fn is_over_read(&self) -> bool {
        let how = self.kind.strip_suffix(" past the end of a block");
        how.is_some_and(|how| how == "read" || how.starts_with("read by "))
    }

    /// All of it in a sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = self.text.clone();
        for (what, stack) in [
            ("accessed", &self.accessed),
            ("allocated", &self.allocated),
            ("freed", &self.freed),
        ] {
            let names: Vec<_> = stack.frames.iter().map(|frame| &*frame.name).collect();
            if !names.is_empty() {
                text.push_str(&format!("; {what} at {}", names.join(" < ")));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let stderr = b"qemu-img: warning\nimage-fuzzer guard: write by pread64 0 bytes past the \
            end of a block of 65600 bytes; accessed at libc.so.6+0x5 < qemu-img+0x12345 < \
            qemu-img+0x9; allocated at libglib-2.0.so.0+0x5a659 < qemu-img+0xebbfb\nmore\n";
        let report = guard(stderr).unwrap();
        assert_eq!(report.kind, "write by pread64 past the end of a block");
        let signature = report.signature().to_string();
        assert_eq!(
            signature,
            "write by pread64 past the end of a block, allocated in libglib-2.0.so.0 < \
             qemu-img+0xebbfb, accessed in libc.so.6 < qemu-img+0x12345 < qemu-img+0x9"
        );
        assert_eq!(Signature::memory_error(&signature), report.signature());
        let text = String::from_utf8_lossy(stderr);
        assert!(text.contains(&report.summary()), "{}", report.summary());
        assert_eq!(guard(b"qemu-img: Invalid argument\n"), None);
    }

    /// One buffer that was too short was once as many findings as there are functions that look
    /// at it.
    #[test]
    fn reads_past_the_end_of_a_block_are_told_apart_by_its_allocation() {
        let signature = |what: &str, accessed: &str, allocated: &str| {
            let line = format!(
                "{PREFIX}{what} 0 bytes past the end of a block of 9 bytes; accessed at \
                 {accessed}; allocated at {allocated}\n"
            );
            guard(line.as_bytes()).unwrap().signature()
        };
        let (one, other) = ("qemu-img+0x1 < qemu-img+0x2", "qemu-img+0x3 < qemu-img+0x4");
        let buffer = "libglib-2.0.so.0+0x5 < qemu-img+0x9";
        let read = signature("read", one, buffer);
        assert_eq!(read, signature("read", other, buffer));
        assert_eq!(read, signature("read by memcpy", other, buffer));
        assert_eq!(Signature::memory_error(&read.to_string()), read);
        assert_ne!(read, signature("read", one, "qemu-img+0x8"));
        // What is overwritten depends on who writes; and a library allocates for many.
        assert_ne!(
            signature("write", one, buffer),
            signature("write", other, buffer)
        );
        let library = "libglib-2.0.so.0+0x5 < libc.so.6+0x9";
        assert_ne!(
            signature("read", one, library),
            signature("read", other, library)
        );
    }

    #[test]
    fn kinds_have_no_numbers() {
        let kind = |text: &str| {
            let line = format!("{PREFIX}{text}; accessed at a+0x1\n");
            guard(line.as_bytes()).unwrap().kind
        };
        for (text, expected) in [
            (
                "read 1 byte before the start of a block of 5 bytes",
                "read before the start of a block",
            ),
            (
                "write 17 bytes into a freed block of 5000 bytes",
                "write into a freed block",
            ),
            (
                "double free of a freed block of 24 bytes",
                "double free of a freed block",
            ),
            (
                "free of an address that is no block 16 bytes into a block of 9 bytes",
                "free of an address that is no block into a block",
            ),
            (
                "free of an address that is no block",
                "free of an address that is no block",
            ),
        ] {
            assert_eq!(kind(text), expected);
        }
    }
}
