//! Makes the list of tests from the files in `cases/`: a new file is a new test.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, process};

fn main() {
    // The folder with all that is in it: a line for each test would be shown with every
    // error.
    println!("cargo::rerun-if-changed=cases");
    if let Err(error) = generate() {
        println!("cargo::error={error}");
        process::exit(1);
    }
}

fn generate() -> Result<(), String> {
    let root = env::var("CARGO_MANIFEST_DIR").map_err(|e| e.to_string())?;
    let out = env::var("OUT_DIR").map_err(|e| e.to_string())?;
    let cases = Path::new(&root).join("cases");
    let listing =
        fs::read_dir(&cases).map_err(|e| format!("failed to read {}: {e}", cases.display()))?;
    let mut modules = String::new();
    let mut table = String::new();
    let mut files: Vec<_> = listing.filter_map(Result::ok).map(|e| e.path()).collect();
    files.sort();
    for file in files
        .iter()
        .filter(|f| f.extension().is_some_and(|e| e == "rs"))
    {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let source = fs::read_to_string(file)
            .map_err(|e| format!("failed to read {}: {e}", file.display()))?;
        let is_number = name.len() == 3 && name.bytes().all(|b| b.is_ascii_digit());
        if !is_number {
            return Err(format!(
                "{}: a test is named by three digits",
                file.display()
            ));
        }
        let problems = testdecl::Decl::parse(&source).problems();
        if let Some(problem) = problems.first() {
            let shown = Path::new(&root)
                .parent()
                .and_then(|top| file.strip_prefix(top).ok());
            return Err(format!("{}:{problem}", shown.unwrap_or(file).display()));
        }
        let path = file.display().to_string();
        let _ = writeln!(modules, "#[path = {path:?}]\nmod t{name};");
        let header: Vec<&str> = source
            .lines()
            .take_while(|l| l.starts_with("//") || l.trim().is_empty())
            .collect();
        let header = header.join("\n");
        let _ = writeln!(
            table,
            "    Case {{ name: {name:?}, header: {header:?}, run: |t| Box::pin(t{name}::run(t)) }},"
        );
    }
    let text = format!(
        "{modules}\n/// Every test, in order.\npub(crate) static CASES: &[Case] = &[\n{table}];\n"
    );
    let target = Path::new(&out).join("cases.rs");
    // A script in the folder that has changed is no reason to compile anything.
    if fs::read_to_string(&target).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(&target, text).map_err(|e| format!("failed to write {}: {e}", target.display()))
}
