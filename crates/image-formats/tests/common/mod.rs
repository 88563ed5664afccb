//! Running `qemu-img`.

use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// A folder to work in, or nothing when `qemu-img` is not installed.
pub(crate) fn scratch() -> Option<TempDir> {
    if Command::new("qemu-img").arg("--version").output().is_err() {
        eprintln!("not run: qemu-img is not in PATH");
        return None;
    }
    Some(tempfile::tempdir().unwrap())
}

/// Runs `qemu-img` with words and then paths as arguments.
pub(crate) fn qemu_img(words: &[&str], paths: &[&Path]) -> Output {
    Command::new("qemu-img")
        .args(words)
        .args(paths)
        .output()
        .unwrap()
}
