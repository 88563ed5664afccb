//! Core files: finding those of a test, and keeping them under a name.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The kernel's clock for files lags behind by up to a tick.
const CLOCK_LAG: Duration = Duration::from_millis(50);

/// Where the kernel writes core files, from `/proc/sys/kernel/core_pattern`
/// (core(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cores {
    /// `None`: in the working directory of the process that crashed.
    dir: Option<PathBuf>,
    /// What the name begins with.
    prefix: Vec<u8>,
    /// Whether that is the whole name.
    exact: bool,
    /// A program takes them, and we find none.
    piped: bool,
}

impl Cores {
    /// Reads what the system is set to.
    pub(super) fn of_this_system() -> Self {
        let read = |file: &str| fs::read(Path::new("/proc/sys/kernel").join(file));
        let pattern = read("core_pattern").unwrap_or_else(|_| b"core".to_vec());
        let with_pid = read("core_uses_pid").is_ok_and(|v| v.trim_ascii() == b"1");
        Self::parse(pattern.trim_ascii(), with_pid)
    }

    fn parse(pattern: &[u8], with_pid: bool) -> Self {
        let path = Path::new(std::ffi::OsStr::from_bytes(pattern));
        let name = path.file_name().unwrap_or_default().as_bytes();
        let cut = name.iter().position(|&b| b == b'%');
        // A directory with a `%` in it is made anew for each crash: not for us.
        let dir = path
            .parent()
            .filter(|dir| path.is_absolute() && !dir.as_os_str().as_bytes().contains(&b'%'));
        Self {
            dir: dir.map(Path::to_owned),
            prefix: name[..cut.unwrap_or(name.len())].to_vec(),
            exact: cut.is_none() && !with_pid,
            piped: pattern.first() == Some(&b'|') || (path.is_absolute() && dir.is_none()),
        }
    }

    /// Moves the core files that processes of the test `name` have written since
    /// `since` to `SCRATCH/NAME.core.PID`; `cwd` is where the test ran.
    pub(super) fn collect(
        &self,
        scratch: &Path,
        cwd: &Path,
        name: &str,
        since: SystemTime,
    ) -> Vec<PathBuf> {
        if self.piped {
            return Vec::new();
        }
        let since = since - CLOCK_LAG;
        let mut kept = Vec::new();
        let places = match &self.dir {
            Some(dir) => vec![dir.as_path()],
            None => vec![scratch, cwd],
        };
        for file in places.into_iter().flat_map(|dir| self.candidates(dir)) {
            let Some(pid) = crashed_pid(&file, since) else {
                continue;
            };
            let to = scratch.join(format!("{name}.core.{pid}"));
            if file == to || relocate(&file, &to).is_ok() {
                kept.push(to);
            }
        }
        kept.sort();
        kept.dedup();
        kept
    }

    /// Files in `dir` with a core file's name.
    fn candidates(&self, dir: &Path) -> Vec<PathBuf> {
        if self.exact {
            let file = dir.join(std::ffi::OsStr::from_bytes(&self.prefix));
            return if file.is_file() { vec![file] } else { vec![] };
        }
        fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().as_bytes().starts_with(&self.prefix))
            .filter(|entry| entry.file_type().is_ok_and(|t| t.is_file()))
            .map(|entry| entry.path())
            .collect()
    }
}

/// Moves a file, to another file system too.
fn relocate(from: &Path, to: &Path) -> std::io::Result<()> {
    if fs::rename(from, to).is_ok() {
        return Ok(());
    }
    fs::copy(from, to)?;
    fs::remove_file(from)
}

/// The process whose core `file` is; `None` if it is not a core file, or older
/// than `since`.
fn crashed_pid(file: &Path, since: SystemTime) -> Option<i32> {
    if fs::metadata(file).ok()?.modified().ok()? < since {
        return None;
    }
    let mut head = Vec::new();
    File::open(file)
        .ok()?
        .take(64 << 10)
        .read_to_end(&mut head)
        .ok()?;
    pid_in_core(&head)
}

