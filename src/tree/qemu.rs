//! QEMU's layout: `NNN` and `NNN.out` side by side, and `tests/NAME` with
//! `tests/NAME.out`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use testdecl::Decl;

use super::is_number;
use crate::model::{Start, Test};

/// How the first line of a test that `$PYTHON` runs reads.
const PYTHON: &str = "#!/usr/bin/env python3";
/// How the line that lists a test's groups begins.
const GROUP: &str = "# group: ";

/// The tests of the suite at `source`.
pub(super) fn tests(source: &Path) -> Result<Vec<Arc<Test>>> {
    let mut tests = Vec::new();
    let numbered = Folder::open(source)?;
    for file in &numbered.files {
        if is_number(&file.name) {
            tests.push(Arc::new(numbered.read(file)?));
        }
    }
    let named = source.join("tests");
    if named.is_dir() {
        let named = Folder::open(&named)?;
        for file in &named.files {
            if !file.name.ends_with(".out") && named.has(&format!("{}.out", file.name)) {
                tests.push(Arc::new(named.read(file)?));
            }
        }
    }
    Ok(tests)
}

/// Whether the runner that belongs to the tests at `source` has Python show all warnings
/// (QEMU 10.1 and newer). Where another has replaced it, the original is beside it; without
/// one, the newest is what is meant.
pub fn sets_python_warnings(source: &Path) -> bool {
    let read = |name: &str| std::fs::read(source.join(name)).ok();
    let Some(runner) = read("check.orig").or_else(|| read("check")) else {
        return true;
    };
    let word = b"PYTHONWARNINGS";
    runner.windows(word.len()).any(|part| part == word)
}

/// A directory of tests.
struct Folder<'a> {
    path: &'a Path,
    /// The same with all links followed, so that this is done once for all.
    real: PathBuf,
    /// Its files, sorted by name.
    files: Vec<File>,
}

struct File {
    name: String,
    is_link: bool,
}

impl<'a> Folder<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let cannot = || format!("cannot list {}", path.display());
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let is_link = entry.file_type().with_context(cannot)?.is_symlink();
            if let Ok(name) = entry.file_name().into_string() {
                files.push(File { name, is_link });
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            path,
            real: path.canonicalize().with_context(cannot)?,
            files,
        })
    }

    fn has(&self, name: &str) -> bool {
        let found = self.files.binary_search_by(|f| f.name.as_str().cmp(name));
        found.is_ok()
    }

    fn read(&self, file: &File) -> Result<Test> {
        let path = self.path.join(&file.name);
        let cannot = || format!("cannot read {}", path.display());
        let text = std::fs::read(&path).with_context(cannot)?;
        let text = String::from_utf8_lossy(&text);
        let groups = text.lines().find_map(|line| line.strip_prefix(GROUP));
        let groups = groups.unwrap_or_default().split_whitespace();
        let real = if file.is_link {
            path.canonicalize().with_context(cannot)?
        } else {
            self.real.join(&file.name)
        };
        Ok(Test {
            name: file.name.clone(),
            start: script_start(real, &text),
            cwd: self.path.to_owned(),
            golden_dir: self.path.to_owned(),
            groups: groups.map(str::to_owned).collect(),
            summary: summary(&text),
            needs: Vec::new(),
            timeout: Decl::parse(&text).timeout(),
            retries: 0,
            source: path,
        })
    }
}

/// How a script is started: by `$PYTHON` where its first line says so.
pub(super) fn script_start(real: PathBuf, text: &str) -> Start {
    match text.lines().next() {
        Some(first) if first.trim_end() == PYTHON => Start::Python(real),
        _ => Start::Exec(real),
    }
}

/// The first paragraph of the comment that a script begins with, the lines for
/// machines left out.
fn summary(text: &str) -> String {
    let comment = text.lines().map_while(|line| line.strip_prefix('#'));
    let lines = comment.map(|line| {
        let machine = line.starts_with('!') || line.trim_start().starts_with("group:");
        if machine { "" } else { line.trim() }
    });
    let paragraph = lines
        .skip_while(|line| line.is_empty())
        .take_while(|line| !line.is_empty());
    let words: Vec<_> = paragraph.collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use std::fs::write;

    use super::*;

    #[test]
    fn numbers_and_names_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("tests")).unwrap();
        write(
            at("001"),
            "#!/usr/bin/env bash\n# group: rw auto\n#\n# Reads\n# twice.\n#\n# More\n",
        )
        .unwrap();
        write(at("0012"), "").unwrap();
        write(at("abc"), "").unwrap();
        write(at("002"), "\n# group: quick\n# group: rw\n").unwrap();
        write(at("tests/one"), "#!/usr/bin/env python3 \n").unwrap();
        write(at("tests/one.out"), "").unwrap();
        write(at("tests/two"), "").unwrap();
        let tests = tests(dir.path()).unwrap();
        let names: Vec<_> = tests.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["001", "002", "one"]);
        assert_eq!(tests[0].summary, "Reads twice.");
        assert!(matches!(tests[0].start, Start::Exec(_)));
        assert!(matches!(tests[2].start, Start::Python(_)));
        assert_eq!(tests[2].cwd, at("tests"));
        let groups: Vec<_> = tests[1].groups.iter().collect();
        assert_eq!(groups, ["quick"]);
    }
}
