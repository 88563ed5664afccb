//! What a change of the source affects.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::patch::{Change, changes};
use super::paths::ends_in;
use super::recording::Recording;
use super::targets::{Target, Targets};
use super::uses::Source;
use crate::words;

/// How many names of what is changed in a file are told.
const NAMES_TOLD: usize = 5;

/// What a change affects.
#[derive(Debug)]
pub struct Affected {
    /// The changed functions that recorded programs have, and those that use what is changed
    /// outside of functions.
    pub targets: Targets,
    /// The changed functions among them.
    pub changed: HashSet<Target>,
    /// Those that no test reaches: file and name.
    pub unreached: Vec<String>,
    /// Changed functions that no recorded program has: file and name.
    pub unknown: Vec<String>,
    /// Files that are changed outside of functions; where it is known, with what changes there
    /// and how many functions use it.
    pub elsewhere: Vec<String>,
    /// Other files that recorded programs have no code of.
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

/// What the changes of a patch affect. What uses the macros, variables and fields that it changes
/// is looked for in `source`.
///
/// # Errors
///
/// The patch cannot be read.
pub fn affected(
    recording: &Recording,
    patch: impl Read,
    source: Option<&Source<'_>>,
) -> io::Result<Affected> {
    let files: BTreeSet<&str> = recording
        .tables
        .iter()
        .flat_map(|table| table.files.iter().map(String::as_str))
        .collect();
    let mut result = Affected {
        targets: Targets::none(&recording.tables),
        changed: HashSet::new(),
        unreached: Vec::new(),
        unknown: Vec::new(),
        elsewhere: Vec::new(),
        not_code: Vec::new(),
    };
    for change in &changes(BufReader::new(patch))? {
        let file = &change.file;
        let is_code = files.is_empty() || files.iter().any(|known| ends_in(known, file));
        if is_code {
            result.add_functions(recording, change);
        }
        let uses = result.add_uses(recording, change, source);
        match uses {
            Some(uses) => result.elsewhere.push(format!("{file}: {uses}")),
            None if !is_code => result.not_code.push(file.clone()),
            None if change.elsewhere => result.elsewhere.push(file.clone()),
            None => {}
        }
    }
    result.targets.order();
    let reached = recording.reached_targets(&result.targets);
    let targets = result.targets.all().iter().enumerate();
    let unreached =
        targets.filter(|(number, it)| result.changed.contains(*it) && !reached.contains(number));
    result.unreached = unreached
        .map(|(_, it)| format!("{} ({})", it.name, it.file))
        .collect();
    Ok(result)
}

impl Affected {
    /// Adds the functions that are changed in a file.
    fn add_functions(&mut self, recording: &Recording, change: &Change) {
        let (file, functions) = (&change.file, &change.functions);
        let is_same_file = |known: &str| known.is_empty() || ends_in(known, file);
        let is_meant = |known: &str, name: &str| functions.contains(name) && is_same_file(known);
        let found = self.targets.add(&recording.tables, &is_meant);
        let names: BTreeSet<&str> = found.iter().map(|it| it.name.as_str()).collect();
        let missing = functions.iter().filter(|it| !names.contains(it.as_str()));
        self.unknown
            .extend(missing.map(|name| format!("{name} ({file})")));
        self.changed.extend(found);
    }

    /// Adds the functions that use what is changed outside of functions; what that is and how
    /// many functions use it, where that can be told.
    fn add_uses(
        &mut self,
        recording: &Recording,
        change: &Change,
        source: Option<&Source<'_>>,
    ) -> Option<String> {
        let names = &change.names | &change.members;
        let source = source.filter(|_| !names.is_empty())?;
        let mut told: Vec<&str> = names.iter().take(NAMES_TOLD).map(String::as_str).collect();
        if names.len() > NAMES_TOLD {
            told.push("...");
        }
        let told = told.join(", ");
        let (uses, are_all) = source.uses(&names);
        let mut files: HashMap<&str, Vec<&str>> = HashMap::new();
        for it in &uses {
            files.entry(&it.function).or_default().push(&it.file);
        }
        let is_use = |known: &str, name: &str| {
            let files = files.get(name);
            let same = |file: &&str| known.is_empty() || ends_in(known, file);
            files.is_some_and(|files| files.iter().any(same))
        };
        let is_meant =
            |known: &str, name: &str| change.entries.contains(name) || is_use(known, name);
        let found = self.targets.add(&recording.tables, &is_meant);
        let used_in = words::count(found.len(), "recorded function");
        let rest = if are_all {
            ""
        } else {
            ", and in more files than are looked through: other tests may be affected"
        };
        Some(format!("{told} (used in {used_in}{rest})"))
    }
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
        let found = affected(&recording, patch.as_bytes(), None).unwrap();
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
