//! A job from start to verdict: its tries, what they say, and its files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::attempt::{Shared, Tried, read_bounded, run_once};
use super::order::Queued;
use super::scratch;
use super::stop::Urgency;
use crate::golden;
use crate::model::{Finished, Mismatch, Verdict};
use crate::verdict;

/// Runs a job, again where it failed and that is asked for, and judges it.
pub(super) fn run(
    shared: &Shared<'_>,
    queued: Queued,
    reference: Option<PathBuf>,
    slow: &dyn Fn(Duration),
) -> Finished {
    let last = queued.last();
    let job = queued.job;
    let tried = run_once(shared, &job, 0, slow);
    let judged = Judged::new(shared, &tried, reference.as_deref());
    let (verdict, retries) = match &judged.verdict {
        Verdict::Fail(_) => {
            let mut verdicts = Vec::new();
            for attempt in 1..=shared.settings.rerun_failed {
                if shared.stop.urgency() > Urgency::None {
                    break;
                }
                let again = run_once(shared, &job, attempt, slow);
                verdicts.push(Judged::new(shared, &again, reference.as_deref()).verdict);
                clean_up(shared, &again, true);
            }
            // A retry that the user cut off says nothing.
            verdicts.retain(|v| *v != Verdict::Interrupted);
            verdict::after_retries(judged.verdict.clone(), &verdicts)
        }
        _ => (judged.verdict.clone(), None),
    };
    let mut notes = clean_up(shared, &tried, judged.is_done_with());
    notes.splice(..0, tried.notes);
    Finished {
        verdict,
        cases_not_run: lines(tried.outcome.casenotrun.as_deref()),
        outcome: Some(tried.outcome),
        reference,
        mismatch: judged.mismatch,
        last,
        retries,
        rerun: shared.world.rerun(&job),
        notes,
        job,
    }
}

/// What is told of a job of which nothing was started.
pub(super) fn not_started(shared: &Shared<'_>, queued: Queued, verdict: Verdict) -> Finished {
    Finished {
        verdict,
        outcome: None,
        reference: None,
        mismatch: None,
        cases_not_run: Vec::new(),
        last: queued.last(),
        retries: None,
        rerun: shared.world.rerun(&queued.job),
        notes: Vec::new(),
        job: queued.job,
    }
}

/// A try's verdict.
struct Judged {
    verdict: Verdict,
    mismatch: Option<Mismatch>,
}

impl Judged {
    /// Compares the output of a try with the reference, and judges.
    fn new(shared: &Shared<'_>, tried: &Tried, reference: Option<&Path>) -> Self {
        let settings = shared.settings;
        let outcome = &tried.outcome;
        let judge = |matches| verdict::judge(outcome, matches, &settings.policy);
        if settings.debugger.is_some() {
            // What it printed went to the terminal, for a person to judge.
            return Self {
                verdict: judge(Some(true)),
                mismatch: None,
            };
        }
        let actual = read_bounded(&outcome.output, settings.output_limit).unwrap_or_default();
        let expected = match reference.map(std::fs::read) {
            Some(Ok(expected)) => Some(expected),
            None => None,
            Some(Err(e)) => {
                let why = format!("failed to read the reference: {e}");
                return Self {
                    verdict: Verdict::Fail(vec![crate::model::Failure::NotStarted(why)]),
                    mismatch: None,
                };
            }
        };
        let matches = expected.as_deref().map(|e| golden::equal(e, &actual));
        let verdict = judge(matches);
        // A test that cannot run here has promised no output.
        let shown = outcome.notrun.is_none() || matches!(verdict, Verdict::Fail(_));
        let mismatch = (shown && matches != Some(true)).then(|| Mismatch {
            expected: Arc::new(expected.unwrap_or_default()),
            actual: Arc::new(actual),
        });
        Self { verdict, mismatch }
    }

    /// Whether nobody needs the job's files any more: it passed, or cannot run
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
/// what the user asked to keep and core files. Gives what went wrong.
fn clean_up(shared: &Shared<'_>, tried: &Tried, done_with: bool) -> Vec<String> {
    if shared.settings.keep {
        return Vec::new();
    }
    let scratch = (done_with && tried.outcome.cores.is_empty()).then_some(&tried.dirs.scratch);
    // Both may be the same directory.
    let sockets = (tried.dirs.sockets != tried.dirs.scratch).then_some(&tried.dirs.sockets);
    scratch
        .into_iter()
        .chain(sockets)
        .filter_map(|dir| {
            let error = scratch::remove(dir).err()?;
            Some(format!("failed to remove {}: {error}", dir.display()))
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
