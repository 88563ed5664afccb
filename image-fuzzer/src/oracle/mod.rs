//! What counts as a finding. Each oracle is one file and one class of findings, and owns all
//! that is particular to it: how it is judged, how a script and a numbered test tell that it
//! shows, how its signature is read. It finds nothing in valid images: a run without
//! mutations proves that.
//!
//! A new oracle is one file that implements [`Oracle`] and one row in the table below.

mod accepted_invalid;
mod check;
mod crash;
pub mod data_change;
pub mod disagreement;
mod external_access;
mod false_repair;
mod format_change;
pub mod hang;
mod known_hangs;
mod memory_error;
pub mod metadata_damage;
pub mod readers;
mod resource_use;
pub mod runner;
mod sanitizer;
pub mod shell;
mod slow;
mod subject;
pub mod timeout;
mod uninitialised;
mod wrong_data;

pub use check::check;
pub use known_hangs::KnownHangs;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::commands::Command;
use crate::exec::{End, Limits, Observation};
use crate::signature::Signature;
use shell::Script;

/// One class of findings.
pub trait Oracle: Sync {
    /// Judges one run by itself, whatever came before; those that need more are asked by the
    /// test runner.
    fn judge(&self, _command: &Command, _seen: &Observation) -> Verdict {
        None
    }

    /// Whether its images are put where AFL's tools look for hangs, not for crashes.
    fn is_hang(&self) -> bool {
        false
    }

    /// Variables and functions of `reproduce.sh` that [`verdict`](Self::verdict) needs, one of
    /// them `before`, the words that go before a program.
    fn variables(&self, _limits: &Limits) -> String {
        // Without a limit.
        "before='timeout -k 1 0'\n".into()
    }

    /// The last lines of `reproduce.sh`: the command that shows the finding, and a condition
    /// that holds when it does.
    fn verdict(&self, script: &Script<'_>) -> String;

    /// Commands that are run around the one that shows the finding, where that itself does
    /// not tell.
    fn around(&self, _signature: &Signature) -> Option<Around> {
        None
    }

    /// Whether a numbered test can tell that it shows.
    fn is_testable(&self) -> bool {
        true
    }
}

/// Commands around the one that shows a finding.
#[derive(Clone, Debug)]
pub struct Around {
    /// What is run before it.
    pub before: Option<Command>,
    /// Whether what is run behind it needs what `before` made.
    pub is_needed: bool,
    /// The highest exit status with which the command may end for that to be asked.
    pub highest_status: i32,
    /// What is run behind it; `None` where success of the command is the finding.
    pub after: Option<Command>,
    /// What the exit status of that means, for people.
    pub status: &'static str,
    /// A line for the shell that prints something where that shows the finding.
    pub test: &'static str,
}

/// What there is to know of a class besides its judgement.
struct Row {
    word: &'static str,
    /// Words that earlier versions stored for it.
    earlier_words: &'static [&'static str],
    /// To finish "the program …".
    meaning: &'static str,
    /// Reads the text form of a signature.
    signature: fn(&str) -> Signature,
    oracle: &'static dyn Oracle,
}

