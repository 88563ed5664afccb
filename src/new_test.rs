//! `--new`: the skeleton of the next test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::args::LowArgs;
use crate::test_ids;
use crate::tree::{CASES, GOLDENS, Layout, Tree, is_number};

/// Where the ranges of numbers are written down.
const README: &str = "iotests/README.md";

/// Groups a new test is in where none are named.
const GROUPS: &str = "rw quick";

/// Writes the skeleton of a test that tests `what`, and an empty reference.
/// Its number is the first free one from `--start-from` on; where that is not given,
/// the next of the range that its groups belong to.
///
/// # Errors
///
/// The tree is not ours, no number is free, a file cannot be written.
pub fn new_test(tree: &Tree, args: &LowArgs, what: &str) -> Result<String> {
    if tree.layout != Layout::Ours {
        bail!(
            "argument --new: {} does not have the layout of this suite",
            tree.source.display()
        );
    }
    let summary = sentence(what)?;
    for group in &args.groups {
        if let Some(declared) = &tree.declared {
            declared.require(group, "-g")?;
        }
    }
    let groups = match args.groups.as_slice() {
        [] => GROUPS.to_owned(),
        groups => groups.join(" "),
    };
    let number = number(tree, args)?;
    let case = tree.source.join(CASES).join(format!("{number}.rs"));
    let golden = tree.source.join(GOLDENS).join(format!("{number}.out"));
    write_new(&case, &skeleton(&summary, &groups))?;
    write_new(&golden, "")?;
    Ok(format!(
        "{}\n{}\n./check -qcow2 --bless {number} saves its reference, once the test is written\n",
        relative(&case, tree),
        relative(&golden, tree)
    ))
}

/// The number of a new test.
fn number(tree: &Tree, args: &LowArgs) -> Result<String> {
    let tests: BTreeMap<u16, BTreeSet<String>> = tree
        .tests()
        .filter(|t| is_number(&t.name))
        .filter_map(|t| Some((t.name.parse().ok()?, t.groups.iter().cloned().collect())))
        .collect();
    let Some(text) = args.start_from.as_deref() else {
        let readme = tree.source.join(README);
        // A suite without the table has no ranges.
        let ranges = test_ids::ranges(&std::fs::read_to_string(&readme).unwrap_or_default());
        let number = test_ids::next(&ranges, &tests, &args.groups);
        return number.map(|n| format!("{n:03}")).context(
            "no number is free in the range of these groups; choose one with --start-from NNN",
        );
    };
    let from = match text.parse() {
        Ok(number @ 0..=999) => number,
        _ => bail!("argument --start-from: '{text}' is not a test number (000 to 999)"),
    };
    (from..1000)
        .find(|n| !tests.contains_key(n))
        .map(|n| format!("{n:03}"))
        .with_context(|| format!("no number from {from:03} on is free"))
}

/// `what` as one sentence with a full stop.
fn sentence(what: &str) -> Result<String> {
    let words: Vec<_> = what.split_whitespace().collect();
    let mut text = words.join(" ");
    let Some(first) = text.chars().next() else {
        bail!("argument --new: describe in a sentence what the test tests");
    };
    let capital: String = first.to_uppercase().collect();
    text.replace_range(..first.len_utf8(), &capital);
    if !text.ends_with(['.', '?', '!']) {
        text.push('.');
    }
    Ok(text)
}

/// The text of a new test.
fn skeleton(summary: &str, groups: &str) -> String {
    include_str!("new_test.txt")
        .replace("@SUMMARY@", summary)
        .replace("@GROUPS@", groups)
}

fn write_new(file: &Path, text: &str) -> Result<()> {
    let mut open = OpenOptions::new();
    let written = open.write(true).create_new(true).open(file);
    written
        .and_then(|mut f| f.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// `file` as seen from the top of the tree.
fn relative(file: &Path, tree: &Tree) -> String {
    let inside = file.strip_prefix(&tree.source).unwrap_or(file);
    inside.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_tests_becomes_a_sentence() {
        let said = sentence(" data  is kept ").unwrap();
        assert_eq!(said, "Data is kept.");
        assert_eq!(sentence("Is it?").unwrap(), "Is it?");
        assert_eq!(sentence("über alles").unwrap(), "Über alles.");
        assert!(sentence(" ").is_err());
    }

    #[test]
    fn the_skeleton_declares_itself() {
        let decl = testdecl::Decl::parse(&skeleton("Data is kept.", "rw quick"));
        assert_eq!(decl.summary, "Data is kept.");
        assert_eq!(decl.groups(), ["rw", "quick"]);
        assert_eq!(decl.problems(), []);
    }
}
