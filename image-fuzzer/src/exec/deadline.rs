//! The end of a campaign: runs that go on past it are aborted.

use std::time::{Duration, Instant};

use super::{End, Limits};

/// How long runs may go on after the end of a campaign: most that run then exit in that time.
const GRACE: Duration = Duration::from_secs(1);

/// Runs are aborted a little after this time, whatever their limits; never where there is
/// none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deadline(pub Option<Instant>);

impl Deadline {
    /// How long a run may still take; [`Duration::MAX`] without a deadline.
    pub fn left(self) -> Duration {
        self.0.map_or(Duration::MAX, |end| {
            end.saturating_duration_since(Instant::now()) + GRACE
        })
    }

    /// Shortens the limit on a run's wall-clock time to what is left; whether it was longer.
    pub(super) fn shorten(self, limits: &mut Limits) -> bool {
        let left = self.left();
        let longer = left < limits.wall;
        limits.wall = limits.wall.min(left);
        longer
    }
}

/// Whether a run was aborted, so that what was seen of it says nothing: it was told to stop,
/// or timed out after its limit had been `shortened`.
pub(super) fn is_aborted(end: &End, shortened: bool) -> bool {
    match end {
        End::Stopped => true,
        End::TimedOut => shortened,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_shortens_limits_that_reach_past_it() {
        let mut limits = Limits::default();
        assert!(!Deadline::default().shorten(&mut limits));
        let later = Instant::now() + Duration::from_secs(3600);
        assert!(!Deadline(Some(later)).shorten(&mut limits));
        assert_eq!(limits, Limits::default());
        assert!(Deadline(Some(Instant::now())).shorten(&mut limits));
        assert!(limits.wall <= GRACE);
    }

    #[test]
    fn a_run_of_a_shortened_limit_is_aborted_where_it_timed_out() {
        assert!(is_aborted(&End::TimedOut, true));
        assert!(is_aborted(&End::Stopped, false));
        assert!(!is_aborted(&End::TimedOut, false));
        assert!(!is_aborted(&End::Exit(0), true));
    }
}
