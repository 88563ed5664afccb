//! Where a program is that is called by name.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Where programs are looked for when `PATH` is not set, and what it is for programs under
/// test.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The absolute path of an executable file; a name without a slash is looked for in `PATH`.
/// Symbolic links are not followed.
///
/// # Errors
///
/// There is no such file, or it is not executable.
pub fn find_program(name: &Path) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    // Without a working directory only relative paths are not found.
    let cwd = std::env::current_dir().unwrap_or_default();
    which::which_in(name, Some(path), cwd).or_else(|_| {
        if name.as_os_str().as_encoded_bytes().contains(&b'/') {
            name.metadata()?;
            let text = "not an executable file";
            return Err(Error::new(ErrorKind::PermissionDenied, text));
        }
        Err(Error::new(ErrorKind::NotFound, "not found in PATH"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        let shell = find_program(Path::new("sh")).unwrap();
        assert!(shell.is_absolute() && shell.ends_with("sh"), "{shell:?}");
        assert_eq!(find_program(&shell).unwrap(), shell);
        let error = |name: &str| find_program(Path::new(name)).unwrap_err().to_string();
        assert_eq!(error("no-such-program"), "not found in PATH");
        assert_eq!(error("/dev/null"), "not an executable file");
        assert!(error("/no/such/program").starts_with("No such file"));
    }
}
