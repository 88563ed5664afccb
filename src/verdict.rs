//! The verdict: a pure function of what happened.

use crate::golden::NO_REFERENCE;
use crate::model::{Ended, Exit, Failure, KnownFailure, Outcome, Verdict};

/// What counts as a failure, where that is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether processes or mounts that a test left behind make it fail. They
    /// are shown either way.
    pub left_behind_fails: bool,
}

/// Judges one run of a test.
///
/// `output_matches` is whether the output equals the reference
/// ([`crate::golden::equal`]); `None` where there is no reference. The order is
/// the old runner's: how the test ended comes first, then a `.notrun` file, then
/// the output. A sanitizer's report always fails a test, unless
/// the run was interrupted.
#[must_use]
pub fn judge(outcome: &Outcome, output_matches: Option<bool>, policy: &Policy) -> Verdict {
    if outcome.ended == Some(Ended::Interrupted) {
        return Verdict::Interrupted;
    }
    let mut failures = ending(outcome);
    let ended_badly = !failures.is_empty();
    if !outcome.sanitizer_logs.is_empty() {
        failures.push(Failure::Sanitizer);
    }
    if failures.is_empty() {
        if let Some(text) = &outcome.notrun {
            return Verdict::NotRun(reason(text));
        }
        if output_matches.is_none() {
            return Verdict::NotRun(NO_REFERENCE.to_owned());
        }
    }
    // A test that was not run (`.notrun`) need not print anything, and one that was
    // never started cannot.
    let started = !matches!(outcome.exit, Exit::NotStarted(_));
    if output_matches == Some(false) && started && (ended_badly || outcome.notrun.is_none()) {
        failures.push(Failure::Output);
    }
    let left = !outcome.left_behind.is_empty() || !outcome.left_mounts.is_empty();
    // A test that we killed could not clean up.
    if left && policy.left_behind_fails && outcome.ended.is_none() {
        failures.push(Failure::LeftBehind);
    }
    if failures.is_empty() {
        Verdict::Pass
    } else {
        Verdict::Fail(failures)
    }
}

/// What is wrong with how the test ended: nothing, or one reason. Where we killed
/// it, the signal or status is the consequence.
fn ending(outcome: &Outcome) -> Vec<Failure> {
    let one = match (&outcome.ended, &outcome.exit) {
        (Some(Ended::TimeOut(after)), _) => Failure::TimeOut(*after),
        (Some(Ended::Limit(limit)), _) => Failure::Limit(limit.clone()),
        (_, Exit::NotStarted(why)) => Failure::NotStarted(why.clone()),
        (_, Exit::Signal(signal)) => Failure::Signal(*signal),
        (_, Exit::Status(0)) => return Vec::new(),
        (_, Exit::Status(status)) => Failure::ExitStatus(*status),
    };
    vec![one]
}

/// The text of a `.notrun` file as one line.
fn reason(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        "no reason given".to_owned()
    } else {
        words.join(" ")
    }
}

/// The verdict of a test that may be known to fail: a failure is then expected, and a pass a
/// failure, unless it may pass too.
#[must_use]
pub fn expected(verdict: Verdict, known: Option<&KnownFailure>) -> Verdict {
    let Some(known) = known else { return verdict };
    match verdict {
        Verdict::Fail(_) => Verdict::KnownFail(known.reason.clone()),
        Verdict::Pass if !known.flaky => {
            Verdict::Fail(vec![Failure::Unexpected(known.reason.clone())])
        }
        verdict => verdict,
    }
}

