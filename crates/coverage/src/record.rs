//! Maps in files: for programs that others start, which cannot pass a descriptor on.
//!
//! The controller has a folder for a run, with the blocks of each program in a file that is
//! never changed, and in it a folder for each test, with a file of notes for each program,
//! which all processes of the test share. The environment variable [`ENV`] names the folder of
//! the test; a library that is preloaded into all of its processes calls [`begin`], which finds
//! the files by device and inode of the program, and does nothing where there are none.
#![allow(unsafe_code)] // Files shared between processes; each block says why it is sound.

use std::ffi::{CStr, OsStr, c_int};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::Ordering;

use crate::clock;
use crate::map::{Layout, Module, Notes, Obstacle, View, fixed_part};
use crate::trap;

/// The environment variable with the folder of a test.
pub const ENV: &CStr = c"CHECK_COVERAGE";

/// What the name of a file with blocks ends in.
const BLOCKS: &str = ".blocks";

/// A program as the system knows it, whatever it is called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramId {
    device: u64,
    inode: u64,
}

impl ProgramId {
    /// Of the program at `path`.
    ///
    /// # Errors
    ///
    /// It cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        Ok(Self {
            device: meta.dev(),
            inode: meta.ino(),
        })
    }

    /// The name of its files.
    fn name(self) -> String {
        format!("{:x}-{:x}", self.device, self.inode)
    }
}

/// Writes the blocks of a program into the folder of a run.
///
/// # Errors
///
/// There are too many, or the file cannot be written.
pub fn write_blocks(run: &Path, program: ProgramId, blocks: &[(u32, u8)]) -> io::Result<()> {
    let module = Module { name: c"", blocks };
    let (bytes, _) = fixed_part(&[module])?;
    fs::write(run.join(program.name() + BLOCKS), bytes)
}

/// Makes the notes of a program with this many blocks in the folder of a test, which is below
/// that of the run. Times are counted from now on.
///
/// # Errors
///
/// The file cannot be made.
pub fn create_notes(test: &Path, program: ProgramId, blocks: usize) -> io::Result<()> {
    let layout = Layout::of(blocks).ok_or(io::ErrorKind::InvalidInput)?;
    let file = File::create(test.join(program.name()))?;
    file.set_len(layout.notes_end as u64)?;
    let since = clock::now_ms().to_ne_bytes();
    file.write_all_at(&since, std::mem::offset_of!(Notes, since_ms) as u64)
}

/// What the processes of a test have noted of a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noted {
    /// The number of each block that was reached, and after how many milliseconds; by number.
    pub reached: Vec<(u32, u32)>,
    /// How many processes noted blocks, forks not counted.
    pub processes: u32,
    /// After how many milliseconds the first of them began.
    pub first_ms: u32,
    /// What kept a process from it.
    pub obstacle: Option<Obstacle>,
}

/// Reads what was noted in the folder of a test.
///
/// # Errors
///
/// The file is not there, or is none of a program with this many blocks.
pub fn read_notes(test: &Path, program: ProgramId, blocks: usize) -> io::Result<Noted> {
    let path = test.join(program.name());
    let file = File::options().read(true).write(true).open(path)?;
    let attached = View::attach_notes(file.as_fd(), blocks);
    let (view, len) = attached.ok_or(io::ErrorKind::InvalidData)?;
    let notes = view.notes();
    // Times are one more than they say, so that 0 is none.
    let times = view.times().iter().zip(0..);
    let reached = times.filter_map(|(time, number)| {
        let time = time.load(Ordering::Relaxed).checked_sub(1)?;
        Some((number, time))
    });
    let processes = notes.armed.load(Ordering::Relaxed);
    let noted = Noted {
        // Most notes are of programs that the test does not start.
        reached: match processes {
            0 => Vec::new(),
            _ => reached.collect(),
        },
        processes,
        first_ms: notes.first.load(Ordering::Relaxed).saturating_sub(1),
        obstacle: view.obstacle(),
    };
    // SAFETY: the mapping that `attach_notes` made, of at least this length; no reference to
    // it is left.
    unsafe { libc::munmap(view.notes_start().as_ptr().cast(), len) };
    Ok(noted)
}

