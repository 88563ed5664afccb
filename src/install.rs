//! Replaces the runner in a QEMU tree, and restores it.
//!
//! QEMU's build starts its runner as `python3 check ...`, so what is put there
//! is a small Python file that starts this program. The original is kept beside
//! it as `check.orig`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The line by which our stub is known.
const MARK: &str = "# This stub starts the check program in place of QEMU's own runner.";

/// Text that only QEMU's runner contains.
const ORIGINAL: [&str; 2] = ["TestRunner", "TestFinder"];

/// What a `check` file is.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Original,
    Stub,
    Unknown,
}

impl Kind {
    fn of(file: &Path) -> Result<Self> {
        let text = std::fs::read(file).with_context(|| {
            format!(
                "cannot read {}: is this the top of a QEMU source tree?",
                file.display()
            )
        })?;
        let text = String::from_utf8_lossy(&text);
        Ok(if text.lines().any(|line| line == MARK) {
            Self::Stub
        } else if ORIGINAL.iter().all(|word| text.contains(word)) {
            Self::Original
        } else {
            Self::Unknown
        })
    }
}

/// Puts a stub that starts `program` in the place of the runner of `tree`, and
/// says what was done. A stub that is there already is written anew.
///
/// # Errors
///
/// There is no runner of QEMU's, or a file is in the way; nothing is changed
/// then.
pub fn install(tree: &Path, program: &Path) -> Result<String> {
    let check = check_of(tree);
    let original = check.with_extension("orig");
    let stub = stub(program)?;
    match Kind::of(&check)? {
        Kind::Stub if !original.is_file() => bail!(
            "{} is a stub of this program, but {} is missing; restore it from version control first",
            check.display(),
            original.display()
        ),
        Kind::Stub => {}
        Kind::Unknown => bail!(
            "{} is not QEMU's runner; nothing was changed",
            check.display()
        ),
        Kind::Original => {
            // A link first, so that there is a runner at every moment.
            std::fs::hard_link(&check, &original).with_context(|| {
                format!("cannot save {} as {}", check.display(), original.display())
            })?;
        }
    }
    if let Err(error) = write_executable(&check, &stub) {
        if Kind::of(&check)? == Kind::Original {
            let _ = std::fs::remove_file(&original);
        }
        return Err(error);
    }
    Ok(format!(
        "{} now starts {}\nthe original is saved as {}; --remove-from restores it\n",
        check.display(),
        program.display(),
        original.display()
    ))
}

/// Puts the original runner of `tree` back and says what was done. Where it is
/// in its place already, nothing is.
///
/// # Errors
///
/// The original is gone, or what is in its place is not ours to remove.
pub fn remove(tree: &Path) -> Result<String> {
    let check = check_of(tree);
    let original = check.with_extension("orig");
    match Kind::of(&check)? {
        Kind::Original => Ok(format!("{} is already QEMU's own\n", check.display())),
        Kind::Unknown => bail!(
            "{} is not a stub of this program; nothing was changed",
            check.display()
        ),
        Kind::Stub => {
            if !original.is_file() || Kind::of(&original)? != Kind::Original {
                bail!(
                    "{} is not QEMU's runner; restore check from version control",
                    original.display()
                );
            }
            std::fs::rename(&original, &check).with_context(|| {
                format!(
                    "cannot rename {} to {}",
                    original.display(),
                    check.display()
                )
            })?;
            Ok(format!("{} is QEMU's own again\n", check.display()))
        }
    }
}

/// The runner of `tree`, which is the top of a QEMU tree or its
/// `tests/qemu-iotests`.
fn check_of(tree: &Path) -> PathBuf {
    let below = tree.join("tests/qemu-iotests");
    let dir = if below.is_dir() {
        below
    } else {
        tree.to_owned()
    };
    dir.join("check")
}

fn write_executable(file: &Path, text: &str) -> Result<()> {
    let cannot = || format!("cannot write {}", file.display());
    let dir = file.parent().unwrap_or(Path::new("."));
    let new = tempfile::Builder::new()
        .prefix(".check")
        .permissions(PermissionsExt::from_mode(0o755))
        .tempfile_in(dir)
        .with_context(cannot)?;
    std::fs::write(new.path(), text).with_context(cannot)?;
    std::fs::set_permissions(new.path(), PermissionsExt::from_mode(0o755)).with_context(cannot)?;
    new.persist(file).with_context(cannot)?;
    Ok(())
}

/// The stub's text. The program finds source and build directory by the name it
/// is started by, so it is given the stub's.
fn stub(program: &Path) -> Result<String> {
    let Some(program) = program.to_str() else {
        bail!(
            "the path of this program is not UTF-8: {}",
            program.display()
        );
    };
    // JSON strings are Python strings, too.
    let program = serde_json::to_string(program)?;
    Ok(format!(
        r#"#!/usr/bin/env python3
#
{MARK}
# The original is beside it, as check.orig; check --remove-from puts it back.

import os
import sys

PROGRAM = {program}

os.environ.setdefault("PYTHON", sys.executable)
try:
    # Where this file stands says which tree and which build are meant.
    os.execv(PROGRAM, [os.path.join(".", sys.argv[0])] + sys.argv[1:])
except OSError as error:
    sys.exit(f"check: cannot start {{PROGRAM}}: {{error.strerror}}; build it again, "
             "or rename check.orig to check")
"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNER: &str = "#!/usr/bin/env python3\nfrom a import TestRunner, TestFinder\n";

    fn tree() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let iotests = dir.path().join("tests/qemu-iotests");
        std::fs::create_dir_all(&iotests).unwrap();
        let check = iotests.join("check");
        std::fs::write(&check, RUNNER).unwrap();
        (dir, check)
    }

    #[test]
    fn the_original_is_kept_and_comes_back() {
        let (dir, check) = tree();
        let program = Path::new("/opt/the \"check\" program");
        for _ in 0..2 {
            install(dir.path(), program).unwrap();
            let text = std::fs::read_to_string(&check).unwrap();
            assert!(text.contains(r#""/opt/the \"check\" program""#), "{text}");
            let kept = std::fs::read_to_string(check.with_extension("orig")).unwrap();
            assert_eq!(kept, RUNNER);
            let mode = check.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o755);
        }
        for _ in 0..2 {
            remove(check.parent().unwrap()).unwrap();
            assert_eq!(std::fs::read_to_string(&check).unwrap(), RUNNER);
            assert!(!check.with_extension("orig").exists());
        }
    }

    #[test]
    fn strangers_are_left_alone() {
        let (dir, check) = tree();
        std::fs::write(&check, "#!/bin/sh\n").unwrap();
        assert!(install(dir.path(), Path::new("/x")).is_err());
        assert!(remove(dir.path()).is_err());
        assert_eq!(std::fs::read_to_string(&check).unwrap(), "#!/bin/sh\n");
        assert!(!check.with_extension("orig").exists());

        std::fs::write(&check, RUNNER).unwrap();
        std::fs::write(check.with_extension("orig"), "mine").unwrap();
        assert!(install(dir.path(), Path::new("/x")).is_err());
        assert_eq!(std::fs::read_to_string(&check).unwrap(), RUNNER);

        let empty = tempfile::tempdir().unwrap();
        let err = install(empty.path(), Path::new("/x")).unwrap_err();
        assert!(
            err.to_string()
                .contains("is this the top of a QEMU source tree?")
        );
    }
}
