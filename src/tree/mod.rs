//! Where tests, references and groups are: our layout, or that of QEMU's
//! `tests/qemu-iotests`. Everything behind a [`Tree`] is the same for both.

mod locate;
mod named;
mod ours;
mod qemu;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use testdecl::nearest;

use crate::groups::{Declared, FAIL, read_local};
use crate::model::Test;

pub use locate::{Places, locate};
pub use named::Named;
pub use ours::{CASES, GOLDENS, GROUPS};
pub use qemu::sets_python_warnings;

/// How a tree is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `iotests/cases`, `goldens`, `groups`.
    Ours,
    /// `NNN` and `NNN.out` side by side, `tests/NAME`, `group.local`.
    Qemu,
}

impl Layout {
    /// The layout of the tree at `source`.
    #[must_use]
    pub fn of(source: &Path) -> Self {
        if source.join(CASES).is_dir() {
            Self::Ours
        } else {
            Self::Qemu
        }
    }
}

/// How a line of `group.local` begins that declares a group, where groups are declared.
const DECLARES: &str = "group";

/// A suite of tests.
#[derive(Debug, Clone)]
pub struct Tree {
    /// How it is laid out.
    pub layout: Layout,
    /// Where its sources are, absolute.
    pub source: PathBuf,
    /// Where its build is, absolute.
    pub build: PathBuf,
    /// The groups it declares; `None` where groups need no declaration.
    pub declared: Option<Declared>,
    /// Its `group.local`, where there is one that may hold known failures: a test named
    /// `fail` has the word for itself.
    pub local: Option<PathBuf>,
    /// Its tests, by what they are sorted by: `030`, `tests/NAME`.
    tests: BTreeMap<String, Arc<Test>>,
}

impl Tree {
    /// Reads the tree at `places`: which tests there are, and their headers.
    ///
    /// # Errors
    ///
    /// A test or a group file cannot be read, a group is not declared, a header
    /// is wrong.
    pub fn load(places: &Places) -> Result<Self> {
        let layout = Layout::of(&places.source);
        let (declared, tests, local) = match layout {
            Layout::Ours => {
                let groups = places.source.join(GROUPS);
                let declared = Declared::read(&groups.join("groups"))?;
                let tests = ours::tests(&places.source, &declared)?;
                (Some(declared), tests, groups.join("group.local"))
            }
            Layout::Qemu => {
                let tests = qemu::tests(&places.source)?;
                (None, tests, places.source.join("group.local"))
            }
        };
        let tests: BTreeMap<_, _> = tests.into_iter().map(|t| (sort_key(&t), t)).collect();
        let fail_is_a_test = tests.contains_key(&format!("tests/{FAIL}"));
        let mut tree = Self {
            layout,
            source: places.source.clone(),
            build: places.build.clone(),
            declared,
            local: (local.is_file() && !fail_is_a_test).then(|| local.clone()),
            tests,
        };
        if local.is_file() {
            tree.add_local_groups(&local)
                .with_context(|| format!("Failed to parse group file '{}'", local.display()))?;
        }
        Ok(tree)
    }

    fn add_local_groups(&mut self, file: &Path) -> Result<()> {
        let lines = read_local(file)?;
        if let Some(declared) = &mut self.declared {
            for (_, words) in lines.iter().filter(|(first, _)| first == DECLARES) {
                let Some((group, meaning)) = words.split_first() else {
                    bail!("'{DECLARES}': expected the name of a group and its meaning");
                };
                declared.declare(group, &meaning.join(" "), file)?;
            }
        }
        for (name, groups) in lines {
            let declares = self.declared.is_some() && name == DECLARES;
            if declares || (self.local.is_some() && name == FAIL && !groups.is_empty()) {
                continue;
            }
            let key = self.key(&name)?;
            for group in groups {
                if let Some(declared) = &self.declared {
                    declared.require(&group, &name)?;
                }
                if let Some(test) = self.tests.get_mut(&key) {
                    Arc::make_mut(test).groups.insert(group);
                }
            }
        }
        Ok(())
    }

    /// Every test, in order: numbers first, then names.
    pub fn tests(&self) -> impl Iterator<Item = &Arc<Test>> {
        self.tests.values()
    }

    /// The test that `name` stands for: digits are padded to three, anything
    /// else is a test in `tests/`.
    ///
    /// # Errors
    ///
    /// There is none, or `name` is a path.
    pub fn find(&self, name: &str) -> Result<&Arc<Test>> {
        let key = self.key(name)?;
        Ok(&self.tests[&key])
    }

    fn key(&self, name: &str) -> Result<String> {
        if name.contains('/') {
            bail!("Paths are unsupported for test selection, requiring \"{name}\" is wrong");
        }
        let digits = !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit());
        let key = if digits {
            format!("{:0>3}", name.trim_start_matches('0'))
        } else {
            format!("tests/{name}")
        };
        if self.tests.contains_key(&key) {
            return Ok(key);
        }
        let names = self.tests.values().map(|t| t.name.as_str());
        let near = if digits { None } else { nearest(name, names) };
        match near {
            Some(near) => bail!("Test \"{key}\" is not found; did you mean {near}?"),
            None => bail!("Test \"{key}\" is not found in {}", self.source.display()),
        }
    }
}

/// What tests are sorted by.
fn sort_key(test: &Test) -> String {
    if is_number(&test.name) {
        test.name.clone()
    } else {
        format!("tests/{}", test.name)
    }
}

/// Whether `name` is that of a numbered test: exactly three digits.
#[must_use]
pub fn is_number(name: &str) -> bool {
    name.len() == 3 && name.bytes().all(|b| b.is_ascii_digit())
}
