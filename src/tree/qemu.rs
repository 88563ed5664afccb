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
    for name in names(source)? {
        if is_number(&name) {
            tests.push(read(source, name)?);
        }
    }
    let named = source.join("tests");
    if named.is_dir() {
        // Sorted, so that each NAME is followed by its NAME.out.
        let names = names(&named)?;
        let has = |name: &str| names.binary_search_by(|n| n.as_str().cmp(name)).is_ok();
        for name in &names {
            if !name.ends_with(".out") && has(&format!("{name}.out")) {
                tests.push(read(&named, name.clone())?);
            }
        }
    }
    Ok(tests.into_iter().map(Arc::new).collect())
}

/// The names of the files in `dir`, sorted.
fn names(dir: &Path) -> Result<Vec<String>> {
    let cannot = || format!("cannot list {}", dir.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn read(dir: &Path, name: String) -> Result<Test> {
    let path = dir.join(&name);
    let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    let groups = text.lines().find_map(|line| line.strip_prefix(GROUP));
    let groups = groups.unwrap_or_default().split_whitespace();
    Ok(Test {
        name,
        start: script_start(&path, &text),
        cwd: dir.to_owned(),
        golden_dir: dir.to_owned(),
        groups: groups.map(str::to_owned).collect(),
        summary: summary(&text),
        timeout: Decl::parse(&text).timeout(),
        source: path,
    })
}

/// How a script is started: by `$PYTHON` where its first line says so.
pub(super) fn script_start(path: &Path, text: &str) -> Start {
    let path: PathBuf = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match text.lines().next() {
        Some(first) if first.trim_end() == PYTHON => Start::Python(path),
        _ => Start::Exec(path),
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
    use super::*;
    use std::fs::write;

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
