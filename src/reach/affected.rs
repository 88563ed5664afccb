//! What a change of the source affects.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::patch::{Change, changes};
use super::paths::ends_in;
use super::recording::Recording;
use super::targets::Targets;

/// What a change affects.
#[derive(Debug)]
pub struct Affected {
    /// The changed functions that recorded programs have.
    pub targets: Targets,
    /// Those that no test reaches: file and name.
    pub unreached: Vec<String>,
    /// Changed functions that no recorded program has: file and name.
    pub unknown: Vec<String>,
    /// Files with code of recorded programs that are changed outside of functions.
    pub elsewhere: Vec<String>,
    /// Files that recorded programs have no code of.
    pub not_code: Vec<String>,
}

/// What the changes affect that are in `what`: a patch, or, where there is no such file,
/// commits of the repository in `source` as git-diff(1) takes them.
///
/// # Errors
///
/// The patch cannot be read, or git does not know the commits.
pub fn diff_of(what: &str, source: Option<&Path>) -> Result<Vec<u8>> {
    let file = Path::new(what);
    if file.is_file() {
        return std::fs::read(file).with_context(|| format!("cannot read {what}"));
    }
    let Some(source) = source else {
        bail!(
            "argument --affected-by: '{what}' is not a file; to name commits, say where QEMU's \
             source is with --qemu-source DIR"
        );
    };
    let mut git = Command::new("git");
    git.arg("-C").arg(source);
    // With all of each file every change is seen in its function.
    git.args(["diff", "--no-color", "--no-ext-diff", "--no-textconv"]);
    git.args(["--src-prefix=a/", "--dst-prefix=b/", "-U1000000"]);
    git.args(["--end-of-options", what, "--"]);
    let git = git
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = git.output().context("cannot run git")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("no diagnostic output");
        bail!(
            "argument --affected-by: git diff {what} in {}: {said}",
            source.display()
        );
    }
    Ok(output.stdout)
}

/// What the changes of a patch affect.
///
/// # Errors
///
/// The patch cannot be read.
pub fn affected(recording: &Recording, patch: impl Read) -> io::Result<Affected> {
    let changes = changes(BufReader::new(patch))?;
    let files: BTreeSet<&str> = recording
        .tables
        .iter()
        .flat_map(|table| table.files.iter().map(String::as_str))
        .collect();
    let has_files = !files.is_empty();
    let mut result = Affected {
        targets: Targets::none(&recording.tables),
        unreached: Vec::new(),
        unknown: Vec::new(),
        elsewhere: Vec::new(),
        not_code: Vec::new(),
    };
    for Change {
        file,
        functions,
        elsewhere,
    } in &changes
    {
        let is_code = files.iter().any(|known| ends_in(known, file));
        if has_files && !is_code {
            result.not_code.push(file.clone());
            continue;
        }
        let is_same_file = |known: &str| known.is_empty() || ends_in(known, file);
        let is_meant = |known: &str, name: &str| functions.contains(name) && is_same_file(known);
        let before = result.targets.all().len();
        result.targets.add(&recording.tables, &is_meant);
        let found = &result.targets.all()[before..];
        let found: BTreeSet<&str> = found.iter().map(|it| it.name.as_str()).collect();
        let missing = functions.iter().filter(|it| !found.contains(it.as_str()));
        result
            .unknown
            .extend(missing.map(|name| format!("{name} ({file})")));
        if *elsewhere {
            result.elsewhere.push(file.clone());
        }
    }
    result.targets.order();
    let reached = recording.reached_targets(&result.targets);
    let targets = result.targets.all().iter().enumerate();
    let unreached = targets.filter(|(number, _)| !reached.contains(number));
    result.unreached = unreached
        .map(|(_, it)| format!("{} ({})", it.name, it.file))
        .collect();
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::super::recording::tests::recording;
    use super::*;

    #[test]
    fn changed_functions_are_sorted_by_who_reaches_them() {
        let mut recording = recording();
        recording.tests.truncate(1);
        let patch = "diff --git a/block/a.c b/block/a.c\n--- a/block/a.c\n+++ b/block/a.c\n\
            @@ -1 +1 @@ int common(void)\n-a\n+    b\n@@ -9 +9 @@ int rare(int x)\n-    x\n+    y\n\
            @@ -19 +19 @@ int fresh(int x)\n-    x\n+    y\n@@ -29 +29 @@\n-#define X 1\n+#define X 2\n\
            diff --git a/docs/x b/docs/x\n--- a/docs/x\n+++ b/docs/x\n@@ -1 +1 @@\n-a\n+b\n";
        let patch = patch.replace("-a\n+    b", "-    a\n+    b");
        let found = affected(&recording, patch.as_bytes()).unwrap();
        assert_eq!(found.unreached, ["rare (block/a.c)"]);
        assert_eq!(found.unknown, ["fresh (block/a.c)"]);
        assert_eq!(found.elsewhere, ["block/a.c"]);
        assert_eq!(found.not_code, ["docs/x"]);
        let tests = recording.candidates(&found.targets);
        let tests: Vec<_> = tests
            .iter()
            .map(|it| (it.test.as_str(), it.after_ms))
            .collect();
        assert_eq!(tests, [("001", 2)]);
    }
}
