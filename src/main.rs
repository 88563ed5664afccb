//! The `check` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(check::app::main())
}
