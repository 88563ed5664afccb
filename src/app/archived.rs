//! A run from an archive: it is unpacked, and the runner in it goes on.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::run_tests::REGEN_VARIABLE;
use super::{say, var};
use crate::archive::{Archive, unpacked_here};
use crate::args::{Action, LowArgs};
use crate::environment::test_dir;

/// The archive that this program belongs to.
pub(super) struct Within {
    /// What it is, in lines.
    pub(super) about: Vec<String>,
    /// Where it is unpacked, where it had to be.
    pub(super) dir: Option<PathBuf>,
}

/// Finds the archive that is meant: that which `args` name, or which this program is of.
/// Where something of it is to be run, its own runner takes the place of this program.
///
/// # Errors
///
/// An action needs the source tree, or the archive cannot be unpacked or run.
pub(super) fn enter(argv0: &OsStr, words: &[OsString], args: &LowArgs) -> Result<Option<Within>> {
    // Help is the same everywhere.
    if matches!(args.action, Action::Help { .. }) {
        return Ok(None);
    }
    let named = args
        .from_archive
        .as_deref()
        .map(Archive::open)
        .transpose()?;
    let here = unpacked_here();
    let own = match (&named, &here) {
        (None, None) => Archive::own()?,
        _ => None,
    };
    if named.is_none() && here.is_none() && own.is_none() {
        return Ok(None);
    }
    refuse(args)?;
    if let Some((dir, contents)) = here
        && named
            .as_ref()
            .is_none_or(|named| named.is_unpacked_in(&dir))
    {
        let about = contents.about;
        return Ok(Some(Within {
            about,
            dir: Some(dir),
        }));
    }
    let Some(archive) = named.or(own) else {
        return Ok(None);
    };
    if args.action == Action::Version {
        let about = archive.contents.about;
        return Ok(Some(Within { about, dir: None }));
    }
    match run(archive, argv0, words)? {}
}

/// Lets the archive's runner go on with the same words.
fn run(mut archive: Archive, argv0: &OsStr, words: &[OsString]) -> Result<Infallible> {
    let cwd = std::env::current_dir().context("cannot determine the current directory")?;
    let unpacked = archive.unpack(&archive_dir(&cwd))?;
    if let Some((why, aside)) = &unpacked.replaced {
        say::error(&format!(
            "{} was not as in the archive ({why}): unpacked again; what it held is in {}",
            unpacked.dir.display(),
            aside.display()
        ));
    }
    let runner = unpacked.runner();
    // The name that it is called by is what it tells others to call.
    let error = Command::new(&runner).arg0(argv0).args(words).exec();
    Err(error).with_context(|| {
        format!(
            "cannot run {}; set TEST_DIR to a directory where programs can be run",
            runner.display()
        )
    })
}

/// Where archives are unpacked: beside the scratch directory, like the history.
fn archive_dir(cwd: &Path) -> PathBuf {
    // With a slash at the end it would be below.
    let dir: PathBuf = test_dir(cwd, &var).components().collect();
    let mut dir = dir.into_os_string();
    dir.push("-archive");
    dir.into()
}

/// What needs the source tree is no use in an archive.
fn refuse(args: &LowArgs) -> Result<()> {
    let asked = match &args.action {
        Action::New(_) => "--new",
        Action::Review => "--review",
        Action::UnusedGoldens => "--unused-goldens",
        Action::Archive(_) => "archive",
        Action::InstallInto(_) => "--install-into",
        Action::RemoveFrom(_) => "--remove-from",
        _ if args.bless.is_some() => "--bless",
        _ if args.source_dir.is_some() => "--source-dir",
        _ if var(REGEN_VARIABLE).is_some() => REGEN_VARIABLE,
        _ => return Ok(()),
    };
    bail!("{asked} needs the source tree; it cannot be used with an archive")
}
