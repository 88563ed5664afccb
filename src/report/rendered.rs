//! A result made ready to be shown: its difference and logs, worked out once for
//! all reports.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::diff::{Bounds, Diff, Limits, Paint, patch, render, visible_text};
use crate::model::{Finished, Verdict};
use crate::words;

/// At most so much of one log (bytes) is shown.
const LOG: u64 = 64 << 10;

/// A log, or the part of it that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Log {
    /// What it is: `sanitizer report`, `stacks`, `output`.
    pub(super) title: String,
    /// Where all of it is.
    pub(super) path: PathBuf,
    /// Its text made visible, cut to its beginning or (output) its end.
    pub(super) text: String,
    /// Bytes left out.
    pub(super) left_out: u64,
}

/// A finished job with all that reports show of it.
#[derive(Debug)]
pub(super) struct Rendered<'a> {
    pub(super) finished: &'a Finished,
    /// [`words::description`].
    pub(super) description: String,
    /// Where the output is not the reference.
    pub(super) diff: Option<Diff>,
    /// The whole difference, written where it is too long to be shown.
    pub(super) diff_file: Option<PathBuf>,
    /// Sanitizer reports, stacks, and the output's end for a test that did not
    /// pass.
    pub(super) logs: Vec<Log>,
    /// When it was told.
    pub(super) at: SystemTime,
    /// Whether the file with the output was still there then.
    pub(super) output_kept: bool,
}

/// What is worked out of a result, kept without it.
#[derive(Debug, Default)]
pub struct Parts {
    pub(super) description: String,
    pub(super) diff: Option<Diff>,
    pub(super) diff_file: Option<PathBuf>,
    pub(super) logs: Vec<Log>,
    pub(super) at: Option<SystemTime>,
    pub(super) output_kept: bool,
}

impl Parts {
    /// Of a result of which only this is known.
    #[must_use]
    pub fn described(description: &str, at: SystemTime) -> Self {
        Self {
            description: description.to_owned(),
            at: Some(at),
            ..Self::default()
        }
    }
}

impl<'a> Rendered<'a> {
    /// Works out what is to be shown of `finished`. Logs that cannot be read are
    /// shown as such.
    pub(super) fn new(finished: &'a Finished) -> Self {
        let bad = matches!(finished.verdict, Verdict::Fail(_) | Verdict::Flaky { .. });
        let diff = finished
            .mismatch
            .as_ref()
            .map(|m| Diff::new(&m.expected, &m.actual, &Limits::default()))
            .filter(|d| !d.is_empty());
        let mut rendered = Self {
            finished,
            description: words::description(finished),
            diff,
            diff_file: None,
            logs: if bad { logs(finished) } else { Vec::new() },
            at: SystemTime::now(),
            output_kept: finished.outcome.as_ref().is_some_and(|o| o.output.exists()),
        };
        rendered.write_diff();
        rendered
    }

    /// The same from what was worked out when it happened: nothing is read or written.
    pub(super) fn stored(finished: &'a Finished, parts: Parts) -> Self {
        Self {
            finished,
            description: parts.description,
            diff: parts.diff,
            diff_file: parts.diff_file,
            logs: parts.logs,
            at: parts.at.unwrap_or(SystemTime::UNIX_EPOCH),
            output_kept: parts.output_kept,
        }
    }

    /// The difference as text, with a line on what was left out.
    pub(super) fn diff_text(&self, paint: Paint) -> Option<String> {
        let diff = self.diff.as_ref()?;
        let (old, new) = self.diff_names();
        let (mut text, left_out) = render(diff, &old, &new, paint, &Bounds::default());
        match &self.diff_file {
            Some(file) if left_out > 0 => text.push_str(&format!(
                "... {left_out} more lines of difference: {}\n",
                words::path(file)
            )),
            _ if left_out > 0 => {
                text.push_str(&format!("... {left_out} more lines of difference\n"));
            }
            _ => {}
        }
        if diff.not_compared > 0 {
            text.push_str(&format!(
                "... {} further lines were not compared\n",
                diff.not_compared
            ));
        }
        Some(text)
    }

