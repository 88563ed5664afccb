//! Maps in files: for programs that others start, which cannot pass a descriptor on.
//!
//! The controller keeps files in memory: the blocks of each program, which never change
//! ([`Program`]), and for each test notes, which all of its processes share ([`Notes`]). The
//! environment variable [`ENV`] tells where they are among the descriptors of the controller; a
//! library that is preloaded into all processes of the test calls [`begin`], which finds those
//! of its own program, by device and inode, and does nothing where there are none.
//!
//! The processes of a test also share a copy of the program's code with the traps in it, which
//! each maps in place of its own: to start costs little, and a trap that one removes is gone for
//! all. Where that cannot be, a process sets traps in its own code.
#![allow(unsafe_code)] // Files shared between processes; each block says why it is sound.

use std::ffi::{CStr, CString, c_int};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::map::{Layout, Module, Notes as Header, Obstacle, View, fixed_part};
use crate::text::{in_memory, with_traps};
use crate::trap;

pub use crate::text::Code;

/// The environment variable that tells the processes of a test where the files are.
pub const ENV: &CStr = c"CHECK_COVERAGE";

/// How long a process waits for another to copy the code, at most.
const COPY_TAKES: Duration = Duration::from_millis(200);

/// A program as the system knows it, whatever it is called by. One that is changed is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramId {
    device: u64,
    inode: u64,
    /// When it was changed last, in nanoseconds; all that matters is whether it is the same.
    changed: i64,
    size: u64,
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
            changed: (meta.mtime().wrapping_mul(1_000_000_000)).wrapping_add(meta.mtime_nsec()),
            size: meta.size(),
        })
    }

    /// What it is called in [`ENV`].
    fn name(self) -> String {
        let Self {
            device,
            inode,
            changed,
            size,
        } = self;
        format!("{device:x}-{inode:x}-{changed:x}-{size:x}")
    }
}

/// A program whose blocks are noted: the controller's side, for all tests.
#[derive(Debug)]
pub struct Program {
    id: ProgramId,
    blocks: usize,
    fixed: File,
    /// Its code with all traps.
    text: Option<File>,
}

impl Program {
    /// The program with this id and these blocks; each an address and the byte there, sorted.
    /// Processes share its code where it is given.
    ///
    /// # Errors
    ///
    /// There are too many blocks, one is not in the code, or no memory can be had.
    pub fn new(id: ProgramId, blocks: &[(u32, u8)], code: Option<Code>) -> io::Result<Self> {
        let (fixed, count) = fixed_part(&[Module { name: c"", blocks }])?;
        let text = match code {
            None => None,
            Some(code) => Some(in_memory(&with_traps(code, blocks)?)?),
        };
        Ok(Self {
            id,
            blocks: count,
            fixed: in_memory(&fixed)?,
            text,
        })
    }

    /// Which it is.
    #[must_use]
    pub fn id(&self) -> ProgramId {
        self.id
    }
}

/// What the processes of a test note of a program: the controller's side.
#[derive(Debug)]
pub struct Notes {
    blocks: usize,
    notes: File,
    /// For a copy of the code that its processes share.
    text: Option<File>,
}

impl Notes {
    /// None yet. Times are counted from now on.
    ///
    /// # Errors
    ///
    /// No memory can be had.
    pub fn new(program: &Program) -> io::Result<Self> {
        let layout = Layout::of(program.blocks).ok_or(io::ErrorKind::InvalidInput)?;
        let notes = in_memory(&[])?;
        notes.set_len(layout.notes_end as u64)?;
        let since = clock::now_ms().to_ne_bytes();
        notes.write_all_at(&since, std::mem::offset_of!(Header, since_ms) as u64)?;
        let text = program.text.as_ref().map(|_| in_memory(&[]));
        Ok(Self {
            blocks: program.blocks,
            notes,
            text: text.transpose()?,
        })
    }

