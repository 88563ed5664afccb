//! Options that contradict each other, beyond those of one group.

use super::low::LowArgs;

/// Pairs of options that are not given together, where they are `true`.
fn conflicts(args: &LowArgs) -> [(bool, &'static str, &'static str); 9] {
    let debugger = args.debugger.is_some();
    let streams = args.no_capture;
    [
        (debugger && args.gdb, "--debugger", "-gdb"),
        (debugger && args.valgrind, "--debugger", "-valgrind"),
        (debugger && args.tap, "--debugger", "-tap"),
        (debugger && args.bless.is_some(), "--debugger", "--bless"),
        (
            debugger && args.rerun_failed > 0,
            "--debugger",
            "--rerun-failed",
        ),
        (debugger && args.until_fail, "--debugger", "--until-fail"),
        // gdb has the terminal.
        (debugger && streams, "--debugger", "--no-capture"),
        (streams && args.tap, "--no-capture", "-tap"),
        (
            streams && args.jobs.is_some_and(|n| n > 1),
            "--no-capture",
            "-j",
        ),
    ]
}

/// Checks that options do not contradict each other.
///
/// # Errors
///
/// Two do; which.
pub(super) fn check(args: &LowArgs) -> Result<(), String> {
    match conflicts(args).iter().find(|(both, ..)| *both) {
        Some((_, one, other)) => Err(format!("argument {one}: not allowed with argument {other}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use crate::args::parse;

    #[test]
    fn contradictions_are_named() {
        let error = |line: &str| parse(line.split_whitespace().map(OsString::from)).err();
        for line in [
            "-gdb --debugger gdb 1",
            "--debugger-for qemu-io -valgrind 1",
            "--no-capture -tap",
            "--no-capture -j 2",
            "--debugger gdb --no-capture",
        ] {
            let said = error(line).unwrap_or_default();
            assert!(
                said.contains(": not allowed with argument -"),
                "{line}: {said}"
            );
        }
        for line in ["-gdb -valgrind -d -tap", "--no-capture -j 1", "-d -j 4"] {
            assert_eq!(error(line), None, "{line}");
        }
    }
}