/// The process id in the head of a core file: a 64-bit little-endian ELF file of
/// type core (4), whose first note is the status of the thread that crashed
/// (`NT_PRSTATUS`, 1). 0 for a core of another machine, whose notes look
/// different; `None` for what is not a core file.
fn pid_in_core(head: &[u8]) -> Option<i32> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(*head.get(at..)?.first_chunk()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(*head.get(at..)?.first_chunk()?));
    let u64_at = |at: usize| Some(u64::from_le_bytes(*head.get(at..)?.first_chunk()?));
    if head.get(..4)? != b"\x7fELF" {
        return None;
    }
    let (class, order) = (*head.get(4)?, *head.get(5)?);
    if (class, order) != (2, 1) {
        return Some(0);
    }
    if u16_at(16)? != 4 {
        return None;
    }
    let pid = || {
        let table = usize::try_from(u64_at(32)?).ok()?;
        let (size, count) = (usize::from(u16_at(54)?), usize::from(u16_at(56)?));
        // Program header type 4 is the notes; the offset is 8 bytes in.
        let note = (0..count)
            .filter_map(|n| table.checked_add(n.checked_mul(size)?))
            .find(|&at| u32_at(at) == Some(4))?;
        let at = usize::try_from(u64_at(note + 8)?).ok()?;
        let name_len = usize::try_from(u32_at(at)?).ok()?;
        if u32_at(at + 8)? != 1 {
            return None;
        }
        // Name and description are padded to 4 bytes. In the description come
        // three integers, a short and its padding and two longs before the pid.
        let description = at + 12 + name_len.checked_next_multiple_of(4)?;
        u32_at(description + 32).map(u32::cast_signed)
    };
    Some(pid().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read() {
        let plain = Cores::parse(b"core", false);
        assert!(plain.exact && plain.dir.is_none() && !plain.piped);
        assert!(!Cores::parse(b"core", true).exact);
        let placed = Cores::parse(b"/var/cores/core-%e-%p", false);
        assert_eq!(placed.dir.as_deref(), Some(Path::new("/var/cores")));
        assert_eq!(
            (placed.prefix.as_slice(), placed.exact),
            (&b"core-"[..], false)
        );
        assert!(Cores::parse(b"|/usr/lib/systemd/systemd-coredump %P", false).piped);
    }

    #[test]
    fn a_real_core_is_named_after_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let cores = Cores::of_this_system();
        let since = SystemTime::now();
        let script = "ulimit -c unlimited; echo $$; kill -ABRT $$";
        let output = std::process::Command::new("sh")
            .args(["-c", script])
            .current_dir(dir.path())
            .output()
            .unwrap();
        use std::os::unix::process::ExitStatusExt;
        let found = cores.collect(dir.path(), dir.path(), "030", since);
        // The system may have no room for cores, or may give them to a program.
        if output.status.core_dumped() && !cores.piped {
            let pid = String::from_utf8(output.stdout).unwrap();
            let name = format!("030.core.{}", pid.trim());
            assert_eq!(found, [dir.path().join(name)]);
            assert!(found[0].is_file());
        } else {
            assert!(found.is_empty());
        }
    }

    #[test]
    fn what_is_no_core_stays_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("core");
        fs::write(&file, "a file of the test's own").unwrap();
        let cores = Cores::parse(b"core", false);
        let since = SystemTime::UNIX_EPOCH + CLOCK_LAG;
        assert!(
            cores
                .collect(dir.path(), dir.path(), "030", since)
                .is_empty()
        );
        assert!(file.is_file());
    }

    proptest::proptest! {
        #[test]
        fn noise_is_no_trouble(mut noise: Vec<u8>) {
            let _ = pid_in_core(&noise);
            noise.splice(..0, *b"\x7fELF\x02\x01");
            let _ = pid_in_core(&noise);
        }
    }
}