    /// What was noted so far.
    ///
    /// # Errors
    ///
    /// The memory cannot be mapped.
    pub fn read(&self) -> io::Result<Noted> {
        let attached = View::attach_notes(self.notes.as_fd(), self.blocks);
        let (view, len) = attached.ok_or_else(io::Error::last_os_error)?;
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
        // SAFETY: the mapping that `attach_notes` made, of at least this length; no reference
        // to it is left.
        unsafe { libc::munmap(view.notes_start().as_ptr().cast(), len) };
        Ok(noted)
    }
}

/// What was noted, as it comes: the memory stays mapped.
pub struct Follower {
    view: View,
    len: usize,
    /// How many of the list were taken.
    taken: usize,
}

// SAFETY: what other processes and threads change in the memory is atomic.
unsafe impl Send for Follower {}

impl Notes {
    /// Follows what is noted from now on, and what was so far.
    ///
    /// # Errors
    ///
    /// The memory cannot be mapped.
    pub fn follow(&self) -> io::Result<Follower> {
        let attached = View::attach_notes(self.notes.as_fd(), self.blocks);
        let (view, len) = attached.ok_or_else(io::Error::last_os_error)?;
        Ok(Follower {
            view,
            len,
            taken: 0,
        })
    }
}

impl Follower {
    /// The numbers of the blocks that were reached since the last call, in the order in which
    /// they were.
    pub fn take(&mut self) -> Vec<u32> {
        // A place of the list is taken first and filled then: what is not there yet is left for
        // the next call.
        let places = self.taken..self.view.reached();
        let filled = places.map_while(|place| self.view.at(place));
        let new: Vec<u32> = filled.filter_map(|it| u32::try_from(it).ok()).collect();
        self.taken += new.len();
        new
    }

    /// What keeps a process from noting blocks.
    #[must_use]
    pub fn obstacle(&self) -> Option<Obstacle> {
        self.view.obstacle()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // SAFETY: the mapping that `attach_notes` made, of this length; no reference to it is
        // left.
        unsafe { libc::munmap(self.view.notes_start().as_ptr().cast(), self.len) };
    }
}

/// What [`ENV`] is to be for a test that has these programs noted.
#[must_use]
pub fn value<'a>(programs: impl IntoIterator<Item = (&'a Program, &'a Notes)>) -> String {
    value_of(&std::process::id().to_string(), programs)
}

/// The same for a process that inherits [`descriptors`] under their numbers: in a sandbox it may
/// not look at those of the controller. What it starts itself finds nothing.
#[must_use]
pub fn inherited_value(program: &Program, notes: &Notes) -> String {
    value_of("self", [(program, notes)])
}

/// The descriptors that [`inherited_value`] names. They are closed when another program is
/// executed, unless the child that executes it changes that.
#[must_use]
pub fn descriptors<'a>(program: &'a Program, notes: &'a Notes) -> Vec<BorrowedFd<'a>> {
    files(program, notes).map(AsFd::as_fd).collect()
}

fn files<'a>(program: &'a Program, notes: &'a Notes) -> impl Iterator<Item = &'a File> {
    let texts = program.text.as_ref().zip(notes.text.as_ref());
    let files = [&program.fixed, &notes.notes].into_iter();
    files.chain(texts.into_iter().flat_map(|(all, own)| [all, own]))
}

