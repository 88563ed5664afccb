//! Running `qemu-img`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The program of that name: the one in the folder that `IMAGE_FORMATS_QEMU` names,
/// where it is set, so that the tests can be held against another version of QEMU.
pub(crate) fn program(name: &str) -> PathBuf {
    match std::env::var_os("IMAGE_FORMATS_QEMU") {
        Some(folder) => Path::new(&folder).join(name),
        None => name.into(),
    }
}

/// A folder to work in, or nothing when `qemu-img` is not installed.
pub(crate) fn scratch() -> Option<TempDir> {
    if let Err(why) = Command::new(program("qemu-img")).arg("--version").output() {
        assert!(
            std::env::var_os("IMAGE_FORMATS_QEMU").is_none(),
            "IMAGE_FORMATS_QEMU names a folder without qemu-img: {why}"
        );
        eprintln!("not run: qemu-img is not in PATH");
        return None;
    }
    Some(tempfile::tempdir().unwrap())
}

/// Runs `qemu-img` with words and then paths as arguments.
pub(crate) fn qemu_img(words: &[&str], paths: &[&Path]) -> Output {
    Command::new(program("qemu-img"))
        .args(words)
        .args(paths)
        .output()
        .unwrap()
}
