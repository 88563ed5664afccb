//! Which tests are run: groups, names, where to start.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::args::{Expression, LowArgs};
use crate::model::Test;
use crate::tree::{Layout, Tree};

/// The group that is left out unless it is asked for.
const DISABLED: &str = "disabled";

/// The tests that are run, and what the user should know of those that are not.
#[derive(Debug, Default)]
pub struct Selection {
    /// In order.
    pub tests: Vec<Arc<Test>>,
    /// A line for each test that is named and not among them.
    pub left_out: Vec<String>,
}

/// The tests that the arguments select.
///
/// In our layout names and groups are both conditions: `-g quick 001 030` are those of the
/// two that are in the group. In a QEMU tree they are as QEMU's runner has them: the union of
/// the groups, less excluded groups, plus the tests named. With names alone: exactly those.
/// With neither: every test less the excluded. What a pattern or a range names can be
/// excluded in both, and is where it is disabled.
///
/// # Errors
///
/// A test or a group is unknown, groups are excluded from tests named one by one in a QEMU
/// tree, or nothing is left.
pub fn select(tree: &Tree, args: &LowArgs) -> Result<Selection> {
    if let Some(declared) = &tree.declared {
        for (option, groups) in [("-g", &args.groups), ("-x", &args.exclude_groups)] {
            for group in groups {
                declared.require(group, option)?;
            }
        }
        for group in args.filter.iter().flat_map(Expression::groups) {
            declared.require(group, "-E")?;
        }
    }
    if tree.tests().next().is_none() {
        bail!(
            "No tests selected: there are none in {}; set --source-dir",
            tree.source.display()
        );
    }
    let names = Names::find(tree, args)?;
    let by_group = !args.groups.is_empty();
    if tree.layout == Layout::Qemu
        && !by_group
        && !names.exact.is_empty()
        && !args.exclude_groups.is_empty()
    {
        bail!("Can't exclude from individually specified tests.");
    }
    let groups = Groups::new(args);
    let selected = |test: &Test| {
        let name = test.name.as_str();
        let fits = !by_group || groups.includes(test);
        match tree.layout {
            Layout::Qemu if names.exact.contains(name) => true,
            // A further condition only where QEMU's runner has no such words.
            Layout::Qemu => {
                let meant = (by_group && groups.includes(test)) || names.matched.contains(name);
                !groups.excludes(test) && (meant || (!by_group && names.are_none()))
            }
            Layout::Ours if names.exact.contains(name) => {
                fits && (groups.are_none() || !groups.excludes(test))
            }
            Layout::Ours => {
                let meant = names.are_none() || names.matched.contains(name);
                meant && fits && !groups.excludes(test)
            }
        }
    };
    let (mut tests, others): (Vec<_>, Vec<_>) =
        tree.tests().cloned().partition(|test| selected(test));
    let named = |test: &&Arc<Test>| names.exact.contains(test.name.as_str());
    let left_out = others.iter().filter(named).map(|test| {
        let why = if groups.excludes(test) {
            "it is in a group that is left out".to_owned()
        } else {
            format!("it is not in group {}", args.groups.join(" or "))
        };
        format!("{} is not run: {why}", test.name)
    });
    let left_out: Vec<_> = left_out.collect();
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
        match left_out.is_empty() {
            true => bail!("No tests selected"),
            false => bail!("No tests selected: {}", left_out.join("; ")),
        }
    }
    Ok(Selection { tests, left_out })
}

/// The tests that are named, by their names.
struct Names<'a> {
    /// Each by its own word.
    exact: HashSet<&'a str>,
    /// By a pattern or a range.
    matched: HashSet<&'a str>,
}

impl<'a> Names<'a> {
    fn find(tree: &'a Tree, args: &LowArgs) -> Result<Self> {
        let mut names = Self {
            exact: HashSet::new(),
            matched: HashSet::new(),
        };
        for word in &args.tests {
            let named = tree.named(word)?;
            let set = if named.exact {
                &mut names.exact
            } else {
                &mut names.matched
            };
            set.extend(named.tests.iter().map(|test| test.name.as_str()));
        }
        Ok(names)
    }

