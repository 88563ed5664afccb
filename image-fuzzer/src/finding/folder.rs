//! The folder of a finding, with all that is needed to reproduce it, to understand it and to
//! test for it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::version_record::{self, VersionRecord};
use super::{Example, Record, change, explain, iotest, script, transcript};
use crate::files::{TEMP_PREFIX, write_whole};

/// Writes everything about an example into `folder`: into a temporary folder beside it that
/// takes its place, so that it is there whole or not at all.
///
/// # Errors
///
/// The folder around it cannot be written.
pub fn write_folder(folder: &Path, example: &Example) -> Result<()> {
    let parent = folder.parent().unwrap_or(Path::new("."));
    let temp = tempfile::Builder::new()
        .prefix(TEMP_PREFIX)
        .tempdir_in(parent)
        .with_context(|| format!("cannot write to '{}'", parent.display()))?;
    fill(temp.path(), example, folder)?;
    let old = parent.join(format!(".old-{}", std::process::id()));
    if folder.exists() {
        fs::rename(folder, &old)?;
    }
    let temp = temp.keep();
    fs::set_permissions(&temp, fs::Permissions::from_mode(0o755))?;
    fs::rename(&temp, folder).with_context(|| format!("cannot write '{}'", folder.display()))?;
    if old.exists() {
        fs::remove_dir_all(&old)?;
    }
    Ok(())
}

/// Writes the files of an example into `folder`, which takes the place of `old`.
fn fill(folder: &Path, example: &Example, old: &Path) -> Result<()> {
    for file in &example.files {
        file.write_into(folder)
            .context("cannot write the image of a finding")?;
    }
    let mut record = record(example);
    // One that is damaged has none to keep.
    if let Ok(Some(old)) = Record::read(old) {
        version_record::merge(&mut record.versions, old.versions);
    }
    record.write(folder)?;
    let recipe = example.recipe.to_json()?;
    write_whole(&folder.join("recipe.json"), recipe.as_bytes())?;
    let readme = explain::readme(example, &record);
    write_whole(&folder.join("README.md"), readme.as_bytes())?;
    script::write(&folder.join("reproduce.sh"), &script::reproduce(example))?;
    iotest::write(folder, example)
}

/// What is recorded of an example.
pub(super) fn record(example: &Example) -> Record {
    let violation = example.violation();
    let command = example.recipe.commands.get(example.command());
    let summary = violation.map_or_else(String::new, |violation| violation.summary.clone());
    let version = example.version.as_deref().into_iter();
    let versions = version.map(VersionRecord::of_campaign);
    let (defects, more_defects) = explain::defects(example);
    Record {
        key: example.key.clone(),
        steps: transcript::steps(example, &summary),
        summary,
        command: command.map_or_else(String::new, |command| command.shell()),
        confirmed: example.confirmed,
        hits_in_10: example.hits_in_10,
        minimised: example.minimised,
        edits: example.recipe.edits.len(),
        bytes: example.changed_bytes().len(),
        version: example.version.clone(),
        changes: change::changes(example),
        defects,
        more_defects,
        guard: example.recipe.guard.map(explain::guarded),
        stack: explain::stack(example),
        trace: example.stack.clone(),
        versions: versions.collect(),
    }
}

/// The findings of a work folder: each folder with its record, sorted by name.
///
/// # Errors
///
/// `root` is not a work folder, or a record in it is damaged.
pub fn records(root: &Path) -> Result<Vec<(PathBuf, Record)>> {
    let findings = root.join("findings");
    let entries = fs::read_dir(&findings).with_context(|| {
        format!(
            "cannot read '{}'; name the work folder of a campaign",
            findings.display()
        )
    })?;
    let mut records = Vec::new();
    for entry in entries {
        let entry = entry?;
        // One that an interrupted write left.
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if let Some(record) = Record::read(&entry.path())? {
            records.push((entry.path(), record));
        }
    }
    records.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(records)
}
