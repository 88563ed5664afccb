//! Mounts below a directory: finding them, and unmounting what was left.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, umount2};

/// A mount as `/proc/self/mountinfo` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub path: PathBuf,
    /// The type of its file system, such as `fuse` or `fuse.sshfs`.
    pub kind: String,
}

/// Mounts at or below any of `dirs`, in the order in which they were made.
///
/// # Errors
///
/// Fails if `/proc` cannot be read.
pub fn mounts_below<P: AsRef<Path>>(dirs: &[P]) -> io::Result<Vec<Mount>> {
    // The kernel generates the text again for each read: few and large ones.
    let mut text = Vec::with_capacity(16 << 10);
    fs::File::open("/proc/self/mountinfo")?.read_to_end(&mut text)?;
    Ok(text
        .split(|&b| b == b'\n')
        .filter_map(parse)
        .filter(|mount| dirs.iter().any(|dir| mount.path.starts_with(dir)))
        .collect())
}

/// Unmounts what is mounted at `path`, even where it is in use or its server has
/// ended: itself where it may, else through `fusermount3` or `fusermount`.
///
/// # Errors
///
/// Fails if none of them could do it.
pub fn unmount(path: &Path) -> io::Result<()> {
    let Err(error) = umount2(path, MntFlags::MNT_DETACH) else {
        return Ok(());
    };
    for program in ["fusermount3", "fusermount"] {
        let status = Command::new(program)
            .args(["-u", "-z", "--"])
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if status.is_ok_and(|s| s.success()) {
            return Ok(());
        }
    }
    Err(error.into())
}

/// What is mounted at or below any of `dirs`, by FUSE or otherwise, the newest first: the
/// order in which it can be unmounted. None where there is no directory to look below.
pub(crate) fn newest_below(dirs: &[PathBuf]) -> Vec<PathBuf> {
    if dirs.is_empty() {
        return Vec::new();
    }
    let mut paths: Vec<PathBuf> = mounts_below(dirs)
        .unwrap_or_default()
        .into_iter()
        .map(|mount| mount.path)
        .collect();
    paths.reverse();
    paths
}

/// Unmounts what is mounted below `dirs`, the newest first; what was there.
pub(crate) fn unmount_below(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let found = newest_below(dirs);
    for path in &found {
        // Best effort: it is named to the caller in any case.
        let _ = unmount(path);
    }
    found
}

/// Reads a line of mountinfo (proc(5)): field 5 is the mount point, and the type
/// comes first behind the field that is a lone `-`.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&b| b == b' ');
    let path = PathBuf::from(OsString::from_vec(unescape(fields.nth(4)?)));
    let kind = fields.skip_while(|f| *f != b"-").nth(1)?;
    let kind = String::from_utf8_lossy(kind).into_owned();
    Some(Mount { path, kind })
}

/// Blanks, tabs, line ends and backslashes are written as `\` and three octal
/// digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, more)) = rest.split_first() {
        if first == b'\\'
            && let Some((digits, after)) = more.split_first_chunk::<3>()
            && digits.iter().all(|d| (b'0'..=b'7').contains(d))
        {
            let value = digits.iter().fold(0u32, |v, d| v * 8 + u32::from(d - b'0'));
            out.push(u8::try_from(value & 0xff).unwrap_or(b'?'));
            rest = after;
        } else {
            out.push(first);
            rest = more;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_blanks_is_read() {
        let line = br"36 35 0:31 / /tmp/a\040b\134c rw,nosuid shared:1 master:2 - fuse.x src rw";
        let mount = parse(line).unwrap();
        assert_eq!(mount.path, Path::new(r"/tmp/a b\c"));
        assert_eq!(mount.kind, "fuse.x");
        let proc = parse(b"1 2 0:3 / /proc rw - proc proc rw").unwrap();
        assert_eq!(proc.kind, "proc");
        assert_eq!(parse(b"1 2 0:3 / /proc rw"), None);
    }

    #[test]
    fn mounts_are_found_below_a_directory_only() {
        assert!(!mounts_below(&["/"]).unwrap().is_empty());
        assert_eq!(mounts_below(&["/nowhere/at/all"]).unwrap(), []);
    }

    #[test]
    fn what_is_not_mounted_cannot_be_unmounted() {
        let dir = tempfile::tempdir().unwrap();
        assert!(unmount(dir.path()).is_err());
    }
}
