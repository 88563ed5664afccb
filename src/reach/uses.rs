//! Which functions use what is defined outside of functions: macros, variables, fields.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use super::patch::mentions;

/// How often a macro or variable that uses a name is taken for a name itself: a macro in a
/// macro, in a table.
const DEPTH: usize = 3;

/// In how many files names may be, at most: those in more say little of what is affected.
const MOST_FILES: usize = 200;

/// The source tree after a change.
#[derive(Debug)]
pub struct Source<'a> {
    repository: &'a Path,
    /// A commit; without one, the files as they are.
    commit: Option<String>,
}

/// A function in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Use {
    pub(super) file: String,
    pub(super) function: String,
}

impl<'a> Source<'a> {
    /// The source in this repository after the changes of `what`: commits as git-diff(1) takes
    /// them, or a patch.
    #[must_use]
    pub fn new(repository: &'a Path, what: &str) -> Self {
        let mut source = Self {
            repository,
            commit: None,
        };
        let is_bare = source.git(&["rev-parse", "--is-bare-repository"]);
        let is_bare = is_bare.is_some_and(|said| said.starts_with(b"true"));
        source.commit = match what.rsplit_once("..") {
            Some((_, tip)) if !Path::new(what).is_file() => Some(match tip {
                "" => "HEAD".to_owned(),
                tip => tip.to_owned(),
            }),
            _ => is_bare.then(|| "HEAD".to_owned()),
        };
        source
    }

    /// What git prints; `None` where it fails or finds nothing.
    fn git(&self, args: &[&str]) -> Option<Vec<u8>> {
        let mut git = Command::new("git");
        let git = git.arg("-C").arg(self.repository).args(args);
        let output = git.stdin(Stdio::null()).stderr(Stdio::null()).output();
        let output = output.ok().filter(|it| it.status.success())?;
        Some(output.stdout)
    }

    /// The source files in which one of these names is.
    fn files_with(&self, names: &BTreeSet<String>) -> Vec<String> {
        let mut args = vec!["grep", "-z", "-l", "-w", "-F", "--no-color"];
        for name in names {
            args.extend(["-e", name]);
        }
        args.extend(self.commit.as_deref());
        args.extend(["--", "*.c", "*.h", "*.inc"]);
        let list = self.git(&args).unwrap_or_default();
        let files = list.split(|byte| *byte == 0).filter(|it| !it.is_empty());
        let files = files.map(|file| {
            let file = String::from_utf8_lossy(file).into_owned();
            let prefix = self.commit.as_ref().map(|commit| format!("{commit}:"));
            let short = prefix.and_then(|it| file.strip_prefix(&it).map(str::to_owned));
            short.unwrap_or(file)
        });
        files.collect()
    }

    fn text(&self, file: &str) -> Option<Vec<u8>> {
        match &self.commit {
            Some(commit) => self.git(&["show", &format!("{commit}:{file}")]),
            None => std::fs::read(self.repository.join(file)).ok(),
        }
    }

    /// The functions that use any of these names, themselves or by macros and variables that are
    /// defined with them, and whether these are all: what is used all over the source is not
    /// followed.
    pub(super) fn uses(&self, names: &BTreeSet<String>) -> (BTreeSet<Use>, bool) {
        let mut found = BTreeSet::new();
        let (mut known, mut new) = (names.clone(), names.clone());
        for _ in 0..DEPTH {
            if new.is_empty() {
                break;
            }
            let files = self.files_with(&new);
            if files.len() > MOST_FILES {
                return (found, false);
            }
            let mut next = BTreeSet::new();
            for file in files {
                let Some(text) = self.text(&file) else {
                    continue;
                };
                let change = mentions(&file, &text, &new);
                let functions = change.functions.into_iter();
                found.extend(functions.map(|function| Use {
                    file: file.clone(),
                    function,
                }));
                next.extend(change.names.difference(&known).cloned());
            }
            known.extend(next.iter().cloned());
            new = next;
        }
        (found, true)
    }
}
