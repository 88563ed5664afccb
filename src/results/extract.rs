//! The files that a record keeps, unpacked.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::source::{End, Source};
use crate::report::{EVENTS, JOBS};
use crate::words;

/// Unpacks the files of jobs in `source` into `dir`, which must be new or empty, a folder for
/// each job. Gives a text that says where they are.
///
/// # Errors
///
/// There is something in `dir`, it cannot be written, or the record holds something other
/// than files below it.
pub fn extract(source: &Source, dir: &Path) -> Result<String> {
    let shown = dir.display();
    if !source.is_record() {
        bail!(
            "{} is a file of --json, without files of jobs; --record keeps them",
            source.path().display()
        );
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {shown}"))?;
    let mut there = std::fs::read_dir(dir).with_context(|| format!("cannot read {shown}"))?;
    if there.next().is_some() {
        bail!("{shown} is not empty; name a directory that does not exist yet");
    }
    let mut unpacked: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    let end = source.members(&mut |path, member| {
        let Some((job, name)) = place(path) else {
            if path.starts_with(EVENTS) && member.is_file() {
                return Ok(());
            }
            bail!("member '{}' is no file of a job", path.display());
        };
        if !member.is_file() {
            bail!("member '{}' is not a plain file", path.display());
        }
        let folder = dir.join(job);
        let what = || format!("cannot write {}", folder.join(&name).display());
        std::fs::create_dir_all(&folder).with_context(what)?;
        let to = folder.join(&name);
        member.unpack_as(&to).with_context(what)?;
        unpacked.entry(folder).or_default().push(to);
        Ok(())
    })?;
    let mut text = String::new();
    for (folder, files) in &unpacked {
        text.push_str(&format!("{}\n", words::path(folder)));
        for file in files {
            text.push_str(&format!("    {}\n", words::path(file)));
        }
    }
    if unpacked.is_empty() {
        text.push_str("the record has no files: every job simply passed\n");
    }
    if end == End::Within {
        text.push_str("the record ends within a file: the run was killed while it was written\n");
    }
    Ok(text)
}

/// The job's folder and the file's name, where `path` is that of a job's file: nothing else
/// is unpacked, so nothing lands elsewhere.
fn place(path: &Path) -> Option<(OsString, OsString)> {
    let mut parts = path.components();
    let mut next = || match parts.next() {
        Some(Component::Normal(part)) => Some(part.to_owned()),
        _ => None,
    };
    let (top, job, name) = (next()?, next()?, next()?);
    (top == JOBS && parts.next().is_none()).then_some((job, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_jobs_have_a_place() {
        let of = |path: &str| place(Path::new(path)).is_some();
        assert!(of("jobs/0001-qcow2-file-030/030.out.bad"));
        for path in [
            "../x/y",
            "jobs/../x",
            "jobs/a/../b",
            "/jobs/a/b",
            "jobs/a",
            "jobs/a/b/c",
            "events/a/b",
            "jobs/a/..",
        ] {
            assert!(!of(path), "{path}");
        }
    }
}