fn value_of<'a>(
    controller: &str,
    programs: impl IntoIterator<Item = (&'a Program, &'a Notes)>,
) -> String {
    let mut value = controller.to_owned();
    for (program, notes) in programs {
        let numbers = files(program, notes).map(|it| it.as_raw_fd().to_string());
        let numbers: Vec<String> = numbers.collect();
        let _ = write!(value, ":{}={}", program.id.name(), numbers.join(","));
    }
    value
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

/// Where the files of a program are, as a process finds them.
struct Files {
    fixed: OwnedFd,
    notes: OwnedFd,
    /// The code with all traps, and for the copy.
    texts: Option<(File, File)>,
}

impl Files {
    /// Those of the program with this id, where `value` ([`ENV`]) has it.
    fn find(value: &str, id: ProgramId) -> Option<Self> {
        let (controller, programs) = value.split_once(':')?;
        let id = id.name();
        let own = |program: &str| {
            program
                .strip_prefix(&*id)?
                .strip_prefix('=')
                .map(str::to_owned)
        };
        let files = programs.split(':').find_map(own)?;
        let mut files = files.split(',').map(|number| (controller, number));
        let mut next = |flags| open(files.next()?, flags);
        Some(Self {
            fixed: next(libc::O_RDONLY)?,
            notes: next(libc::O_RDWR)?,
            texts: next(libc::O_RDONLY)
                .zip(next(libc::O_RDWR))
                .map(|(all, own)| (all.into(), own.into())),
        })
    }
}

/// Opens a descriptor of a process.
fn open((pid, number): (&str, &str), flags: c_int) -> Option<OwnedFd> {
    let path = CString::new(format!("/proc/{pid}/fd/{number}")).ok()?;
    // SAFETY: a path ended by zero; the descriptor is fresh and ours alone.
    unsafe {
        let fd = libc::open(path.as_ptr(), flags | libc::O_CLOEXEC);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
    }
}

/// Begins to note blocks in this process, where the variable [`ENV`] asks for it and its
/// program is one of those that are meant.
///
/// To be called once, before the program starts.
pub fn begin() {
    // SAFETY: the name is ended by zero; the value lives until the variable is changed.
    let value = unsafe {
        let value = libc::getenv(ENV.as_ptr());
        if value.is_null() {
            return;
        }
        CStr::from_ptr(value)
    };
    let Ok(program) = ProgramId::of(Path::new("/proc/self/exe")) else {
        return;
    };
    let Some(files) = value.to_str().ok().and_then(|it| Files::find(it, program)) else {
        return;
    };
    let Some(header) = header(files.notes.as_fd()) else {
        return;
    };
    if is_traced() {
        let traced = Obstacle::Traced as u32;
        header.obstacle.store(traced, Ordering::Relaxed);
        return;
    }
    // A signal that is blocked, by who started this, would end the process.
    // SAFETY: all-zero is valid for a set of signals, which the calls write to and read.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGILL);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
    let (fixed, notes) = (files.fixed.as_fd(), files.notes.as_fd());
    let text = files.texts.filter(|(all, own)| is_copied(header, all, own));
    match text {
        Some((_, text)) => trap::arm_text(fixed, notes, text.as_fd()),
        None => trap::arm_files(fixed, notes),
    };
}

/// No process has begun to copy the code.
const NOT_COPIED: u32 = 0;
/// One has.
const COPYING: u32 = 1;
/// It is done.
const COPIED: u32 = 2;

/// Copies the code from `all` to `own`, where no other process of the test has; whether it is
/// there.
fn is_copied(header: &Header, all: &File, own: &File) -> bool {
    let state = &header.copied;
    let (first, mine) = (Ordering::Acquire, Ordering::Acquire);
    if state
        .compare_exchange(NOT_COPIED, COPYING, first, mine)
        .is_ok()
    {
        let copied = copy(all, own).is_ok();
        if copied {
            state.store(COPIED, Ordering::Release);
        }
        return copied;
    }
    let step = Duration::from_millis(1);
    let mut waited = Duration::ZERO;
    // A process that is killed leaves it undone.
    while state.load(Ordering::Acquire) != COPIED {
        if waited >= COPY_TAKES {
            return false;
        }
        thread::sleep(step);
        waited += step;
    }
    true
}

fn copy(all: &File, own: &File) -> io::Result<()> {
    let mut left = usize::try_from(all.metadata()?.len()).map_err(io::Error::other)?;
    while left > 0 {
        // SAFETY: the call takes integers; the offset of `all` moves.
        let sent =
            unsafe { libc::sendfile(own.as_raw_fd(), all.as_raw_fd(), std::ptr::null_mut(), left) };
        match usize::try_from(sent) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(sent) => left = left.saturating_sub(sent),
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
    Ok(())
}

/// The start of notes, for as long as the process lives.
fn header(fd: BorrowedFd<'_>) -> Option<&'static Header> {
    // SAFETY: a fresh mapping that is never unmapped; the file was made longer than this.
    unsafe {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let (len, none) = (size_of::<Header>(), std::ptr::null_mut());
        let start = libc::mmap(none, len, rights, libc::MAP_SHARED, fd.as_raw_fd(), 0);
        (start != libc::MAP_FAILED).then(|| &*start.cast::<Header>())
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

    const BLOCKS: [(u32, u8); 3] = [(0x5010, 0x55), (0x5020, 0x90), (0x6000, 0x90)];

    fn own() -> ProgramId {
        ProgramId::of(&std::env::current_exe().unwrap()).unwrap()
    }

    fn code() -> Code {
        let mut file = vec![0x90; 0x3000];
        file[0x1010] = 0x55;
        Code::of_segment(&file, 0x1010, 0x5010, 0x1ff0).unwrap()
    }

    #[test]
    fn processes_find_their_files_and_share_a_copy_of_the_code() {
        let program = Program::new(own(), &BLOCKS, Some(code())).unwrap();
        let notes = Notes::new(&program).unwrap();
        assert_eq!(notes.read().unwrap(), Noted::default());
        let value = value([(&program, &notes)]);
        let mut other = own();
        other.changed += 1;
        assert!(Files::find(&value, other).is_none());
        for text in ["", "1", "1:", "x:y=z"] {
            assert!(Files::find(text, own()).is_none());
        }
        for _ in 0..2 {
            let files = Files::find(&value, own()).unwrap();
            let (all, text) = files.texts.unwrap();
            assert!(is_copied(header(files.notes.as_fd()).unwrap(), &all, &text));
            let mut bytes = vec![0; 0x2001];
            assert_eq!(text.read_at(&mut bytes, 0).unwrap(), 0x2000);
            assert_eq!(bytes[..0x2000], with_traps(code(), &BLOCKS).unwrap());
        }
    }

    #[test]
    fn one_that_was_killed_while_it_copied_keeps_no_other_waiting_for_long() {
        let program = Program::new(own(), &BLOCKS, Some(code())).unwrap();
        let notes = Notes::new(&program).unwrap();
        let header = header(notes.notes.as_fd()).unwrap();
        header.copied.store(COPYING, Ordering::Relaxed);
        let (all, text) = (program.text.as_ref().unwrap(), notes.text.as_ref().unwrap());
        assert!(!is_copied(header, all, text));
    }

    #[test]
    fn notes_are_read_as_they_were_made() {
        let program = Program::new(own(), &BLOCKS, None).unwrap();
        let notes = Notes::new(&program).unwrap();
        let value = value([(&program, &notes)]);
        let files = Files::find(&value, own()).unwrap();
        assert!(files.texts.is_none());
        let view = View::attach_files(files.fixed.as_fd(), files.notes.as_fd()).unwrap();
        assert_eq!(view.addresses(), BLOCKS.map(|(address, _)| address));
        assert_eq!(view.bytes(), BLOCKS.map(|(_, byte)| byte));
        view.count_armed();
        view.note(2);
        view.note(0);
        view.note(2);
        view.hinder(Obstacle::Handler);
        let noted = notes.read().unwrap();
        let numbers: Vec<u32> = noted.reached.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 2]);
        assert!(noted.reached[1].1 <= noted.reached[0].1);
        assert_eq!(noted.processes, 1);
        assert_eq!(noted.obstacle, Some(Obstacle::Handler));
        assert!(View::attach_files(files.notes.as_fd(), files.notes.as_fd()).is_none());
        let mut follower = notes.follow().unwrap();
        assert_eq!(follower.take(), [2, 0]);
        view.note(1);
        assert_eq!(follower.take(), [1]);
        assert!(follower.take().is_empty());
        assert_eq!(follower.obstacle(), Some(Obstacle::Handler));
    }

    #[test]
    fn a_process_that_inherits_the_files_finds_them() {
        let program = Program::new(own(), &BLOCKS, None).unwrap();
        let notes = Notes::new(&program).unwrap();
        let value = inherited_value(&program, &notes);
        assert!(value.starts_with("self:"), "{value}");
        assert!(Files::find(&value, own()).is_some());
        let numbers: Vec<String> = descriptors(&program, &notes)
            .iter()
            .map(|fd| fd.as_raw_fd().to_string())
            .collect();
        assert!(value.ends_with(&format!("={}", numbers.join(","))));
    }
}