    pub(super) fn diff_names(&self) -> (String, String) {
        let finished = self.finished;
        let old = finished.reference.as_ref();
        let new = finished.outcome.as_ref().map(|o| &o.output);
        (
            old.map_or_else(|| "(no reference)".to_owned(), |p| words::path(p)),
            new.map_or_else(|| "output".to_owned(), |p| words::path(p)),
        )
    }

    /// Writes a difference that is too long to be shown beside the output, as
    /// `NAME.out.diff`. Where that cannot be done the output itself is still
    /// there, so nothing is lost.
    fn write_diff(&mut self) {
        let (Some(diff), Some(outcome)) = (&self.diff, &self.finished.outcome) else {
            return;
        };
        let lines: usize = diff.hunks.iter().map(|h| h.lines.len()).sum();
        if lines <= Bounds::default().lines {
            return;
        }
        let file = outcome.output.with_extension("diff");
        let (old, new) = self.diff_names();
        let written = atomic_write::write(&file, |out| patch(diff, &old, &new, out));
        self.diff_file = written.is_ok().then_some(file);
    }
}

fn logs(finished: &Finished) -> Vec<Log> {
    let Some(outcome) = &finished.outcome else {
        return Vec::new();
    };
    let mut logs = Vec::new();
    for path in &outcome.sanitizer_logs {
        logs.extend(read("sanitizer report", path, false));
    }
    if let Some(path) = &outcome.stacks {
        logs.extend(read("stacks before it was killed", path, false));
    }
    logs.extend(read("output", &outcome.output, true));
    logs
}

/// Reads the beginning or the end of a log; `None` for an empty one.
fn read(title: &'static str, path: &Path, end: bool) -> Option<Log> {
    let part = || -> io::Result<(Vec<u8>, u64)> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        if end && len > LOG {
            file.seek(SeekFrom::Start(len - LOG))?;
        }
        let mut bytes = Vec::new();
        file.take(LOG).read_to_end(&mut bytes)?;
        Ok((bytes, len.saturating_sub(LOG)))
    };
    let (text, left_out) = match part() {
        Ok((bytes, _)) if bytes.is_empty() => return None,
        Ok((bytes, left_out)) => (visible_text(&bytes), left_out),
        Err(e) => (format!("cannot be read: {e}\n"), 0),
    };
    Some(Log {
        title: title.to_owned(),
        path: path.to_owned(),
        text,
        left_out,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Failure, Mismatch};
    use crate::report::sample;

    #[test]
    fn a_long_difference_is_written_whole_beside_the_output() {
        let dir = tempfile::tempdir().unwrap();
        let mut f = sample::finished(
            sample::job(0, "030", "qcow2"),
            Verdict::Fail(vec![Failure::Output]),
        );
        let actual: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        let outcome = f.outcome.as_mut().unwrap();
        outcome.output = dir.path().join("030.out.bad");
        std::fs::write(&outcome.output, &actual).unwrap();
        f.mismatch = Some(Mismatch {
            expected: Arc::default(),
            actual: Arc::new(actual.into_bytes()),
        });
        let rendered = Rendered::new(&f);
        let text = rendered.diff_text(Paint::Plain).unwrap();
        let file = dir.path().join("030.out.diff");
        assert!(
            text.ends_with(&format!(
                "+line 199\n... 800 more lines of difference: {}\n",
                file.display()
            )),
            "{text}"
        );
        let whole = std::fs::read_to_string(file).unwrap();
        assert_eq!(whole.lines().count(), 1003);
        assert_eq!(rendered.logs.len(), 1);
        assert_eq!(rendered.logs[0].title, "output");
    }

    #[test]
    fn a_log_that_is_gone_is_said() {
        let mut f = sample::finished(
            sample::job(0, "030", "qcow2"),
            Verdict::Fail(vec![Failure::Sanitizer]),
        );
        f.outcome.as_mut().unwrap().sanitizer_logs = vec!["/nowhere/asan.1".into()];
        let rendered = Rendered::new(&f);
        assert!(rendered.logs[0].text.starts_with("cannot be read"));
    }
}
