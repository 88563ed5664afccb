//! The command line: what was asked for, checked, and carried out.

mod args;
mod fuzz;
mod interrupt;
mod ready;
mod report;
mod tools;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Ask};

/// Exit status: all went well; for `reproduce`, the fault showed.
pub const OK: u8 = 0;
/// Exit status: the work could not be done.
pub const FAILED: u8 = 1;
/// Exit status: the command line is wrong.
pub const USAGE: u8 = 2;
/// Exit status: faults were found; for `reproduce`, none showed.
pub const FAULTS: u8 = 3;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to standard output and are no error.
            let status = if error.use_stderr() { USAGE } else { OK };
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    let done = match args.ask {
        None => fuzz::run(&args.fuzz),
        Some(Ask::Show(args)) => crate::show::run(&args).map(|()| OK),
        Some(Ask::Set(args)) => crate::set::run(&args).map(|()| OK),
        Some(Ask::Reproduce(again)) => tools::reproduce(&again),
        Some(Ask::Minimise(again)) => tools::minimise(&again),
        Some(Ask::Report(report)) => report::run(&report),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(why) => {
            complain(&format!("{why:#}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Says what is wrong, in a line: the only place that does.
fn complain(what: &str) {
    anstream::eprintln!("image-fuzzer: {what}");
}