macro_rules! oracles {
    ($($(#[$doc:meta])* $class:ident = $word:literal $(| $earlier:literal)*, $meaning:literal,
        $signature:expr, $oracle:expr;)*) => {
        /// The classes of findings, in the order of reports.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Class {
            $($(#[$doc])* $class,)*
        }

        impl Class {
            /// Every class, in the order of reports.
            pub const ALL: &[Self] = &[$(Self::$class,)*];

            fn row(self) -> Row {
                match self {
                    $(Self::$class => Row {
                        word: $word,
                        earlier_words: &[$($earlier),*],
                        meaning: $meaning,
                        signature: $signature,
                        oracle: &$oracle,
                    },)*
                }
            }
        }
    };
}

oracles! {
    /// A signal, a failed assertion, a panic, an uncaught exception.
    Crash = "crash",
        "crashed",
        Signature::crash, crash::Crash;
    /// A sanitizer's report, whatever the exit status.
    Sanitizer = "sanitizer",
        "was caught by a sanitizer",
        Signature::sanitizer, sanitizer::Sanitizer;
    /// An access outside a block of memory, or a wrong free, that the guarding allocator saw.
    MemoryError = "memory-error",
        "accessed memory that is not its own, or freed it wrongly, as the guarding allocator saw",
        Signature::memory_error, memory_error::MemoryError;
    /// What a command does depends on memory that was never written.
    Uninitialised = "uninitialised",
        "used memory that it never wrote",
        Signature::about_command, uninitialised::Uninitialised;
    /// The program hung.
    Hang = "hang",
        "hung",
        Signature::hang, hang::Hang;
    /// The program exited, but only after a multiple of its time limit.
    Slow = "slow",
        "exceeded its time limit many times over",
        |text| Signature::verb(text), slow::Slow;
    /// Too much memory, disk or output for the image.
    ResourceUse = "resource-use" | "growth",
        "used too much memory, disk or output",
        Signature::about_command, resource_use::ResourceUse;
    /// A file or address was opened that the image names and the command does not.
    ExternalAccess = "external-access" | "outside",
        "opened a file that only the image names",
        |text| Signature::verb(text), external_access::ExternalAccess;
    /// What a guest wrote made a raw image one of another format.
    FormatChange = "format-change",
        "let a guest make a raw image one of another format",
        Signature::about_command, format_change::FormatChange;
    /// `check -r all` reported success and left errors.
    FalseRepair = "false-repair",
        "reported a repair and left errors in the image",
        Signature::message, false_repair::FalseRepair;
    /// A write that reported success, or an I/O error, damaged the image's metadata.
    MetadataDamage = "metadata-damage",
        "damaged the image's metadata, and reported success or an I/O error",
        Signature::about_message, metadata_damage::MetadataDamage;
    /// Data changed where nothing was written.
    DataChange = "data-change",
        "changed data that it was not asked to change",
        |text| Signature::verb(text), data_change::DataChange;
    /// An image was accepted that must be refused.
    AcceptedInvalid = "accepted-invalid",
        "accepted an image that must be refused",
        Signature::message, accepted_invalid::AcceptedInvalid;
    /// Other data was read than the image holds.
    WrongData = "wrong-data",
        "read other data than the image holds",
        Signature::about_command, wrong_data::WrongData;
    /// Two programs read the same image differently.
    Disagreement = "disagreement",
        "read the image differently from another program",
        Signature::about_command, disagreement::Disagreement;
}

impl Class {
    /// What judges it.
    pub fn oracle(self) -> &'static dyn Oracle {
        self.row().oracle
    }

    /// What the class means, to finish "the program …".
    pub fn meaning(self) -> &'static str {
        self.row().meaning
    }

    /// Reads the text form of a signature of this class.
    pub fn signature(self, text: &str) -> Signature {
        (self.row().signature)(text)
    }

    /// How bad its findings are.
    pub fn severity(self) -> Severity {
        match self {
            Self::Sanitizer | Self::MemoryError | Self::Uninitialised => Severity::Memory,
            Self::ExternalAccess | Self::FormatChange => Severity::Memory,
            Self::FalseRepair | Self::MetadataDamage | Self::DataChange | Self::WrongData => {
                Severity::Data
            }
            Self::Crash => Severity::Crash,
            Self::Hang => Severity::Hang,
            Self::Slow | Self::ResourceUse => Severity::Excess,
            Self::AcceptedInvalid | Self::Disagreement => Severity::Refusal,
        }
    }

    /// The class of that word, or of one that earlier versions had for it.
    pub fn of_word(word: &str) -> Option<Self> {
        let is = |class: &&Self| {
            let row = class.row();
            row.word == word || row.earlier_words.contains(&word)
        };
        Self::ALL.iter().find(is).copied()
    }

    /// Whether its findings are about how long a command takes.
    pub fn is_of_time(self) -> bool {
        matches!(self, Self::Hang | Self::Slow)
    }
}

/// How bad a finding is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Memory, or files, that are not the program's own.
    Memory,
    /// Wrong data, and damage to the image.
    Data,
    /// The program ended.
    Crash,
    /// It did not exit.
    Hang,
    /// It took too much.
    Excess,
    /// It refused or accepted what another reader or the specification does not.
    Refusal,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.row().word)
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.row().word)
    }
}

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::of_word(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown class '{text}'")))
    }
}

/// Something that an oracle takes for a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The oracle's class.
    pub class: Class,
    /// What tells it from others of its class, as far as the oracle can say.
    pub signature: Signature,
    /// Index of the command in the recipe.
    pub command: usize,
    /// What happened, in a sentence.
    pub summary: String,
    /// Whether it was taken for a known hang by where it was, and not waited for: it counts
    /// as a hit and is no example.
    pub assumed: bool,
}

/// How a run ended, in a word or two: `exit 1`, `signal 6`, `timeout`.
pub fn end_word(end: &End) -> String {
    match end {
        End::Exit(status) => format!("exit {status}"),
        End::Signal(number) => format!("signal {number}"),
        End::TimedOut => "timeout".into(),
        End::OverLimit(limit) => format!("over the {} limit", resource_use::limit_word(*limit)),
        End::Stopped => "stopped".into(),
        End::NotStarted(_) => "not started".into(),
    }
}

/// Judges one run by itself, whatever came before.
pub fn judge(command: &Command, index: usize, seen: &Observation) -> Option<Violation> {
    let judge = |class: &Class| class.oracle().judge(command, seen);
    let verdict = Class::ALL.iter().find_map(judge)?;
    Some(violation(verdict, index))
}

/// The violation by the command at `index` that an oracle speaks of.
fn violation((class, signature, summary): (Class, Signature, String), index: usize) -> Violation {
    Violation {
        class,
        signature,
        command: index,
        summary,
        assumed: false,
    }
}

/// What an oracle says of one run: class, signature, sentence.
pub type Verdict = Option<(Class, Signature, String)>;

/// Runs a program for an oracle on the image as it is now, in its scratch folder.
pub trait Probe {
    /// Runs `command` and waits for its end.
    fn run(&mut self, command: &Command) -> Observation;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_stored_by_their_words() {
        for class in Class::ALL {
            let text = serde_json::to_string(class).unwrap();
            assert_eq!(text, format!("\"{class}\""));
            assert_eq!(serde_json::from_str::<Class>(&text).unwrap(), *class);
        }
        for (earlier, class) in [
            ("growth", Class::ResourceUse),
            ("outside", Class::ExternalAccess),
        ] {
            let text = format!("\"{earlier}\"");
            assert_eq!(serde_json::from_str::<Class>(&text).unwrap(), class);
        }
        assert!(serde_json::from_str::<Class>("\"luck\"").is_err());
    }
}
