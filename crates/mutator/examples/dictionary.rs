//! Prints the dictionary of a format for AFL++ (`-x`) and libFuzzer (`-dict=`):
//! `cargo run -p image-mutator --example dictionary qcow2 > qcow2.dict`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use image_mutator::{Format, dictionary};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name] = words.as_slice() else {
        eprintln!("usage: dictionary FORMAT");
        return ExitCode::from(2);
    };
    let Some(format) = Format::from_name(name) else {
        let known = Format::ALL.map(Format::name).join(", ");
        eprintln!("dictionary: unknown format '{name}'; known are {known}");
        return ExitCode::from(2);
    };
    match io::stdout().write_all(dictionary(format).as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dictionary: cannot write to standard output: {error}");
            ExitCode::from(2)
        }
    }
}
