//! What is wrong with what a program did. Each oracle is one file, one class of
//! findings, and says nothing about valid images: a run without edits proves that.

pub mod crash;
pub mod data;
pub mod disagreement;
pub mod growth;
pub mod hang;
mod known_hangs;
pub mod metadata;
pub mod outside;
pub mod repair;
pub mod runner;
pub mod sanitizer;
pub mod timeout;

pub use known_hangs::KnownHangs;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::commands::Command;
use crate::exec::{End, Observation};
use crate::signature::Signature;

/// The classes of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A signal or a failed assertion.
    Crash,
    /// A sanitizer's report, whatever the exit status.
    Sanitizer,
    /// The program did not end.
    Hang,
    /// The program ended, but only after a multiple of its time.
    Slow,
    /// Memory, disk or output out of proportion to the image.
    Growth,
    /// A file or address was reached that the image names and the command does not.
    Outside,
    /// `check -r all` reported success and left errors.
    FalseRepair,
    /// A write that reported success damaged the image's metadata.
    MetadataDamage,
    /// Data changed where nothing was written.
    DataChange,
    /// Two programs read the same valid image differently.
    Disagreement,
}

impl Class {
    /// Every class, in the order of reports.
    pub const ALL: [Self; 10] = [
        Self::Crash,
        Self::Sanitizer,
        Self::Hang,
        Self::Slow,
        Self::Growth,
        Self::Outside,
        Self::FalseRepair,
        Self::MetadataDamage,
        Self::DataChange,
        Self::Disagreement,
    ];

    /// The class's word, as in folder names and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Sanitizer => "sanitizer",
            Self::Hang => "hang",
            Self::Slow => "slow",
            Self::Growth => "growth",
            Self::Outside => "outside",
            Self::FalseRepair => "false-repair",
            Self::MetadataDamage => "metadata-damage",
            Self::DataChange => "data-change",
            Self::Disagreement => "disagreement",
        }
    }

    /// Reads the text form of a signature of this class.
    pub fn signature(self, text: &str) -> Signature {
        match self {
            Self::Crash => Signature::crash(text),
            Self::Sanitizer => Signature::sanitizer(text),
            Self::Hang => Signature::hang(text),
            Self::Growth | Self::Disagreement => Signature::about_command(text),
            Self::Slow | Self::Outside | Self::DataChange => Signature::verb(text),
            Self::FalseRepair => Signature::Message {
                verb: None,
                text: text.into(),
            },
            Self::MetadataDamage => Signature::about_message(text),
        }
    }

    /// What the class means, to finish "the program …".
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Crash => "was ended by a signal",
            Self::Sanitizer => "was caught by a sanitizer",
            Self::Hang => "did not end",
            Self::Slow => "took many times as long as it may",
            Self::Growth => "used resources out of proportion to the image",
            Self::Outside => "reached for something that only the image names",
            Self::FalseRepair => "reported a repair and left errors in the image",
            Self::MetadataDamage => "damaged the image's metadata and reported success",
            Self::DataChange => "changed data that it was not asked to change",
            Self::Disagreement => "read the image differently from another program",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Something that an oracle holds to be a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The oracle's class.
    pub class: Class,
    /// What tells this fault from others of its class, as far as the oracle can
    /// say: free of numbers and paths.
    pub signature: Signature,
    /// Index of the command in the recipe.
    pub command: usize,
    /// What happened, in a sentence.
    pub summary: String,
    /// Whether it was taken for a known hang by where it was, and not waited for: it counts
    /// as a hit and is no example.
    pub assumed: bool,
}

/// How a run ended, in a word or two: `exit 1`, `signal 6`, `time-out`.
pub fn end_word(end: &End) -> String {
    match end {
        End::Exit(status) => format!("exit {status}"),
        End::Signal(number) => format!("signal {number}"),
        End::TimedOut => "time-out".into(),
        End::OverLimit(limit) => format!("over the {} limit", growth::limit_word(*limit)),
        End::Stopped => "stopped".into(),
        End::NotStarted(_) => "not started".into(),
    }
}

/// Judges one run by itself, whatever came before.
pub fn judge(command: &Command, index: usize, seen: &Observation) -> Option<Violation> {
    let (class, signature, summary) = sanitizer::judge(seen)
        .or_else(|| crash::judge(seen))
        .or_else(|| hang::judge(command, seen))
        .or_else(|| growth::judge(command, seen))
        .or_else(|| outside::judge(command, seen))?;
    Some(Violation {
        class,
        signature,
        command: index,
        summary,
        assumed: false,
    })
}

/// What an oracle says of one run: class, signature, sentence.
type Verdict = Option<(Class, Signature, String)>;

/// Runs a program for an oracle on the image as it is now, in its scratch folder.
pub trait Probe {
    /// Runs `command` and waits for its end.
    fn run(&mut self, command: &Command) -> Observation;
}
