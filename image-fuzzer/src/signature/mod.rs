//! Where and how a program failed, in a form that stays the same from run to run, machine to
//! machine and, as far as it goes, version to version: what findings are grouped by.
//!
//! Three sources, from the most telling to the least: what the program printed as it gave up
//! ([`failure`]), the report of a sanitizer ([`sanitizer`]), and the stack that a debugger
//! shows ([`Stack`]).

mod failure;
mod guard;
mod language;
pub mod message;
mod stack;

pub use failure::{Failure, SanitizerReport, sanitizer};
pub use guard::{GuardReport, guard};
pub use language::REPORTS;
pub use stack::{Address, Frame, Frames, Stack};
pub(crate) use stack::{file, function};

use std::fmt;

/// The first place where a program says on its standard error that it gives up.
#[must_use]
pub fn failure(stderr: &[u8]) -> Option<Failure> {
    let stderr = String::from_utf8_lossy(stderr);
    let found = [failure::report(&stderr), language::report(&stderr)];
    let found = found.into_iter().flatten().min_by_key(|(at, _)| *at);
    found.map(|(_, failure)| failure)
}

/// How many frames of a stack tell one crash from another.
pub const DEPTH: usize = 3;

/// How many do where the innermost is known to the byte: which way it came to the same
/// instruction is then the same bug.
pub const DEPTH_EXACT: usize = 2;

/// What tells a finding from others of its class.
///
/// Its text form ([`Display`](fmt::Display)) names folders and stands in reports; the function
/// of a variant's name reads it again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signature {
    /// What the program printed as it gave up, without line numbers: a failed assertion, a
    /// panic, a check of the heap.
    Failure {
        /// What kind of failure it was: `assertion`, `panic`, ...
        kind: String,
        /// What was said: file, function and text as far as known, separated by `: `.
        text: String,
    },
    /// A signal, with the innermost frames at it where a debugger told them.
    Signal {
        /// Its name: `SIGSEGV`.
        name: String,
        /// Where it came.
        frames: Option<Frames>,
    },
    /// A report of a sanitizer.
    Sanitizer {
        /// What it is about: `heap-buffer-overflow`.
        kind: String,
        /// Where it happened.
        frames: Option<Frames>,
    },
    /// What the guarding allocator saw.
    MemoryError {
        /// What was done: `read past the end of a block`.
        kind: String,
        /// Where the block was allocated.
        allocated: Option<Frames>,
        /// Where it was done.
        accessed: Option<Frames>,
    },
    /// A hang that is known by its stack; `None` stands for any. The command is not in it: an
    /// image that a program hangs at when it opens it hangs every command.
    Hang(Option<Frames>),
    /// Something about a command: the resource it used up, what differs.
    Command {
        /// What it is: `memory`, `status`; `None` where the class says it all.
        aspect: Option<String>,
        /// The program and its verb: `qemu-img convert`.
        verb: String,
    },
    /// What a check printed, numbers taken out.
    Message {
        /// The command behind which the check was made, where that matters.
        verb: Option<String>,
        /// The message.
        text: String,
    },
}

/// What parts the kind of a signature from its frames.
const IN: &str = " in ";

/// What parts them in that of a memory error.
const ALLOCATED: &str = ", allocated in ";
const ACCESSED: &str = ", accessed in ";

impl Signature {
    /// A command alone.
    pub fn verb(verb: impl Into<String>) -> Self {
        Self::Command {
            aspect: None,
            verb: verb.into(),
        }
    }

    /// Something about a command.
    pub fn aspect(aspect: impl Into<String>, verb: impl Into<String>) -> Self {
        Self::Command {
            aspect: Some(aspect.into()),
            verb: verb.into(),
        }
    }

    /// Reads the text form of a crash: a signal, or what the program printed.
    pub fn crash(text: &str) -> Self {
        let (name, frames) = match text.split_once(IN) {
            Some((name, frames)) => (name, Some(Frames::read(frames))),
            None => (text, None),
        };
        if name.starts_with("SIG") || name.starts_with("signal ") {
            return Self::Signal {
                name: name.into(),
                frames,
            };
        }
        let (kind, text) = text.split_once(": ").unwrap_or((text, ""));
        Self::Failure {
            kind: kind.into(),
            text: text.into(),
        }
    }

    /// Reads the text form of a sanitizer's report.
    pub fn sanitizer(text: &str) -> Self {
        let (kind, frames) = match text.rsplit_once(": ") {
            Some((kind, frames)) => (kind, Some(Frames::read(frames))),
            None => (text, None),
        };
        Self::Sanitizer {
            kind: kind.into(),
            frames,
        }
    }