/// Puts together the verdict of a first run that failed and those of its
/// retries: flaky where any retry passed, else the first verdict. The second
/// value is what [`crate::model::Finished::retries`] wants: passes of tries
/// (retries only), where none passed.
#[must_use]
pub fn after_retries(first: Verdict, retries: &[Verdict]) -> (Verdict, Option<(u32, u32)>) {
    let tries = u32::try_from(retries.len()).unwrap_or(u32::MAX);
    let passed = retries.iter().filter(|v| **v == Verdict::Pass).count();
    let passed = u32::try_from(passed).unwrap_or(u32::MAX);
    match first {
        Verdict::Fail(_) if passed > 0 => {
            // The first run counts as a try: 2 of 3 means one failure in three.
            let tries = tries.saturating_add(1);
            (Verdict::Flaky { passed, tries }, None)
        }
        first if tries > 0 => (first, Some((0, tries))),
        first => (first, None),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{LeftBehind, Limit};
    use crate::report::sample;

    const STRICT: Policy = Policy {
        left_behind_fails: true,
    };
    const LAX: Policy = Policy {
        left_behind_fails: false,
    };

    fn with(change: impl FnOnce(&mut Outcome)) -> Outcome {
        let mut outcome = sample::outcome("030");
        change(&mut outcome);
        outcome
    }

    #[test]
    fn the_exit_comes_first_then_notrun_then_the_output() {
        let fine = with(|_| {});
        assert_eq!(judge(&fine, Some(true), &STRICT), Verdict::Pass);
        assert_eq!(
            judge(&fine, Some(false), &STRICT),
            Verdict::Fail(vec![Failure::Output])
        );
        assert_eq!(
            judge(&fine, None, &STRICT),
            Verdict::NotRun("no reference".into())
        );
        let notrun = with(|o| o.notrun = Some(b" no KVM\n here\n".to_vec()));
        for matches in [None, Some(false), Some(true)] {
            assert_eq!(
                judge(&notrun, matches, &STRICT),
                Verdict::NotRun("no KVM here".into())
            );
        }
        let status = with(|o| {
            o.exit = Exit::Status(1);
            o.notrun = Some(b"x".to_vec());
        });
        assert_eq!(
            judge(&status, Some(true), &STRICT),
            Verdict::Fail(vec![Failure::ExitStatus(1)])
        );
        assert_eq!(
            judge(&status, Some(false), &STRICT),
            Verdict::Fail(vec![Failure::ExitStatus(1), Failure::Output])
        );
    }

    #[test]
    fn a_sanitizer_report_fails_a_test_whose_output_matches() {
        let mut o = with(|o| o.sanitizer_logs = vec!["030.out.asan.7".into()]);
        let sanitizer = Verdict::Fail(vec![Failure::Sanitizer]);
        assert_eq!(judge(&o, Some(true), &LAX), sanitizer);
        assert_eq!(judge(&o, None, &LAX), sanitizer);
        o.notrun = Some(b"x".to_vec());
        assert_eq!(judge(&o, Some(false), &LAX), sanitizer);
    }

    #[test]
    fn what_we_ended_is_named_by_our_reason() {
        for (ended, failure) in [
            (
                Ended::TimeOut(Duration::from_secs(3)),
                Failure::TimeOut(Duration::from_secs(3)),
            ),
            (
                Ended::Limit(Limit::Output(9)),
                Failure::Limit(Limit::Output(9)),
            ),
        ] {
            let o = with(|o| {
                o.ended = Some(ended);
                o.exit = Exit::Signal(9);
                o.left_behind = vec![LeftBehind {
                    name: "qemu-nbd".into(),
                    pid: 7,
                }];
            });
            assert_eq!(
                judge(&o, Some(false), &STRICT),
                Verdict::Fail(vec![failure, Failure::Output])
            );
        }
        let o = with(|o| {
            o.ended = Some(Ended::Interrupted);
            o.exit = Exit::Signal(15);
        });
        assert_eq!(judge(&o, Some(false), &STRICT), Verdict::Interrupted);
    }

    #[test]
    fn what_is_left_behind_fails_where_the_policy_says_so() {
        let o = with(|o| {
            o.left_behind = vec![LeftBehind {
                name: "qemu-nbd".into(),
                pid: 7,
            }];
        });
        assert_eq!(judge(&o, Some(true), &LAX), Verdict::Pass);
        assert_eq!(
            judge(&o, Some(true), &STRICT),
            Verdict::Fail(vec![Failure::LeftBehind])
        );
        let o = with(|o| o.left_mounts = vec!["/m".into()]);
        assert_eq!(
            judge(&o, Some(false), &STRICT),
            Verdict::Fail(vec![Failure::Output, Failure::LeftBehind])
        );
    }

    #[test]
    fn known_failures_are_expected_and_passes_are_not() {
        let fail = Verdict::Fail(vec![Failure::Output]);
        let reason = || "x".to_owned();
        let strict = Some(KnownFailure {
            reason: reason(),
            flaky: false,
        });
        let flaky = Some(KnownFailure {
            reason: reason(),
            flaky: true,
        });
        let unexpected = Verdict::Fail(vec![Failure::Unexpected(reason())]);
        let not_run = Verdict::NotRun("y".into());
        for (verdict, known, want) in [
            (&fail, &None, &fail),
            (&Verdict::Pass, &None, &Verdict::Pass),
            (&fail, &strict, &Verdict::KnownFail(reason())),
            (&fail, &flaky, &Verdict::KnownFail(reason())),
            (&Verdict::Pass, &strict, &unexpected),
            (&Verdict::Pass, &flaky, &Verdict::Pass),
            (&not_run, &strict, &not_run),
            (&Verdict::Interrupted, &strict, &Verdict::Interrupted),
        ] {
            assert_eq!(&expected(verdict.clone(), known.as_ref()), want);
        }
    }

    #[test]
    fn retries_make_a_failure_flaky_or_count_how_often_it_failed() {
        let fail = Verdict::Fail(vec![Failure::Output]);
        assert_eq!(
            after_retries(fail.clone(), &[fail.clone(), Verdict::Pass]),
            (
                Verdict::Flaky {
                    passed: 1,
                    tries: 3
                },
                None
            )
        );
        assert_eq!(
            after_retries(fail.clone(), std::slice::from_ref(&fail)),
            (fail.clone(), Some((0, 1)))
        );
        assert_eq!(after_retries(fail.clone(), &[]), (fail, None));
        assert_eq!(after_retries(Verdict::Pass, &[]), (Verdict::Pass, None));
    }
}
