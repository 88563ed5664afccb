//! How long the commands of a test may take, and what becomes of those that take longer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::commands::Command;

/// What a command may take under [`TimeoutPolicy::Short`].
pub const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// How the commands of a test are timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutPolicy {
    /// A command has the time that the settings allow; one that exceeds it runs a second
    /// time, for longer, which tells hangs from what is slow.
    Confirm,
    /// A command has the budget of its kind ([`TimeBudgets`]). What exceeds it at the place of
    /// a known hang is assumed to be that hang; else the test ends there and is suspected to
    /// hang, to be run again under [`Confirm`](Self::Confirm) when there is time: for looking
    /// at many tests.
    Park,
    /// A command has the time that the settings allow; what exceeds it is called a hang.
    Once,
    /// A command has at most [`SHORT_TIMEOUT`]; what exceeds it is called a hang: for trying
    /// many variations of a known finding.
    Short,
}

impl TimeoutPolicy {
    /// What a command may take where the settings allow `limit`.
    pub(super) fn limit(self, limit: Duration) -> Duration {
        match self {
            Self::Short => limit.min(SHORT_TIMEOUT),
            _ => limit,
        }
    }

    /// Whether a command that exceeds its limit is looked at with a debugger.
    pub(super) fn inspects(self) -> bool {
        matches!(self, Self::Confirm | Self::Park)
    }
}

/// How long commands may take before they are suspected to hang, by the kind of command: a
/// multiple of a first value, up to the limit of the settings. Clones share what they know.
#[derive(Clone, Debug, Default)]
pub struct TimeBudgets(Arc<Mutex<BTreeMap<String, u32>>>);

impl TimeBudgets {
    fn with<T>(&self, command: &Command, act: impl FnOnce(&mut u32) -> T) -> T {
        let mut factors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(factors.entry(command.group_verb()).or_insert(1))
    }

    /// What a command may take.
    pub(super) fn of(&self, command: &Command) -> Duration {
        let factor = self.with(command, |factor| *factor);
        first_budget(command).saturating_mul(factor)
    }

    /// Notes that a command exceeded its budget: where all of its kind do, it is too small.
    pub(super) fn exceeded(&self, command: &Command) {
        const MOST: u32 = 1 << 16;
        self.with(command, |factor| {
            *factor = factor.saturating_mul(2).min(MOST)
        });
    }

    /// Notes that a command exited after so long: no more than a multiple of that is needed.
    pub(super) fn exited(&self, command: &Command, wall: Duration) {
        let times = wall.as_secs_f64() * 4.0 / first_budget(command).as_secs_f64();
        let needed = times.ceil().max(1.0) as u32;
        self.with(command, |factor| *factor = needed.min(*factor));
    }
}

/// What a command may take at first: one that looks at the metadata alone is done in
/// milliseconds, and one that reads and writes all of a small disk in a few hundred. One that
/// makes keys of LUKS computes for seconds on purpose, whatever time it is given for that.
fn first_budget(command: &Command) -> Duration {
    let makes_keys = command.0.iter().any(|word| word.contains("iter-time="));
    Duration::from_secs(match command.group_verb().as_str() {
        _ if makes_keys => 10,
        "qemu-img info" | "qemu-img map" | "qemu-img measure" | "qemu-img snapshot -l" => 1,
        verb if verb.starts_with("qemu-") => 2,
        _ => 3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// New LUKS volumes were suspected to hang, and never made as long as there was other work.
    #[test]
    fn keys_take_their_time() {
        let budgets = TimeBudgets::default();
        let create = |options| {
            let words = ["qemu-img", "create", "-f", "luks", "-o", options, "x", "1M"];
            Command(words.into_iter().map(str::to_owned).collect())
        };
        let of = |options| budgets.of(&create(options));
        budgets.exited(&create("key-secret=none"), Duration::from_millis(5));
        assert_eq!(of("key-secret=key,iter-time=10"), Duration::from_secs(10));
        assert_eq!(of("key-secret=key"), Duration::from_secs(2));
    }

    #[test]
    fn a_budget_grows_with_its_kind() {
        let budgets = TimeBudgets::default();
        let [info, json, check] = [
            &["qemu-img", "info", "$test_img"][..],
            &["qemu-img", "info", "--output=json", "$test_img"],
            &["qemu-img", "check", "$test_img"],
        ]
        .map(|words| Command(words.iter().map(|word| (*word).to_owned()).collect()));
        let seconds = Duration::from_secs;
        let of = |budgets: &TimeBudgets| [&info, &check].map(|it| budgets.of(it));
        assert_eq!(of(&budgets), [1, 2].map(seconds));
        budgets.clone().exceeded(&json);
        assert_eq!(of(&budgets), [2, 2].map(seconds));
        // A program all of whose runs take long is not suspected for long.
        (0..3).for_each(|_| budgets.exceeded(&check));
        assert_eq!(of(&budgets), [2, 16].map(seconds));
        budgets.exited(&check, seconds(3));
        assert_eq!(of(&budgets), [2, 12].map(seconds));
        for command in [&info, &check] {
            budgets.exited(command, Duration::from_millis(5));
        }
        assert_eq!(of(&budgets), [1, 2].map(seconds));
    }
}
