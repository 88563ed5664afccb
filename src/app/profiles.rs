//! Where profiles are: in the tree, and the user's own.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::var;
use crate::args::Profiles;
use crate::tree::locate;

/// The profiles of the tree, whose source is `source` where that is known, with the user's
/// over them.
///
/// # Errors
///
/// A file is wrong, or cannot be read; one that does not exist is none.
pub(super) fn read(argv0: &Path, source: Option<&Path>) -> Result<Profiles, String> {
    let cwd = std::env::current_dir()
        .map_err(|error| format!("cannot determine the current directory: {error}"))?;
    let places = locate(argv0, source, None, &cwd);
    let places = places.map_err(|error| format!("{error:#}"))?;
    let mut profiles = Profiles::default();
    let files = [Some(places.source.join(".config/check.toml")), users()];
    for file in files.into_iter().flatten() {
        let shown = file.strip_prefix(&cwd).unwrap_or(&file).display();
        match std::fs::read_to_string(&file) {
            Ok(text) => profiles.read(&text, &shown.to_string())?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(format!("cannot read {shown}: {error}")),
        }
    }
    Ok(profiles)
}

/// The user's file.
fn users() -> Option<PathBuf> {
    let set = |name: &str| {
        var(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let dir = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(dir.join("check/check.toml"))
}