    /// Reads the text form of a memory error.
    pub fn memory_error(text: &str) -> Self {
        let (rest, accessed) = match text.rsplit_once(ACCESSED) {
            Some((rest, frames)) => (rest, Some(Frames::read(frames))),
            None => (text, None),
        };
        let (kind, allocated) = match rest.split_once(ALLOCATED) {
            Some((kind, frames)) => (kind, Some(Frames::read(frames))),
            None => (rest, None),
        };
        Self::MemoryError {
            kind: kind.into(),
            allocated,
            accessed,
        }
    }

    /// Reads the text form of a hang: its stack, or the command where that is not known.
    pub fn hang(text: &str) -> Self {
        let (kind, frames) = match text.split_once(IN) {
            Some((kind, frames)) => (kind, Some(Frames::read(frames))),
            None => (text, None),
        };
        // `stuck` is what version 0.2 wrote.
        if ["hung", "stuck"].contains(&kind) {
            Self::Hang(frames)
        } else {
            Self::verb(text)
        }
    }

    /// Reads the text form of something about a command.
    pub fn about_command(text: &str) -> Self {
        match text.split_once(' ') {
            Some((aspect, verb)) => Self::aspect(aspect, verb),
            None => Self::verb(text),
        }
    }

    /// Reads the text form of a message behind a command.
    pub fn about_message(text: &str) -> Self {
        match text.split_once(": ") {
            Some((verb, text)) => Self::Message {
                verb: Some(verb.into()),
                text: text.into(),
            },
            None => Self::message(text),
        }
    }

    /// A message, numbers taken out, whatever command it came from.
    pub fn message(text: &str) -> Self {
        Self::Message {
            verb: None,
            text: text.into(),
        }
    }

    /// How people are told of it: by `summary`, which quotes the program, where the signature
    /// itself leaves out numbers.
    pub fn title(&self, summary: &str) -> String {
        match self {
            Self::Failure { .. } | Self::Message { .. } => summary.to_owned(),
            _ => self.to_string(),
        }
    }

    /// The frames in it.
    pub fn frames(&self) -> Option<&Frames> {
        match self {
            Self::Signal { frames, .. } | Self::Sanitizer { frames, .. } | Self::Hang(frames) => {
                frames.as_ref()
            }
            _ => None,
        }
    }

    /// Whether a debugger can tell more: no more is known than that there was a signal.
    pub fn lacks_stack(&self) -> bool {
        matches!(self, Self::Signal { frames: None, .. })
    }

    /// The same signal at these frames; others stay as they are.
    #[must_use]
    pub fn at(self, frames: Frames) -> Self {
        match self {
            Self::Signal { name, .. } => Self::Signal {
                name,
                frames: Some(frames),
            },
            other => other,
        }
    }

    /// What can be told of it at once, without a debugger.
    #[must_use]
    pub fn without_stack(self) -> Self {
        match self {
            Self::Signal { name, .. } => Self::Signal { name, frames: None },
            Self::Hang(_) => Self::Hang(None),
            other => other,
        }
    }

    /// Whether two hangs may be one: a hang whose stack could not be looked at, which is
    /// named by its command, is not told from one whose stack is known; nor are two stacks of
    /// which one was looked at while a function was called where the other is.
    pub fn may_be_hang(&self, seen: &Self) -> bool {
        match (self, seen) {
            (Self::Hang(Some(one)), Self::Hang(Some(other))) => {
                one == other || one.is_called_from(other) || other.is_called_from(one)
            }
            (Self::Hang(_), _) | (_, Self::Hang(_)) => true,
            (one, other) => one == other,
        }
    }

    /// Whether `seen` is a crash by the same signal as this one, wherever.
    pub fn has_signal_of(&self, seen: &Self) -> bool {
        match (self, seen) {
            (Self::Signal { name, .. }, Self::Signal { name: other, .. }) => name == other,
            _ => false,
        }
    }

