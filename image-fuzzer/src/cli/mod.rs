//! The command line: what was asked for, checked, and carried out.

mod args;
mod fuzz;
mod interrupt;
mod ready;
mod report;
mod tools;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Subcommand};

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
            return match crate::output::stdout_result(error.print()) {
                Err(why) if status == OK => fail(&why),
                _ => ExitCode::from(status),
            };
        }
    };
    if args.subcommand.is_none() && std::env::args_os().len() == 2 {
        let folder = &args.fuzz.test_dir;
        if let Some(name) = Args::meant(folder) {
            let folder = folder.display();
            complain(&format!(
                "did you mean '{name}'? For a work folder of that name give ./{folder}"
            ));
            return ExitCode::from(USAGE);
        }
    }
    let done = match args.subcommand {
        None => fuzz::run(&args.fuzz),
        Some(Subcommand::Show(args)) => crate::inspect::show::run(&args).map(|()| OK),
        Some(Subcommand::Set(args)) => crate::inspect::set::run(&args).map(|()| OK),
        Some(Subcommand::Reproduce(again)) => tools::reproduce(&again),
        Some(Subcommand::Minimise(again)) => tools::minimise(&again),
        Some(Subcommand::Report(report)) => report::run(&report),
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(why) => fail(&why),
    }
}

/// Says why the work could not be done.
fn fail(why: &anyhow::Error) -> ExitCode {
    complain(&format!("{why:#}"));
    ExitCode::from(FAILED)
}

/// Says what is wrong, in a line: the only place that does. Where that cannot be written
/// either, the exit status tells it.
fn complain(what: &str) {
    let _ = writeln!(anstream::stderr(), "image-fuzzer: {what}");
}
