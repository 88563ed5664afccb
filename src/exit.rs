//! Exit statuses, in one place.

/// All selected tests passed or were not run, or what was asked for is done.
pub const OK: u8 = 0;
/// A test failed or is flaky, or something asked for cannot be done.
pub const FAILED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// The run was interrupted before every test was reached.
pub const INTERRUPTED: u8 = 130;

/// Every status and what it means, as the help says it.
pub const MEANINGS: [(u8, &str); 4] = [
    (OK, "all passed or not run; the action succeeded"),
    (FAILED, "a test failed or is flaky; the action failed"),
    (USAGE, "the command line is wrong"),
    (INTERRUPTED, "the run was interrupted"),
];