    /// Whether `seen` is this crash in another build: by the same signal, and with the same
    /// frames but for those without a name, whose offsets are other ones in each build.
    pub fn is_rebuilt(&self, seen: &Self) -> bool {
        self.has_signal_of(seen)
            && matches!((self.frames(), seen.frames()), (Some(one), Some(other)) if one.is_rebuilt(other))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failure { kind, text } if text.is_empty() => f.write_str(kind),
            Self::Failure { kind, text } => write!(f, "{kind}: {text}"),
            Self::Signal { name, frames: None } => f.write_str(name),
            Self::Signal {
                name,
                frames: Some(frames),
            } => write!(f, "{name}{IN}{frames}"),
            Self::Sanitizer { kind, frames: None } => f.write_str(kind),
            Self::Sanitizer {
                kind,
                frames: Some(frames),
            } => write!(f, "{kind}: {frames}"),
            Self::MemoryError {
                kind,
                allocated,
                accessed,
            } => {
                f.write_str(kind)?;
                for (word, frames) in [(ALLOCATED, allocated), (ACCESSED, accessed)] {
                    if let Some(frames) = frames {
                        write!(f, "{word}{frames}")?;
                    }
                }
                Ok(())
            }
            Self::Hang(None) => f.write_str("hung"),
            Self::Hang(Some(frames)) => write!(f, "hung{IN}{frames}"),
            Self::Command { aspect: None, verb } => f.write_str(verb),
            Self::Command {
                aspect: Some(aspect),
                verb,
            } => write!(f, "{aspect} {verb}"),
            Self::Message { verb: None, text } => f.write_str(text),
            Self::Message {
                verb: Some(verb),
                text,
            } => write!(f, "{verb}: {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hang_without_a_stack_may_be_any_that_has_one() {
        let [plain, one, other] =
            ["qemu-img convert", "hung in a < b", "stuck in c < b"].map(Signature::hang);
        assert!(plain.may_be_hang(&one) && one.may_be_hang(&plain) && one.may_be_hang(&one));
        assert!(!one.may_be_hang(&other) && one.without_stack().may_be_hang(&other));
        assert!(!plain.may_be_hang(&Signature::hang("qemu-img check")));
        let [shallow, deep] = ["hung in b < c < d", "hung in a < b < c"].map(Signature::hang);
        assert!(shallow.may_be_hang(&deep) && deep.may_be_hang(&shallow));
        assert!(!shallow.may_be_hang(&Signature::hang("hung in b < e < c")));
    }

    #[test]
    fn a_crash_in_another_build_is_known_by_the_frames_that_have_names() {
        let rebuilt = |one: &str, other: &str| {
            let (one, other) = (Signature::crash(one), Signature::crash(other));
            assert_eq!(one.is_rebuilt(&other), other.is_rebuilt(&one));
            one.is_rebuilt(&other)
        };
        let known = "SIGSEGV in img+0x9c58c < open < img+0x1";
        assert!(rebuilt(known, "SIGSEGV in img+0x77 < open < img+0x2"));
        assert!(!rebuilt(known, "SIGABRT in img+0x77 < open < img+0x2"));
        assert!(!rebuilt(known, "SIGSEGV in img+0x77 < close < img+0x2"));
        assert!(!rebuilt(
            known,
            "SIGSEGV in libc.so.6+0x77 < open < img+0x2"
        ));
        assert!(!rebuilt(known, "SIGSEGV in img+0x77 < open"));
        assert!(!rebuilt("SIGSEGV in img+0x1", "SIGSEGV in img+0x2"));
        assert!(!rebuilt("SIGSEGV", "SIGSEGV"));
        let crash = Signature::crash;
        let other = crash("SIGSEGV in img+0x5");
        assert!(crash(known).has_signal_of(&other));
        assert!(!crash("assertion: a in b").has_signal_of(&crash("assertion: a in c")));
        assert!(!Signature::hang("hung in img+0x5").has_signal_of(&other));
    }

    #[test]
    fn what_differs_from_run_to_run_can_be_left_out() {
        assert_eq!(
            Signature::crash("SIGSEGV in a < b")
                .without_stack()
                .to_string(),
            "SIGSEGV"
        );
        let failure = Signature::crash("assertion: a.c: f: x in y");
        assert_eq!(failure.clone().without_stack(), failure);
        let verb = Signature::hang("qemu-img convert");
        assert_eq!(verb.clone().without_stack(), verb);
    }

    proptest! {
        /// Signatures are stored as text: what is read is what was written.
        #[test]
        fn the_text_form_is_read_again(
            text in "(SIG[A-Z]{3}|hung|assertion|[a-z]{1,5})((: | in | < |, allocated in |, accessed in | )[a-z_.+0-9]{1,6}){0,4}",
        ) {
            for read in [
                Signature::crash,
                Signature::sanitizer,
                Signature::memory_error,
                Signature::hang,
                Signature::about_command,
                Signature::about_message,
            ] {
                let signature = read(&text);
                prop_assert_eq!(&signature.to_string(), &text);
                prop_assert_eq!(read(&signature.to_string()), signature);
            }
        }
    }
}
