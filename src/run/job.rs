//! A job from start to verdict: its tries, what they say, and its files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::attempt::{Dirs, Shared, Tried, read_bounded, run_once};
use super::order::Queued;
use super::progress::Progress;
use super::scratch;
use super::stop::Urgency;
use crate::golden;
use crate::model::{Exit, Finished, Mismatch, Outcome, Verdict};
use crate::verdict;
use crate::words;

/// Runs a job, again where it failed and that is asked for, and judges it.
pub(super) fn run(
    shared: &Shared<'_>,
    queued: Queued,
    reference: Option<PathBuf>,
    tell: &dyn Fn(Progress),
) -> Finished {
    let last = queued.last();
    let job = queued.job;
    let tried = run_once(shared, &job, 0, tell);
    let judged = Judged::new(shared, &tried, reference.as_deref());
    let (verdict, retries) = match &judged.verdict {
        Verdict::Fail(_) if job.known.is_none() && !shared.settings.is_debugged() => {
            let mut verdicts = Vec::new();
            for attempt in 1..=shared.settings.rerun_failed.max(job.test.retries) {
                if shared.stop.urgency() > Urgency::None {
                    break;
                }
                let again = run_once(shared, &job, attempt, tell);
                verdicts.push(Judged::new(shared, &again, reference.as_deref()).verdict);
                let done_with = again.outcome.cores.is_empty();
                clean_up(shared, &again.dirs, done_with, &again.outcome);
            }
            // A retry that the user aborted does not count.
            verdicts.retain(|v| *v != Verdict::Interrupted);
            verdict::after_retries(judged.verdict.clone(), &verdicts)
        }
        _ => (judged.verdict.clone(), None),
    };
    let verdict = verdict::expected(verdict, job.known.as_ref());
    let done_with = judged.is_done_with();
    let outcome = tried.outcome;
    let mut notes = tried.notes;
    notes.extend(judged.note);
    let mut finished = Finished {
        verdict,
        cases_not_run: lines(outcome.casenotrun.as_deref()),
        outcome: Some(outcome.clone()),
        reference,
        mismatch: judged.mismatch,
        last,
        retries,
        rerun: shared.host.rerun(&job),
        notes,
        job,
    };
    // The output may become a reference: it is there until that is settled.
    shared.settle(&mut finished);
    let done_with = done_with || finished.verdict == Verdict::Pass;
    let done_with = done_with && outcome.cores.is_empty();
    let notes = clean_up(shared, &tried.dirs, done_with, &outcome);
    finished.notes.extend(notes);
    finished
}

/// What is told of a job of which nothing was started.
pub(super) fn not_started(shared: &Shared<'_>, queued: Queued, verdict: Verdict) -> Finished {
    let mut finished = Finished {
        verdict,
        outcome: None,
        reference: None,
        mismatch: None,
        cases_not_run: Vec::new(),
        last: queued.last(),
        retries: None,
        rerun: shared.host.rerun(&queued.job),
        notes: Vec::new(),
        job: queued.job,
    };
    shared.settle(&mut finished);
    finished
}

/// A try's verdict.
struct Judged {
    verdict: Verdict,
    mismatch: Option<Mismatch>,
    /// What a person should see with it.
    note: Option<String>,
}

/// Why a test that ran under a debugger has no verdict of its own.
const NOT_JUDGED: &str = "no result: ran under a debugger";

impl Judged {
    /// Compares the output of a try with the reference, and judges.
    fn new(shared: &Shared<'_>, tried: &Tried, reference: Option<&Path>) -> Self {
        let settings = shared.settings;
        let outcome = &tried.outcome;
        let judge = |matches| verdict::judge(outcome, matches, &settings.policy);
        if settings.debugger.is_some() {
            // What it printed went to the terminal, for a person to judge, and how it
            // ended says what the debugger was told to do.
            let verdict = match (judge(Some(true)), &outcome.exit) {
                (verdict @ (Verdict::Interrupted | Verdict::NotRun(_)), _)
                | (verdict, Exit::NotStarted(_)) => verdict,
                _ => Verdict::NotRun(NOT_JUDGED.to_owned()),
            };
            return Self {
                verdict,
                mismatch: None,
                note: None,
            };
        }
        let actual = read_bounded(&outcome.output, settings.output_limit).unwrap_or_default();
        let mut note = None;
        let started = !matches!(outcome.exit, Exit::NotStarted(_));
        if started && !outcome.output.exists() {
            note = Some("the test removed its own output file".to_owned());
        }
        let mut readable = true;
        let expected = reference.map(|path| {
            std::fs::read(path).unwrap_or_else(|e| {
                readable = false;
                let path = words::path(path);
                note = Some(format!("cannot read the reference {path}: {e}"));
                Vec::new()
            })
        });
        let equal = |expected: &[u8]| readable && golden::equal(expected, &actual);
        let matches = expected.as_deref().map(equal);
        let verdict = judge(matches);
        // A test that cannot run here has promised no output.
        let shown = outcome.notrun.is_none() || matches!(verdict, Verdict::Fail(_));
        // And one that never started has said nothing.
        let shown = shown && started;
        let mismatch = (shown && matches != Some(true)).then(|| Mismatch {
            expected: Arc::new(expected.unwrap_or_default()),
            actual: Arc::new(actual),
        });
        Self {
            verdict,
            mismatch,
            note,
        }
    }

    /// Whether the job's files are no longer needed: it passed, or cannot run
    /// here. One without a reference may yet be given one.
    fn is_done_with(&self) -> bool {
        match self.verdict {
            Verdict::Pass => true,
            Verdict::NotRun(_) => self.mismatch.is_none(),
            _ => false,
        }
    }
}

/// Removes the sockets of a try, and its scratch where that is `done_with`, but
/// what the user asked to keep. Gives what went wrong.
fn clean_up(shared: &Shared<'_>, dirs: &Dirs, done_with: bool, outcome: &Outcome) -> Vec<String> {
    if shared.settings.keep {
        return Vec::new();
    }
    // What was left behind and could not be ended may still write to them.
    let ended_itself = outcome.ended.is_none() && outcome.left_behind.is_empty();
    let scratch = done_with.then_some((&dirs.scratch, Some(outcome.output.as_path())));
    // Both may be the same directory.
    let sockets = (dirs.sockets != dirs.scratch).then_some((&dirs.sockets, None));
    scratch
        .into_iter()
        .chain(sockets)
        .filter_map(|(dir, output)| {
            let removed = match ended_itself {
                true => shared.spares.keep(dir, output),
                false => scratch::remove(dir),
            };
            let error = removed.err()?;
            Some(format!("cannot remove {}: {error}", dir.display()))
        })
        .collect()
}

/// The lines of a text that are not empty.
fn lines(text: Option<&[u8]>) -> Vec<String> {
    text.unwrap_or_default()
        .split(|&b| b == b'\n')
        .map(|line| String::from_utf8_lossy(line.trim_ascii()).into_owned())
        .filter(|line| !line.is_empty())
        .collect()
}
