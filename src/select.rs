//! Which tests are run: groups, names, where to start.

use std::sync::Arc;

use anyhow::{Result, bail};

use crate::args::LowArgs;
use crate::model::Test;
use crate::tree::Tree;

/// The group that is left out unless it is asked for.
const DISABLED: &str = "disabled";

/// The tests that the arguments select, in order.
///
/// With groups: their union, less excluded groups, plus the tests named. With
/// names alone: exactly those. With neither: every test less the excluded.
///
/// # Errors
///
/// A test or a group is unknown, groups are excluded from named tests, or
/// nothing is left.
pub fn select(tree: &Tree, args: &LowArgs) -> Result<Vec<Arc<Test>>> {
    if let Some(declared) = &tree.declared {
        for (option, groups) in [("-g", &args.groups), ("-x", &args.exclude_groups)] {
            for group in groups {
                declared.require(group, option)?;
            }
        }
    }
    if tree.tests().next().is_none() {
        bail!(
            "No tests selected: there are none in {}; set --source-dir",
            tree.source.display()
        );
    }
    let in_any = |test: &Test, groups: &[String]| groups.iter().any(|g| test.groups.contains(g));
    let excluded = |test: &Test| {
        in_any(test, &args.exclude_groups)
            || test.groups.contains(DISABLED) && !args.groups.iter().any(|g| g == DISABLED)
    };
    let mut named = Vec::new();
    for name in &args.tests {
        named.push(tree.find(name)?);
    }
    let by_group = !args.groups.is_empty();
    if !by_group && !named.is_empty() && !args.exclude_groups.is_empty() {
        bail!("Can't exclude from individually specified tests.");
    }
    let mut tests: Vec<_> = tree
        .tests()
        .filter(|test| {
            named.iter().any(|n| Arc::ptr_eq(n, test))
                || !excluded(test)
                    && (by_group && in_any(test, &args.groups) || !by_group && named.is_empty())
        })
        .cloned()
        .collect();
    if let Some(name) = &args.start_from {
        let first = tree.find(name)?;
        let Some(at) = tests.iter().position(|t| Arc::ptr_eq(t, first)) else {
            bail!(
                "argument --start-from: {} is not among the selected tests",
                first.name
            );
        };
        tests.drain(..at);
    }
    if tests.is_empty() {
        bail!("No tests selected");
    }
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::args::parse;
    use crate::tree::Places;

    fn tree() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        for (name, groups) in [
            ("001", "rw auto"),
            ("002", "rw"),
            ("003", "rw disabled"),
            ("004", "auto slow"),
        ] {
            std::fs::write(dir.path().join(name), format!("# group: {groups}\n")).unwrap();
        }
        std::fs::create_dir(dir.path().join("tests")).unwrap();
        std::fs::write(dir.path().join("tests/named"), "# group: auto\n").unwrap();
        std::fs::write(dir.path().join("tests/named.out"), "").unwrap();
        std::fs::write(dir.path().join("group.local"), "named mine\n2 mine\n").unwrap();
        let places = Places {
            source: dir.path().to_owned(),
            build: dir.path().to_owned(),
        };
        let tree = Tree::load(&places).unwrap();
        (dir, tree)
    }

    fn names(tree: &Tree, line: &str) -> Result<String> {
        let args = parse(line.split_whitespace().map(OsString::from)).unwrap();
        let tests = select(tree, &args)?;
        let names: Vec<_> = tests.iter().map(|t| t.name.clone()).collect();
        Ok(names.join(" "))
    }

    #[test]
    fn groups_names_and_exclusions_combine() {
        let (_dir, tree) = tree();
        for (line, want) in [
            ("", "001 002 004 named"),
            ("-g rw", "001 002"),
            ("-g rw,disabled", "001 002 003"),
            ("-g auto -x slow", "001 named"),
            ("-g auto -x slow 4 3", "001 003 004 named"),
            ("-x rw", "004 named"),
            ("-x disabled", "001 002 004 named"),
            ("3 1 0001 named", "001 003 named"),
            ("-g mine", "002 named"),
            ("--start-from 2", "002 004 named"),
            ("--start-from named", "named"),
        ] {
            assert_eq!(names(&tree, line).unwrap(), want, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_selected_is_said() {
        let (_dir, tree) = tree();
        for (line, want) in [
            (
                "1 -x rw",
                "Can't exclude from individually specified tests.",
            ),
            ("999", "Test \"999\" is not found in "),
            (
                "namd",
                "Test \"tests/namd\" is not found; did you mean named?",
            ),
            ("tests/named", "Paths are unsupported"),
            ("-g nothing", "No tests selected"),
            (
                "-g rw --start-from 4",
                "argument --start-from: 004 is not among the selected tests",
            ),
        ] {
            let err = names(&tree, line).unwrap_err().to_string();
            assert!(err.starts_with(want), "{line}: {err}");
        }
    }

    #[test]
    fn a_bad_name_in_group_local_names_the_file() {
        let (dir, _) = tree();
        std::fs::write(dir.path().join("group.local"), "777 x\n").unwrap();
        let places = Places {
            source: dir.path().to_owned(),
            build: dir.path().to_owned(),
        };
        let err = format!("{:#}", Tree::load(&places).unwrap_err());
        assert!(err.contains("Failed to parse group file"), "{err}");
        assert!(err.contains("group.local") && err.contains("777"), "{err}");
    }
}