/// Begins to note blocks in this process, where the variable [`ENV`] asks for it and its
/// program is one of those that are meant.
///
/// To be called once, before the program starts.
pub fn begin() {
    // SAFETY: the name is ended by zero; the value lives until the variable is changed.
    let folder = unsafe {
        let value = libc::getenv(ENV.as_ptr());
        if value.is_null() {
            return;
        }
        CStr::from_ptr(value)
    };
    let test = Path::new(OsStr::from_bytes(folder.to_bytes()));
    let Ok(program) = ProgramId::of(Path::new("/proc/self/exe")) else {
        return;
    };
    let Some(notes) = open(&test.join(program.name()), libc::O_RDWR) else {
        return;
    };
    if is_traced() {
        if let Some(view) = notes_header(notes.as_fd()) {
            view.obstacle
                .store(Obstacle::Traced as u32, Ordering::Relaxed);
        }
        return;
    }
    let Some(run) = test.parent() else {
        return;
    };
    let Some(blocks) = open(&run.join(program.name() + BLOCKS), libc::O_RDONLY) else {
        return;
    };
    // A signal that is blocked, by who started this, would end the process.
    // SAFETY: all-zero is valid for a set of signals, which the calls write to and read.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGILL);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
    trap::arm_files(blocks.as_fd(), notes.as_fd());
}

fn open(path: &Path, flags: c_int) -> Option<OwnedFd> {
    let mut bytes = path.as_os_str().as_bytes().to_vec();
    bytes.push(0);
    // SAFETY: a path ended by zero; the descriptor is fresh and ours alone.
    unsafe {
        let fd = libc::open(bytes.as_ptr().cast(), flags | libc::O_CLOEXEC);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
    }
}

/// The start of notes, for as long as the process lives.
fn notes_header(fd: BorrowedFd<'_>) -> Option<&'static Notes> {
    // SAFETY: a fresh mapping that is never unmapped; the file was made longer than this.
    unsafe {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let len = size_of::<Notes>();
        let start = libc::mmap(
            std::ptr::null_mut(),
            len,
            rights,
            libc::MAP_SHARED,
            fd.as_raw_fd(),
            0,
        );
        (start != libc::MAP_FAILED).then(|| &*start.cast::<Notes>())
    }
}

/// Whether a debugger would see the signals, or valgrind runs a copy of the code.
fn is_traced() -> bool {
    let preloaded = std::env::var_os("LD_PRELOAD").unwrap_or_default();
    let is_under_valgrind = preloaded
        .as_bytes()
        .windows(b"vgpreload".len())
        .any(|part| part == b"vgpreload");
    is_under_valgrind || has_tracer()
}

fn has_tracer() -> bool {
    let status = fs::read("/proc/self/status").unwrap_or_default();
    let mut lines = status.split(|byte| *byte == b'\n');
    let pid = lines.find_map(|line| line.strip_prefix(b"TracerPid:"));
    pid.is_some_and(|pid| pid.trim_ascii() != b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_were_made() {
        let run = tempfile::tempdir().unwrap();
        let test = run.path().join("1");
        fs::create_dir(&test).unwrap();
        let own = ProgramId::of(&std::env::current_exe().unwrap()).unwrap();
        let blocks = [(0x1000, 0x55), (0x1010, 0x48), (0x1020, 0xc3)];
        write_blocks(run.path(), own, &blocks).unwrap();
        create_notes(&test, own, blocks.len()).unwrap();
        assert_eq!(read_notes(&test, own, 3).unwrap(), Noted::default());

        let fixed = File::open(run.path().join(own.name() + BLOCKS)).unwrap();
        let notes = File::options()
            .read(true)
            .write(true)
            .open(test.join(own.name()))
            .unwrap();
        let view = View::attach_files(fixed.as_fd(), notes.as_fd()).unwrap();
        assert_eq!(view.addresses(), [0x1000, 0x1010, 0x1020]);
        assert_eq!(view.bytes(), [0x55, 0x48, 0xc3]);
        view.count_armed();
        view.note(2);
        view.note(0);
        view.note(2);
        view.hinder(Obstacle::Handler);
        let noted = read_notes(&test, own, 3).unwrap();
        let numbers: Vec<u32> = noted.reached.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 2]);
        assert!(noted.reached[1].1 <= noted.reached[0].1);
        assert_eq!(noted.processes, 1);
        assert_eq!(noted.obstacle, Some(Obstacle::Handler));

        assert!(read_notes(&test, own, 4).is_err());
        assert!(View::attach_files(notes.as_fd(), notes.as_fd()).is_none());
    }
}
