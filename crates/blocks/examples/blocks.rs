//! Prints how many blocks programs have and how long it took to find them, and why parts have
//! none; with `--list`, the address of each block; with `--functions GLOB`, the functions in
//! the source files that match.
//!
//! usage: blocks [--list | --functions GLOB] PROGRAM...

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use blocks::{Program, Symbols};

enum What {
    Counts,
    Addresses,
    Functions { glob: String },
}

fn main() -> ExitCode {
    let mut what = What::Counts;
    let mut paths = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        what = match &*word {
            "--list" => What::Addresses,
            "--functions" => What::Functions {
                glob: words.next().unwrap_or_default(),
            },
            _ => {
                paths.push(word);
                continue;
            }
        };
    }
    let mut status = ExitCode::SUCCESS;
    for path in paths {
        if let Err(error) = show(&path, &what) {
            eprintln!("blocks: '{path}' {error}");
            status = ExitCode::FAILURE;
        }
    }
    status
}

fn show(path: &str, what: &What) -> Result<(), String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let start = Instant::now();
    let program = Program::read(&bytes).map_err(|error| error.to_string())?;
    let read = start.elapsed();
    match what {
        What::Counts => counts(path, &program, read),
        What::Addresses => {
            for block in &program.blocks {
                println!("{:x}", block.address);
            }
        }
        What::Functions { glob } => functions(path, &program, glob)?,
    }
    Ok(())
}

fn functions(path: &str, program: &Program, glob: &str) -> Result<(), String> {
    let symbols = Symbols::find(path.as_ref(), program, &[]);
    let found = symbols.in_files(glob);
    for index in found.map_err(|error| error.to_string())? {
        let Some(symbol) = symbols.function(index) else {
            continue;
        };
        println!(
            "{:x} {} {} {} {}:{}",
            program.functions[index as usize].start,
            program.blocks_of(index).len(),
            symbols.name(index),
            symbol.raw_name.as_deref().unwrap_or("-"),
            symbol.file.as_deref().unwrap_or("-"),
            symbol.line.unwrap_or(0),
        );
    }
    Ok(())
}

fn counts(path: &str, program: &Program, read: Duration) {
    let start = Instant::now();
    let symbols = Symbols::find(path.as_ref(), program, &[]);
    let named = start.elapsed();
    let mut left_out = BTreeMap::new();
    for it in &program.left_out {
        *left_out.entry(it.reason).or_insert(0_u32) += 1;
    }
    println!(
        "{path}: {} blocks in {} functions, {read:.1?}; symbols {named:.1?}, {} source files; \
         left out: {left_out:?}",
        program.blocks.len(),
        program.functions.len(),
        symbols.files().count(),
    );
}
