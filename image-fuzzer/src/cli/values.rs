//! How values of options are read.

use std::time::Duration;

use crate::input::guard::{GuardMode, GuardPlan};

/// `3-groups`, or just the number.
pub(super) fn groups(text: &str) -> Result<usize, String> {
    let number = text
        .strip_suffix("-groups")
        .or(text.strip_suffix("-group"))
        .unwrap_or(text);
    match number.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("must be a number of groups above 0, such as 3-groups".into()),
    }
}

/// Where the guarding allocator has its pages, or that there is none.
pub(super) fn guard(text: &str) -> Result<GuardPlan, String> {
    let modes = [GuardMode::Ends, GuardMode::Starts, GuardMode::All];
    let mode = modes.into_iter().find(|mode| mode.word() == text);
    match (mode, text) {
        (Some(mode), _) => Ok(GuardPlan::Always(mode)),
        (None, "off") => Ok(GuardPlan::Off),
        (None, _) => Err("must be off, ends, starts or all".into()),
    }
}

/// Seconds, possibly with a fraction; more than 0.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|why| why.to_string())?;
    if duration.is_zero() {
        return Err("must be more than 0".into());
    }
    Ok(duration)
}
