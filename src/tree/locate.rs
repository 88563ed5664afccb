//! Finds the tree: by options, by how the program was started, or in the current directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{CASES, GOLDENS, GROUPS, is_number};

/// Source and build directory of a tree, both absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Where tests and references are.
    pub source: PathBuf,
    /// Where the build is.
    pub build: PathBuf,
}

/// Finds the tree. What the options say goes first. A program started through a
/// symbolic link, as from a build tree, has its source where the link points and
/// its build where the link is. Else both are the current directory; where
/// that is a folder of a suite in our layout, the source is that suite, and where it
/// holds no tests, the suite that this program belongs to.
///
/// # Errors
///
/// A directory named by an option does not exist.
pub fn locate(
    argv0: &Path,
    source: Option<&Path>,
    build: Option<&Path>,
    cwd: &Path,
) -> Result<Places> {
    let link = link_target(argv0, cwd);
    let source = match (source, &link) {
        (Some(dir), _) => existing("--source-dir", &cwd.join(dir))?,
        (None, Some((_, target))) => target.clone(),
        (None, None) => match within_suite(cwd) {
            Some(top) => top.to_owned(),
            None if holds_tests(cwd) => cwd.to_owned(),
            None => own_suite(argv0, cwd).unwrap_or_else(|| cwd.to_owned()),
        },
    };
    let build = match (build, link) {
        (Some(dir), _) => existing("--build-dir", &cwd.join(dir))?,
        (None, Some((stands, _))) => stands,
        (None, None) => cwd.to_owned(),
    };
    Ok(Places { source, build })
}

fn existing(option: &str, dir: &Path) -> Result<PathBuf> {
    if !dir.is_dir() {
        bail!("argument {option}: {} is not a directory", dir.display());
    }
    std::path::absolute(dir).with_context(|| format!("argument {option}: {}", dir.display()))
}

/// Where the link that the program was started by is, and the directory it
/// points into; `None` where it was not started by a link.
fn link_target(argv0: &Path, cwd: &Path) -> Option<(PathBuf, PathBuf)> {
    let link = cwd.join(argv0);
    // A bare name comes from PATH; the file of that name here is another one.
    if argv0.components().count() < 2 && !argv0.starts_with(".") {
        return None;
    }
    let target = std::fs::read_link(&link).ok()?;
    let stands = link.parent()?;
    let points = stands.join(target);
    let points = points.parent()?;
    let points = points.canonicalize().unwrap_or_else(|_| points.to_owned());
    let stands = stands.canonicalize().unwrap_or_else(|_| stands.to_owned());
    Some((stands, points))
}

/// The suite that this program is the runner of: beside it as it was started,
/// or above the binary in the target directory.
fn own_suite(argv0: &Path, cwd: &Path) -> Option<PathBuf> {
    let started = cwd.join(argv0).canonicalize().ok();
    let binary = std::env::current_exe().ok();
    let above = started.iter().chain(&binary).flat_map(|p| p.ancestors());
    above
        .skip(1)
        .find(|dir| dir.join(CASES).is_dir())
        .map(Path::to_owned)
}

/// The suite in our layout of whose tests, references or groups `dir` is the folder, or in
/// whose folder it lies.
fn within_suite(dir: &Path) -> Option<&Path> {
    let holds = |top: &&Path| {
        let folders = ["iotests", GOLDENS, GROUPS];
        top.join(CASES).is_dir() && folders.iter().any(|f| dir.starts_with(top.join(f)))
    };
    dir.ancestors().skip(1).find(holds)
}

/// Whether `dir` looks like a test directory of either layout, even an empty
/// one.
fn holds_tests(dir: &Path) -> bool {
    dir.join(CASES).is_dir()
        || std::fs::read_dir(dir).is_ok_and(|entries| {
            entries
                .flatten()
                .any(|e| e.file_name().to_str().is_some_and(is_number))
        })
        || dir.join("tests").is_dir()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_has_its_source_where_it_points() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (src, build) = (root.join("src/tests"), root.join("build/tests"));
        std::fs::create_dir_all(&src).unwrap();
        std::fs::create_dir_all(&build).unwrap();
        std::fs::write(src.join("check"), "").unwrap();
        symlink("../../src/tests/check", build.join("check")).unwrap();
        let want = Places {
            source: src.clone(),
            build: build.clone(),
        };
        let found = locate(Path::new("./check"), None, None, &build).unwrap();
        assert_eq!(found, want);
        let found = locate(&build.join("check"), None, None, &root).unwrap();
        assert_eq!(found, want);
        std::fs::write(root.join("001"), "").unwrap();
        let found = locate(&src.join("check"), None, Some(&build), &root).unwrap();
        assert_eq!((found.source, found.build), (root.clone(), build));
        let said = locate(Path::new("./check"), Some(Path::new("src")), None, &root).unwrap();
        assert_eq!((said.source, said.build), (root.join("src"), root.clone()));
        let err = locate(Path::new("check"), Some(Path::new("no")), None, &root).unwrap_err();
        assert!(err.to_string().contains("--source-dir"));
    }
}
