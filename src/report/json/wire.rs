//! The lines as they are written and read: `docs/json-events.md` says what their fields mean.
//! Fields with a default came later than the first files.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{Combo, JobId, Kind, LeftBehind};

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Line {
    RunStarted(RunStarted),
    Started(Started),
    Slow(Slow),
    WaitsForGdb(WaitsForGdb),
    Debugging(Debugging),
    Output(Output),
    Finished(Box<Finished>),
    Status(Status),
    Interrupting {
        running: usize,
    },
    RunFinished(RunFinished),
    /// One of a later program.
    #[serde(other)]
    Unknown,
}

/// A moment, in RFC 3339.
#[derive(Debug, Clone, Copy)]
pub(super) struct At(pub(super) SystemTime);

impl Serialize for At {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match Timestamp::try_from(self.0) {
            Ok(at) => to.collect_str(&at),
            Err(_) => to.collect_str(&Timestamp::UNIX_EPOCH),
        }
    }
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let at: Timestamp = text.parse().map_err(D::Error::custom)?;
        Ok(Self(at.into()))
    }
}

/// The longest duration that can be read.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// A duration, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Secs(pub(super) Duration);

impl Serialize for Secs {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.0.as_secs_f64())
    }
}

impl<'de> Deserialize<'de> for Secs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let secs = f64::deserialize(from)?;
        let time = Duration::try_from_secs_f64(secs).map_err(D::Error::custom)?;
        // Times are added to moments.
        if time > LONGEST {
            return Err(D::Error::custom("a duration of more than ten years"));
        }
        Ok(Self(time))
    }
}

/// Which job an event is about.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) job: JobId,
    pub(super) test: String,
    pub(super) combo: Combo,
    #[serde(default)]
    pub(super) repetition: u32,
    #[serde(default)]
    pub(super) summary: String,
    #[serde(default)]
    pub(super) groups: BTreeSet<String>,
    #[serde(default)]
    pub(super) needs: Vec<String>,
    #[serde(default)]
    pub(super) source: String,
    #[serde(default)]
    pub(super) known_failure: Option<KnownFailure>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct KnownFailure {
    pub(super) reason: String,
    pub(super) flaky: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunStarted {
    pub(super) version: u32,
    pub(super) at: At,
    pub(super) jobs: usize,
    pub(super) combos: Vec<Combo>,
    pub(super) tests: Vec<String>,
    /// For each job the positions of its test and combination, and its repetition.
    #[serde(default)]
    pub(super) plan: Vec<(usize, usize, u32)>,
    pub(super) shuffle: Option<u64>,
    pub(super) header: Vec<HeaderLine>,
    #[serde(default)]
    pub(super) shard: Option<Shard>,
    #[serde(default)]
    pub(super) missing_shards: Vec<String>,
    #[serde(default)]
    pub(super) flaky_passes: bool,
    #[serde(default)]
    pub(super) tap_numbers: bool,
    #[serde(default)]
    pub(super) previous_at: Option<At>,
    #[serde(default)]
    pub(super) previous_tests: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HeaderLine {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Shard {
    pub(super) index: usize,
    pub(super) of: usize,
    pub(super) jobs: usize,
    pub(super) plan: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Started {
    #[serde(flatten)]
    pub(super) job: Job,
    pub(super) last_seconds: Option<f64>,
    pub(super) at: At,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Slow {
    #[serde(flatten)]
    pub(super) job: Job,
    pub(super) seconds: Secs,
    pub(super) at: Option<At>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WaitsForGdb {
    #[serde(flatten)]
    pub(super) job: Job,
    pub(super) program: String,
    pub(super) command: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Debugging {
    #[serde(flatten)]
    pub(super) job: Job,
    pub(super) program: String,
}

/// What a job has printed: as text where it is UTF-8, else in base64.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Output {
    #[serde(flatten)]
    pub(super) job: Job,
    #[serde(flatten)]
    pub(super) bytes: Piece,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Status {
    pub(super) done: usize,
    pub(super) jobs: usize,
    pub(super) failed: usize,
    pub(super) at: Option<At>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunFinished {
    pub(super) interrupted: bool,
    pub(super) seconds: Secs,
    pub(super) not_reached: Vec<Job>,
    pub(super) counts: Counts,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Counts {
    pub(super) pass: usize,
    pub(super) fail: usize,
    pub(super) not_run: usize,
    pub(super) flaky: usize,
    pub(super) interrupted: usize,
    pub(super) known_fail: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Finished {
    #[serde(flatten)]
    pub(super) job: Job,
    #[serde(default)]
    pub(super) at: Option<At>,
    pub(super) verdict: Kind,
    pub(super) description: String,
    pub(super) failures: Option<Vec<Failure>>,
    pub(super) reason: Option<String>,
    pub(super) tries: Option<Share>,
    pub(super) retries: Option<Share>,
    pub(super) cases_not_run: Vec<String>,
    pub(super) last_seconds: Option<f64>,
    #[serde(default)]
    pub(super) previous: Option<Previous>,
    pub(super) rerun: String,
    pub(super) notes: Vec<String>,
    pub(super) reference: Option<String>,
    pub(super) diff: Option<String>,
    #[serde(default)]
    pub(super) hunks: Option<Vec<Hunk>>,
    #[serde(default)]
    pub(super) not_compared: u32,
    pub(super) diff_file: Option<String>,
    #[serde(default)]
    pub(super) logs: Vec<Log>,
    #[serde(default)]
    pub(super) output_kept: bool,
    pub(super) outcome: Option<Outcome>,
}

/// So many of so many.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Share {
    pub(super) passed: u32,
    pub(super) of: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Previous {
    pub(super) verdict: Kind,
    pub(super) seconds: f64,
}

/// A failure: `kind` says which of the other fields it has.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Failure {
    pub(super) kind: String,
    pub(super) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seconds: Option<Secs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hunk {
    pub(super) old: (u32, u32),
    pub(super) new: (u32, u32),
    pub(super) lines: Vec<DiffLine>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Side {
    Same,
    Removed,
    Added,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DiffLine {
    pub(super) side: Side,
    /// How many lines of that side this stands for, where none of them is shown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) lines_left_out: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) pieces: Vec<Piece>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) bytes_left_out: u32,
}

/// Bytes: as text where they are UTF-8, else in base64.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Piece {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) base64: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) changed: bool,
}

// The signature is serde's.
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Log {
    pub(super) title: String,
    pub(super) path: String,
    pub(super) text: String,
    pub(super) bytes_left_out: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) exit: Exit,
    #[serde(default)]
    pub(super) ended: Option<Ended>,
    pub(super) start: At,
    pub(super) seconds: Secs,
    pub(super) cpu_seconds: Secs,
    pub(super) output: String,
    pub(super) scratch: String,
    pub(super) stacks: Option<String>,
    pub(super) sanitizer_logs: Vec<String>,
    pub(super) cores: Vec<String>,
    pub(super) left_behind: Vec<LeftBehind>,
    pub(super) left_mounts: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Exit {
    Status(i32),
    Signal(i32),
    NotStarted(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ended {
    TimeOut(Secs),
    OutputLimit(u64),
    ScratchLimit(u64),
    Interrupted,
}
