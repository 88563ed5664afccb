//! Prints how many blocks programs have and how long it took to find them, and why parts have
//! none; with `--list`, the address of each block.
//!
//! usage: blocks [--list] PROGRAM...

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use blocks::{Program, Symbols};

fn main() -> ExitCode {
    let (list, paths): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|it| it == "--list");
    let mut status = ExitCode::SUCCESS;
    for path in paths {
        if let Err(error) = show(&path, !list.is_empty()) {
            eprintln!("blocks: '{path}' {error}");
            status = ExitCode::FAILURE;
        }
    }
    status
}

fn show(path: &str, list: bool) -> Result<(), String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let start = Instant::now();
    let program = Program::read(&bytes).map_err(|error| error.to_string())?;
    let read = start.elapsed();
    if list {
        for block in &program.blocks {
            println!("{:x}", block.address);
        }
        return Ok(());
    }
    let start = Instant::now();
    let symbols = Symbols::find(path.as_ref(), &program, &[]);
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
    Ok(())
}
