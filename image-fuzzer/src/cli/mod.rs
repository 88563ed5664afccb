//! The command line: parses and checks it, and runs the subcommand.

mod args;
mod bisect;
mod conform;
mod coverage;
mod curves;
mod device;
mod device_args;
mod export;
mod fuzz;
mod html;
mod interrupt;
mod merge;
mod program_check;
mod read;
mod replay;
mod report;
mod values;
mod versions;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::inspect::{set, show};
use crate::output::stdout_result;
use args::{Args, Subcommand};

/// The command line as data: what man pages and completions are made from.
#[must_use]
pub fn command() -> clap::Command {
    Args::command()
}

/// Exit status: no findings; for `reproduce`, the finding was reproduced.
pub const OK: u8 = 0;
/// Exit status: an error.
pub const FAILED: u8 = 1;
/// Exit status: the command line is wrong.
pub const USAGE: u8 = 2;
/// Exit status: findings; for `reproduce`, the finding was not reproduced.
pub const FINDINGS: u8 = 3;
/// Exit status: interrupted, and cannot be resumed. The one that a shell gives for a command
/// ended by SIGINT.
pub const INTERRUPTED: u8 = 130;
/// Exit status of `reproduce --exit-status`: the build does not show the finding.
pub const NOT_SHOWN: u8 = 0;
/// Exit status of `reproduce --exit-status`: the build shows the finding.
pub const SHOWN: u8 = 1;
/// Exit status of `reproduce --exit-status`: the build cannot be run; `git bisect run` skips
/// it.
pub const CANNOT_RUN: u8 = 125;
/// Exit status of `reproduce --exit-status`: an error; `git bisect run` ends.
pub const BISECT_FAILED: u8 = 128;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to standard output and are not errors.
            let status = match error.use_stderr() {
                true if is_bisect_run() => BISECT_FAILED,
                true => USAGE,
                false => OK,
            };
            return match stdout_result(error.print()) {
                Err(why) if status == OK => fail(&why),
                _ => ExitCode::from(status),
            };
        }
    };
    if args.subcommand.is_none()
        && let Some(question) = args.fuzz.question()
    {
        print_message(&question);
        return ExitCode::from(USAGE);
    }
    let result = match args.subcommand {
        None => fuzz::run(&args.fuzz),
        Some(Subcommand::Fuzz(args)) => fuzz::run(&args),
        Some(Subcommand::Device(args)) => device::run(&args),
        Some(Subcommand::Show(args)) => show::run(&args).map(|()| OK),
        Some(Subcommand::Set(args)) => set::run(&args).map(|()| OK),
        Some(Subcommand::Generate(args)) => conform::run_generate(&args),
        Some(Subcommand::Conform(args)) => conform::run(&args),
        Some(Subcommand::Read(args)) => read::run(&args).map(|()| OK),
        Some(Subcommand::Reproduce(args)) if !args.with.is_empty() => versions::run(&args),
        Some(Subcommand::Reproduce(args)) if args.dirs.iter().all(|it| device::is_finding(it)) => {
            device::reproduce(&args.dirs)
        }
        Some(Subcommand::Reproduce(args)) => replay::reproduce(&args),
        Some(Subcommand::Bisect(args)) => bisect::run(&args),
        Some(Subcommand::Minimise(args))
            if args.device_args.is_some() || device::is_finding(&args.dir) =>
        {
            device::minimise(&args)
        }
        Some(Subcommand::Minimise(args)) => replay::minimise(&args),
        Some(Subcommand::Coverage(args)) => coverage::run(&args),
        Some(Subcommand::Report(args)) if device::is_work_folder(&args.dir) => {
            device::report(&args)
        }
        Some(Subcommand::Report(args)) => report::run(&args),
        Some(Subcommand::Merge(args)) => merge::run(&args),
        Some(Subcommand::Export(args)) => export::run(&args),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(why) if is_bisect_run() => {
            fail(&why);
            ExitCode::from(BISECT_FAILED)
        }
        Err(why) => fail(&why),
    }
}

/// Whether `git bisect run` may read the exit status, for which most mean a build that shows
/// the finding.
fn is_bisect_run() -> bool {
    std::env::args_os().any(|word| word == "--exit-status")
}

/// Prints an error and gives its exit status.
fn fail(why: &anyhow::Error) -> ExitCode {
    print_message(&format!("{why:#}"));
    ExitCode::from(FAILED)
}

/// Prints an error or a warning in one line; nothing else in the program does. Where standard
/// error cannot be written, only the exit status remains.
fn print_message(message: &str) {
    let _ = writeln!(anstream::stderr(), "image-fuzzer: {message}");
}
