//! References that no test uses, and variants that equal the plain
//! one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use testdecl::{Decl, may_support};

use super::equal;
use crate::args::FORMATS;
use crate::model::Test;

/// An unused reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unused {
    /// The file.
    pub file: PathBuf,
    /// Why, in a sentence's end: `no test 999`.
    pub why: String,
}

/// Lists the files in the reference directories of `tests` (all tests of a tree)
/// and is never looked at, or equals the plain reference and could go.
///
/// # Errors
///
/// A directory or file cannot be read.
pub fn unused<'a>(tests: impl IntoIterator<Item = &'a Test>) -> anyhow::Result<Vec<Unused>> {
    let mut by_dir: BTreeMap<&Path, BTreeMap<&str, &Test>> = BTreeMap::new();
    for test in tests {
        let dir = by_dir.entry(&test.golden_dir).or_default();
        dir.insert(&test.name, test);
    }
    let mut found = BTreeSet::new();
    for (dir, tests) in by_dir {
        let what = || format!("cannot read {}", dir.display());
        if !dir.exists() {
            continue;
        }
        for entry in std::fs::read_dir(dir).with_context(what)? {
            let file = entry.with_context(what)?.path();
            let why = file
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(Reference::parse)
                .map(|reference| reference.why_unused(&file, &tests))
                .transpose()?
                .flatten();
            if let Some(why) = why {
                found.insert(Unused { file, why });
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// A reference's file name: `NAME.out` or `NAME.out.VARIANT`.
struct Reference<'a> {
    /// What stands before `.out`: a test, or a test and a machine.
    name: &'a str,
    variant: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// `None` for files that are not references, such as outputs saved by old
    /// runners.
    fn parse(file: &'a str) -> Option<Self> {
        if let Some(name) = file.strip_suffix(".out") {
            let variant = None;
            return Some(Self { name, variant });
        }
        let (name, variant) = file.split_once(".out.")?;
        let leftover = ["bad", "diff", "asan", "tsan", "ubsan"];
        let kind = variant.split('.').next().unwrap_or(variant);
        (!leftover.contains(&kind) && !variant.ends_with('~')).then_some(Self {
            name,
            variant: Some(variant),
        })
    }

    fn why_unused(
        &self,
        file: &Path,
        tests: &BTreeMap<&str, &Test>,
    ) -> anyhow::Result<Option<String>> {
        let (test, machine) = match (tests.get(self.name), self.name.rsplit_once('.')) {
            (Some(test), _) => (test, false),
            (None, Some((name, _))) if self.variant.is_none() && tests.contains_key(name) => {
                (&tests[name], true)
            }
            _ => return Ok(Some(format!("there is no test {}", self.name))),
        };
        if let Some(variant) = self.variant
            && let Some(why) = unreachable_variant(test, variant)?
        {
            return Ok(Some(why));
        }
        if self.variant.is_none() && !machine {
            return Ok(None);
        }
        let plain = file.with_file_name(format!("{}.out", test.name));
        let read = |path: &Path| {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        if plain.is_file() && equal(&read(&plain)?, &read(file)?) {
            return Ok(Some(format!("equals {}.out", test.name)));
        }
        Ok(None)
    }
}

/// Why no run looks for this variant of the test's reference.
fn unreachable_variant(test: &Test, variant: &str) -> anyhow::Result<Option<String>> {
    let source = std::fs::read(&test.source)
        .with_context(|| format!("cannot read {}", test.source.display()))?;
    let source = String::from_utf8_lossy(&source);
    if variant == "nocache" {
        let decl = Decl::parse(&source);
        let caches = decl.get("supported_cache");
        let never = caches.is_some_and(|modes| {
            let may = |mode: &String| mode == "none" || mode == "generic";
            !modes.iter().any(may)
        });
        return Ok(never.then(|| format!("test {} does not run with cache mode none", test.name)));
    }
    if !FORMATS.contains(&variant) {
        return Ok(Some(format!("unknown format {variant}")));
    }
    let supported = may_support(&source, variant);
    Ok((!supported).then(|| format!("test {} does not support {variant}", test.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn what_nobody_reads_is_listed() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let test = |name: &str, header: &str| {
            put(name, header);
            let mut test = sample::test(name);
            test.golden_dir = dir.path().to_owned();
            test.source = dir.path().join(name);
            test
        };
        let tests = [
            test(
                "001",
                "# supported_fmt: qcow2 raw\n# supported_cache: writeback\n",
            ),
            test("top-perms", "# supported_fmt: generic\n"),
        ];
        for (file, text) in [
            ("001.out", "plain\n"),
            ("001.out.qcow2", "other\n"),
            ("001.out.raw", "plain \n"),
            ("001.out.vdi", "vdi\n"),
            ("001.out.qcow3", "x\n"),
            ("001.out.nocache", "x\n"),
            ("001.out.bad", "x\n"),
            ("001.pc.out", "pc\n"),
            ("001.virt.out", "plain\n"),
            ("999.out", "x\n"),
            ("top-perms.out", "x\n"),
            ("top-perms.out.nocache", "y\n"),
            ("README", "x\n"),
        ] {
            put(file, text);
        }
        let found: Vec<String> = unused(&tests)
            .unwrap()
            .into_iter()
            .map(|u| format!("{}: {}", u.file.file_name().unwrap().display(), u.why))
            .collect();
        assert_eq!(
            found,
            [
                "001.out.nocache: test 001 does not run with cache mode none",
                "001.out.qcow3: unknown format qcow3",
                "001.out.raw: equals 001.out",
                "001.out.vdi: test 001 does not support vdi",
                "001.virt.out: equals 001.out",
                "999.out: there is no test 999",
            ]
        );
    }
}
