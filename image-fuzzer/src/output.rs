//! The program's results: on standard output, or in a file that the user names.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::files::write_whole;

/// A number with its noun: `1 group`, `2 groups`.
pub fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// A time in seconds, for people: `1 h 6 min`.
pub fn duration(seconds: f64) -> String {
    // A duration is never negative, and far less than 2^64 s.
    let all = seconds.max(0.0) as u64;
    let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, _) => format!("{minutes} min {seconds} s"),
        _ => format!("{hours} h {minutes} min"),
    }
}

/// Prints a text on standard output, without colours where it is not a terminal. A closed
/// pipe is not an error.
///
/// # Errors
///
/// Standard output cannot be written, as on a full disk.
pub fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    stdout_result(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Prints a line, as [`print()`] does.
///
/// # Errors
///
/// Those of [`print()`].
pub fn line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// The result of writing to standard output, with the message for the user.
///
/// # Errors
///
/// It could not be written, other than for a closed pipe.
pub fn stdout_result(done: io::Result<()>) -> Result<()> {
    ignore_closed_pipe(done).context("cannot write to standard output")
}

/// Writes a text into the file that the user names; `-` is standard output.
///
/// A regular file is replaced atomically, and a link to one stays a link. Other files (pipes,
/// terminals) are written to. A closed pipe is not an error.
///
/// # Errors
///
/// It cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let failed = || format!("cannot write '{}'", path.display());
    if is_stdout(path) {
        return print(text);
    }
    match fs::metadata(path) {
        Ok(there) if there.is_file() => write_whole(path, text.as_bytes()),
        // Of a dangling link the file is created that it points to.
        Err(_) if !path.is_symlink() => write_whole(path, text.as_bytes()),
        there => {
            let file = OpenOptions::new()
                .write(true)
                .create(there.is_err())
                .open(path);
            ignore_closed_pipe(file.and_then(|mut file| file.write_all(text.as_bytes())))
                .with_context(failed)
        }
    }
}

/// Whether `path` means standard output: as `-`, or as the file or device that it is.
pub fn is_stdout(path: &Path) -> bool {
    let id = |path: &Path| {
        let meta = fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    path == Path::new("-") || id(path).is_some_and(|this| Some(this) == id(Path::new(STDOUT)))
}

/// The path of standard output on Linux.
const STDOUT: &str = "/proc/self/fd/1";

/// `done`, where a closed pipe is not an error.
fn ignore_closed_pipe(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn one_is_singular() {
        let counts = [0, 1, 2].map(|number| counted(number, "group"));
        assert_eq!(counts, ["0 groups", "1 group", "2 groups"]);
    }

    /// The link was once replaced by the file, and what it led to left as it was.
    #[test]
    fn a_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "old").unwrap();
        fs::set_permissions(at("file"), fs::Permissions::from_mode(0o640)).unwrap();
        for (link, target) in [("link", "file"), ("nowhere", "made")] {
            symlink(target, at(link)).unwrap();
            write(&at(link), "new").unwrap();
            assert!(at(link).is_symlink());
            assert_eq!(fs::read_to_string(at(target)).unwrap(), "new");
        }
        let mode = fs::metadata(at("file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        write(&at("plain"), "new").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
        assert!(write(&at("no/such"), "new").is_err());
    }

    /// A pipe or a device was once replaced by a file of the same name.
    #[test]
    fn a_pipe_is_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::unistd::mkfifo(&pipe, mode).unwrap();
        // It can be opened for both at once without waiting for another side.
        let reader = OpenOptions::new().read(true).write(true).open(&pipe);
        write(&pipe, "new").unwrap();
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        let mut seen = [0; 3];
        io::Read::read_exact(&mut reader.unwrap(), &mut seen).unwrap();
        assert_eq!(&seen, b"new");
    }
}
