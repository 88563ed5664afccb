//! The colours of verdicts.

use anstyle::{AnsiColor, Style};

use crate::model::Kind;

/// Green: passed.
pub(super) const PASS: Style = AnsiColor::Green.on_default();
/// Bold red: failed.
pub(super) const FAIL: Style = AnsiColor::Red.on_default().bold();
/// Yellow: not run, flaky, interrupted.
pub(super) const NOT_RUN: Style = AnsiColor::Yellow.on_default();

/// The colour of a verdict.
pub(super) fn style(kind: Kind) -> Style {
    match kind {
        Kind::Pass => PASS,
        Kind::Fail => FAIL,
        Kind::NotRun | Kind::Flaky | Kind::KnownFail | Kind::Interrupted => NOT_RUN,
    }
}
