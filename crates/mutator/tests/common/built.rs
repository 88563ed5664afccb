//! The library that cargo built.

use std::path::PathBuf;

/// Where cargo puts the library: beside the tests.
pub(crate) fn library_path() -> PathBuf {
    let exe = std::env::current_exe().expect("the test program");
    let deps = exe.parent().expect("a folder");
    let path = deps.join("libimage_mutator.so");
    assert!(path.exists(), "{} is not built", path.display());
    path
}