    fn are_none(&self) -> bool {
        self.exact.is_empty() && self.matched.is_empty()
    }
}

/// The groups that are asked for and those that are left out.
struct Groups<'a> {
    included: &'a [String],
    excluded: &'a [String],
}

impl<'a> Groups<'a> {
    fn new(args: &'a LowArgs) -> Self {
        Self {
            included: &args.groups,
            excluded: &args.exclude_groups,
        }
    }

    fn are_none(&self) -> bool {
        self.included.is_empty() && self.excluded.is_empty()
    }

    fn includes(&self, test: &Test) -> bool {
        in_any(test, self.included)
    }

    fn excludes(&self, test: &Test) -> bool {
        let disabled = test.groups.contains(DISABLED);
        in_any(test, self.excluded) || disabled && !self.included.iter().any(|g| g == DISABLED)
    }
}

fn in_any(test: &Test, groups: &[String]) -> bool {
    groups.iter().any(|group| test.groups.contains(group))
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
        let selection = select(tree, &args)?;
        let names: Vec<_> = selection.tests.iter().map(|t| t.name.clone()).collect();
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
            ("00*", "001 002 004"),
            ("00[!1-2] nam?d", "004 named"),
            ("2-4", "002 004"),
            ("1-3 3", "001 002 003"),
            ("00* -x slow", "001 002"),
            ("-g mine 4-9", "002 004 named"),
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
            ("1 9*", "no test matches '9*' in /"),
            ("1 5-9", "no test matches '5-9' in /"),
            ("9-5", "range '9-5': the first number is above the last"),
            (
                "-g rw --start-from 4",
                "argument --start-from: 004 is not among the selected tests",
            ),
        ] {
            let err = names(&tree, line).unwrap_err().to_string();
            assert!(err.starts_with(want), "{line}: {err}");
        }
    }

    fn ours() -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for sub in ["iotests/cases", "goldens", "groups"] {
            std::fs::create_dir_all(at(sub)).unwrap();
        }
        let groups = ["rw", "auto", "slow", "disabled"].map(|g| format!("{g}  meaning\n"));
        std::fs::write(at("groups/groups"), groups.concat()).unwrap();
        for (file, groups) in [
            ("001.rs", "rw auto"),
            ("002.rs", "rw"),
            ("003", "rw disabled"),
            ("004.rs", "auto slow"),
        ] {
            let header = format!("// A.\n//\n// group: {groups}\n");
            std::fs::write(at("iotests/cases").join(file), header).unwrap();
        }
        let places = Places {
            source: dir.path().to_owned(),
            build: dir.path().to_owned(),
        };
        let tree = Tree::load(&places).unwrap();
        (dir, tree)
    }

    /// 255 jobs ran once where two were meant.
    #[test]
    fn in_our_layout_names_and_groups_are_both_conditions() {
        let (_dir, tree) = ours();
        for (line, want) in [
            ("", "001 002 004"),
            ("3", "003"),
            ("-g auto 1 2", "001"),
            ("-g auto 00*", "001 004"),
            ("-g rw 1-4", "001 002"),
            ("-g rw,disabled 1-4", "001 002 003"),
            ("1 4 -x slow", "001"),
            ("iotests/cases/001.rs goldens/004.out.raw", "001 004"),
            ("iotests/cases/003", "003"),
        ] {
            assert_eq!(names(&tree, line).unwrap(), want, "{line}");
        }
        let args = parse(["-g", "auto", "1", "2", "003"].map(OsString::from)).unwrap();
        assert_eq!(
            select(&tree, &args).unwrap().left_out,
            [
                "002 is not run: it is not in group auto",
                "003 is not run: it is in a group that is left out",
            ]
        );
        for (line, want) in [
            (
                "-g auto 2",
                "No tests selected: 002 is not run: it is not in group auto",
            ),
            (
                "iotests/cases/005.rs",
                "'iotests/cases/005.rs' is neither a test nor a reference of /",
            ),
            (
                "iotests/cases/003.rs",
                "'iotests/cases/003.rs' is neither a test nor a reference of /",
            ),
            (
                "goldens/001.rs",
                "'goldens/001.rs' is neither a test nor a reference of /",
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
