//! Our layout: `iotests/cases/NNN.rs` (or an executable `NNN`), `goldens`,
//! `groups`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use testdecl::Decl;

use super::is_number;
use super::qemu::script_start;
use crate::groups::Declared;
use crate::model::{Start, Test};

/// Where the tests are, below the source directory.
pub const CASES: &str = "iotests/cases";
/// Where the references are, below the source directory.
pub const GOLDENS: &str = "goldens";
/// Where the groups are declared, below the source directory.
pub const GROUPS: &str = "groups";

/// The tests of the suite at `source`.
pub(super) fn tests(source: &Path, declared: &Declared) -> Result<Vec<Arc<Test>>> {
    let cases = source.join(CASES);
    let iotest = iotest_program()?;
    let entries =
        std::fs::read_dir(&cases).with_context(|| format!("cannot list {}", cases.display()))?;
    let mut tests = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot list {}", cases.display()))?
            .path();
        let Some(file) = path.file_name().and_then(|f| f.to_str()) else {
            continue;
        };
        let number = file.strip_suffix(".rs").unwrap_or(file);
        if !is_number(number) {
            continue;
        }
        let twin = cases.join(number);
        if number != file && twin.exists() {
            bail!(
                "duplicate test {number}: {} and {}; renumber one",
                path.display(),
                twin.display()
            );
        }
        tests.push(Arc::new(read(source, &iotest, number, &path, declared)?));
    }
    Ok(tests)
}

/// The multi-call program with our tests: built beside this one.
fn iotest_program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot determine the path of this program")?;
    Ok(own.with_file_name("iotest"))
}

fn read(
    source: &Path,
    iotest: &Path,
    number: &str,
    path: &Path,
    declared: &Declared,
) -> Result<Test> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    let decl = Decl::parse(&text);
    let shown = shown(path);
    if let Some(problem) = decl.wrong_words().first() {
        bail!("{shown}:{problem}");
    }
    for entry in decl.entries.iter().filter(|entry| entry.key == "group") {
        for group in &entry.words {
            declared.require(group, &format!("{shown}:{}", entry.line))?;
        }
    }
    let start = if path.extension().is_some() {
        Start::Call(iotest.to_owned(), vec![OsString::from(number)])
    } else {
        let real = path.canonicalize();
        script_start(real.unwrap_or_else(|_| path.to_owned()), &text)
    };
    Ok(Test {
        name: number.to_owned(),
        start,
        cwd: source.join(CASES),
        golden_dir: source.join(GOLDENS),
        groups: decl.all("group").map(str::to_owned).collect(),
        summary: decl.summary.clone(),
        needs: decl.all("needs").map(str::to_owned).collect(),
        timeout: decl.timeout(),
        retries: decl.retries(),
        source: path.to_owned(),
    })
}

/// `path` as it is shown: below the current directory, without that.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let below = here.and_then(|here| path.strip_prefix(here).ok());
    below.unwrap_or(path).display().to_string()
}
