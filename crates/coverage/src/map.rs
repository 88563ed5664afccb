//! The blocks of a program and which were reached, in memory that the controller shares with
//! the processes of the program.
#![allow(unsafe_code)] // Memory shared between processes; each block says why it is sound.

use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::clock;

/// The first word of a map.
const MAGIC: u32 = 0x626c_6b32;

/// The most modules of a map.
pub(crate) const MAX_MODULES: usize = 16;

/// The most bytes of the name of a module, with the zero at its end.
const MAX_NAME: usize = 56;

/// What stands in the list of reached blocks where nothing was noted yet: a process may be
/// killed between taking a place and using it.
const NONE: u32 = u32::MAX;

/// Where a part for notes begins is a multiple of this, in bytes.
const ALIGNED: usize = 64;

/// A program or a library of it, with its blocks.
#[derive(Debug, Clone, Copy)]
pub struct Module<'a> {
    /// The file name of a library, without its folder; empty for the program itself.
    pub name: &'a CStr,
    /// Address of each block, as in the file, and the byte that stands there: sorted, each
    /// address once.
    pub blocks: &'a [(u32, u8)],
}

/// Why blocks of a program are not noted, or not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Obstacle {
    /// The program handles SIGILL itself.
    Handler = 1,
    /// The system does not let the process change its code.
    Protected = 2,
    /// The code in memory is not that of the file that was read.
    OtherCode = 3,
    /// The processor, or the system, is none that this works on.
    Unsupported = 4,
    /// A debugger, or a program like one, is attached and would see the signals.
    Traced = 5,
}

impl Obstacle {
    fn from_number(number: u32) -> Option<Self> {
        [
            Self::Handler,
            Self::Protected,
            Self::OtherCode,
            Self::Unsupported,
            Self::Traced,
        ]
        .into_iter()
        .find(|&known| known as u32 == number)
    }

    /// What it is, in words that finish 'blocks of PROGRAM are not noted: ...'.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Handler => "it handles SIGILL itself",
            Self::Protected => "the system does not let it change its code",
            Self::OtherCode => "its code in memory is not that of its file",
            Self::Unsupported => "this needs Linux on x86-64",
            Self::Traced => "it runs under a debugger or valgrind",
        }
    }
}

/// The start of the part that never changes: which blocks there are.
#[repr(C)]
pub(crate) struct Header {
    magic: u32,
    /// How many blocks there are, of all modules together.
    blocks: u32,
    modules: u32,
    module: [Record; MAX_MODULES],
}

/// The start of the part for notes.
#[repr(C)]
pub(crate) struct Notes {
    /// How many blocks were reached: the length of the list.
    pub(crate) reached: AtomicU32,
    /// Why blocks are not noted, an [`Obstacle`] or 0.
    pub(crate) obstacle: AtomicU32,
    /// How many processes have begun to note blocks, forks not counted.
    pub(crate) armed: AtomicU32,
    /// When the first of them did, as [`Notes::now`] has it; 0 where none has.
    pub(crate) first: AtomicU32,
    /// How far a copy of the program's code is that processes share: see `record`.
    pub(crate) copied: AtomicU32,
    /// What times are counted from, in milliseconds of the monotonic clock. It is set before
    /// any process notes blocks.
    pub(crate) since_ms: u64,
}

impl Notes {
    /// The time since the start, in milliseconds and one more: never 0.
    fn now(&self) -> u32 {
        let passed = clock::now_ms().saturating_sub(self.since_ms);
        u32::try_from(passed.saturating_add(1)).unwrap_or(u32::MAX)
    }
}

/// A module as it is stored.
#[repr(C)]
#[derive(Clone, Copy)]
struct Record {
    name: [u8; MAX_NAME],
    /// The number of its first block.
    first: u32,
    count: u32,
}

/// Where the parts of a map are, in bytes: what never changes from its own start, the notes
/// from theirs.
pub(crate) struct Layout {
    addresses: usize,
    bytes: usize,
    /// The end of what never changes, aligned: in one file the notes follow.
    pub(crate) fixed_end: usize,
    list: usize,
    times: usize,
    pub(crate) notes_end: usize,
}

impl Layout {
    /// `None` where that many blocks have no room in the address space.
    pub(crate) fn of(blocks: usize) -> Option<Self> {
        let addresses = size_of::<Header>();
        let words = blocks.checked_mul(size_of::<u32>())?;
        let bytes = addresses.checked_add(words)?;
        let fixed_end = bytes
            .checked_add(blocks)?
            .checked_next_multiple_of(ALIGNED)?;
        let list = size_of::<Notes>();
        let times = list.checked_add(words)?;
        let notes_end = times.checked_add(words)?;
        // Both in one file.
        fixed_end.checked_add(notes_end)?;
        Some(Self {
            addresses,
            bytes,
            fixed_end,
            list,
            times,
            notes_end,
        })
    }
}

/// A map as it is mapped into this process.
#[derive(Clone, Copy)]
pub(crate) struct View {
    /// What never changes.
    fixed: NonNull<u8>,
    notes: NonNull<u8>,
    blocks: usize,
}

impl View {
    /// Maps the map that `fd` is of; `None` where it is none.
    pub(crate) fn attach(fd: BorrowedFd<'_>) -> Option<Self> {
        let (fixed, len) = map(fd, Rights::Write)?;
        let (blocks, layout) = blocks_of(fixed, len)?;
        let whole = layout.fixed_end + layout.notes_end <= len;
        // SAFETY: within the mapping.
        whole.then(|| unsafe { Self::of(fixed, fixed.add(layout.fixed_end), blocks) })
    }

    /// Maps a map in two files; `None` where they are none, or do not belong together.
    pub(crate) fn attach_files(fixed: BorrowedFd<'_>, notes: BorrowedFd<'_>) -> Option<Self> {
        let (fixed, len) = map(fixed, Rights::Read)?;
        let (blocks, _) = blocks_of(fixed, len)?;
        let notes = map_notes(notes, blocks)?;
        // SAFETY: both were mapped just now and are as long as the layout says.
        Some(unsafe { Self::of(fixed, notes, blocks) })
    }

    /// A view of notes alone, of a map with this many blocks.
    pub(crate) fn attach_notes(notes: BorrowedFd<'_>, blocks: usize) -> Option<(Self, usize)> {
        let notes = map_notes(notes, blocks)?;
        let len = Layout::of(blocks)?.notes_end;
        let nothing = NonNull::from(&EMPTY).cast();
        // SAFETY: the notes were mapped just now; of the fixed part there is a header.
        Some((unsafe { Self::of(nothing, notes, blocks) }, len))
    }

    /// # Safety
    ///
    /// `fixed` is a header, with the parts behind it that are asked for, and `notes` as long
    /// as the layout of so many blocks says; both live for as long as the view is used.
    unsafe fn of(fixed: NonNull<u8>, notes: NonNull<u8>, blocks: usize) -> Self {
        Self {
            fixed,
            notes,
            blocks,
        }
    }

    /// Where the notes are mapped.
    pub(crate) fn notes_start(&self) -> NonNull<u8> {
        self.notes
    }

    fn header(&self) -> &Header {
        // SAFETY: a mapping with a header at its start that is never unmapped while a view is
        // in use, and does not change.
        unsafe { self.fixed.cast::<Header>().as_ref() }
    }

    pub(crate) fn notes(&self) -> &Notes {
        // SAFETY: as above; what changes in it is atomic.
        unsafe { self.notes.cast::<Notes>().as_ref() }
    }

    fn part<T>(&self, start: NonNull<u8>, place: impl Fn(&Layout) -> usize) -> &[T] {
        let Some(layout) = Layout::of(self.blocks) else {
            return &[];
        };
        // SAFETY: the mapping is as long as the layout says, each part is aligned to its type
        // (words follow a header of whole words), and what changes in it is atomic.
        unsafe {
            let start = start.add(place(&layout)).cast::<T>();
            slice::from_raw_parts(start.as_ptr(), self.blocks)
        }
    }

    /// Addresses of all blocks, as in the files.
    pub(crate) fn addresses(&self) -> &[u32] {
        self.part(self.fixed, |layout| layout.addresses)
    }

    /// The byte at each address.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.part(self.fixed, |layout| layout.bytes)
    }

    /// Which blocks were reached, in the order in which they were.
    fn list(&self) -> &[AtomicU32] {
        self.part(self.notes, |layout| layout.list)
    }

    /// When each block was reached, as [`Notes::now`] has it; 0 where it was not.
    pub(crate) fn times(&self) -> &[AtomicU32] {
        self.part(self.notes, |layout| layout.times)
    }

    /// How many modules there are.
    pub(crate) fn modules(&self) -> usize {
        self.header().modules as usize
    }

    /// The name of a module and the numbers of its blocks.
    pub(crate) fn module(&self, number: usize) -> Option<(&CStr, std::ops::Range<usize>)> {
        let record = self.header().module.get(..self.modules())?.get(number)?;
        let name = CStr::from_bytes_until_nul(&record.name).ok()?;
        let first = record.first as usize;
        let end = first.checked_add(record.count as usize)?;
        (end <= self.blocks).then_some((name, first..end))
    }

    /// Notes that a block was reached. May be called in a signal handler.
    pub(crate) fn note(&self, block: usize) {
        let Some(time) = self.times().get(block) else {
            return;
        };
        let (none, now) = (0, self.notes().now());
        let new = time.compare_exchange(none, now, Ordering::Relaxed, Ordering::Relaxed);
        if new.is_ok() {
            let place = self.notes().reached.fetch_add(1, Ordering::Relaxed) as usize;
            if let (Some(place), Ok(block)) = (self.list().get(place), u32::try_from(block)) {
                place.store(block, Ordering::Release);
            }
        }
    }

    /// Whether a block was reached.
    pub(crate) fn is_reached(&self, block: usize) -> bool {
        let time = self.times().get(block);
        time.is_some_and(|time| time.load(Ordering::Relaxed) != 0)
    }

    /// How many blocks were reached.
    pub(crate) fn reached(&self) -> usize {
        (self.notes().reached.load(Ordering::Acquire) as usize).min(self.blocks)
    }

    /// The block at a place of the list.
    pub(crate) fn at(&self, place: usize) -> Option<usize> {
        let block = self.list().get(place)?.load(Ordering::Acquire) as usize;
        (block < self.blocks).then_some(block)
    }

    /// Why blocks are not noted, or not any more; `None` where they are.
    pub(crate) fn obstacle(&self) -> Option<Obstacle> {
        Obstacle::from_number(self.notes().obstacle.load(Ordering::Relaxed))
    }

    pub(crate) fn hinder(&self, obstacle: Obstacle) {
        let place = &self.notes().obstacle;
        place.store(obstacle as u32, Ordering::Relaxed);
    }

    pub(crate) fn count_armed(&self) {
        let notes = self.notes();
        notes.armed.fetch_add(1, Ordering::Relaxed);
        let (none, now) = (0, notes.now());
        // Where another process was first, its time stays.
        let _ = (notes.first).compare_exchange(none, now, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// A header of no blocks.
static EMPTY: Header = Header {
    magic: MAGIC,
    blocks: 0,
    modules: 0,
    module: [Record {
        name: [0; MAX_NAME],
        first: 0,
        count: 0,
    }; MAX_MODULES],
};

/// What is done with a mapping.
#[derive(Clone, Copy)]
enum Rights {
    Read,
    Write,
}

/// Maps all of a file that is shared with other processes, where that has room for a header.
fn map(fd: BorrowedFd<'_>, rights: Rights) -> Option<(NonNull<u8>, usize)> {
    // SAFETY: an all-zero structure is valid, and the call writes to it.
    let len = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        (libc::fstat(fd.as_raw_fd(), &raw mut stat) == 0).then_some(stat.st_size)?
    };
    let len = usize::try_from(len).ok()?;
    let enough = len >= size_of::<Header>().min(size_of::<Notes>());
    let start = map_len(fd.as_raw_fd(), len, rights)
        .ok()
        .filter(|_| enough)?;
    Some((start, len))
}

fn map_len(fd: c_int, len: usize, rights: Rights) -> io::Result<NonNull<u8>> {
    let rights = match rights {
        Rights::Read => libc::PROT_READ,
        Rights::Write => libc::PROT_READ | libc::PROT_WRITE,
    };
    // SAFETY: a fresh mapping.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, rights, libc::MAP_SHARED, fd, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// How many blocks the map at `fixed`, of `len` bytes, has, and its layout; `None` where it is
/// no map.
fn blocks_of(fixed: NonNull<u8>, len: usize) -> Option<(usize, Layout)> {
    if len < size_of::<Header>() {
        return None;
    }
    // SAFETY: the mapping is at least as long as a header, aligned to a page, and any bytes
    // are a valid one.
    let header = unsafe { fixed.cast::<Header>().as_ref() };
    let blocks = header.blocks as usize;
    let layout = Layout::of(blocks).filter(|layout| layout.fixed_end <= len)?;
    let known = header.modules as usize <= MAX_MODULES;
    (header.magic == MAGIC && known).then_some((blocks, layout))
}

/// Maps notes of this many blocks.
fn map_notes(fd: BorrowedFd<'_>, blocks: usize) -> Option<NonNull<u8>> {
    let (notes, len) = map(fd, Rights::Write)?;
    let wanted = Layout::of(blocks)?.notes_end;
    (len >= wanted).then_some(notes)
}

/// The part of a map that never changes, as bytes.
///
/// # Errors
///
/// There are too many modules or blocks, or a name is too long.
pub(crate) fn fixed_part(modules: &[Module<'_>]) -> io::Result<(Vec<u8>, usize)> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let blocks: usize = modules.iter().map(|module| module.blocks.len()).sum();
    let layout = Layout::of(blocks).filter(|_| blocks < NONE as usize);
    let layout = layout.ok_or_else(|| invalid("too many blocks"))?;
    if modules.len() > MAX_MODULES {
        return Err(invalid("too many libraries to note blocks of"));
    }
    let number = |count: usize| u32::try_from(count).map_err(io::Error::other);
    let mut fixed = Vec::with_capacity(layout.fixed_end);
    for word in [MAGIC, number(blocks)?, number(modules.len())?] {
        fixed.extend(word.to_ne_bytes());
    }
    let mut first = 0;
    for module in modules {
        let name = module.name.to_bytes_with_nul();
        let mut place = [0; MAX_NAME];
        (place.get_mut(..name.len()))
            .ok_or_else(|| invalid("the name of a library is too long"))?
            .copy_from_slice(name);
        let count = number(module.blocks.len())?;
        fixed.extend(place);
        fixed.extend([first, count].into_iter().flat_map(u32::to_ne_bytes));
        first += count;
    }
    fixed.resize(layout.addresses, 0);
    let all = || modules.iter().flat_map(|module| module.blocks);
    fixed.extend(all().flat_map(|(address, _)| address.to_ne_bytes()));
    fixed.extend(all().map(|(_, byte)| byte));
    fixed.resize(layout.fixed_end, 0);
    Ok((fixed, blocks))
}

/// The controller's side: which blocks of a program there are, and which were reached.
pub struct Map {
    view: View,
    fd: OwnedFd,
    len: usize,
    /// How many of the list were taken.
    taken: usize,
}

// SAFETY: what other processes and threads change in the memory is atomic.
unsafe impl Send for Map {}

impl Map {
    /// A map of the blocks of a program and of libraries of it; blocks are numbered through,
    /// in the order of the modules.
    ///
    /// # Errors
    ///
    /// There are too many modules, a name is too long, or no memory can be had.
    pub fn new(modules: &[Module<'_>]) -> io::Result<Self> {
        let (fixed, blocks) = fixed_part(modules)?;
        let layout = Layout::of(blocks).ok_or(io::ErrorKind::InvalidInput)?;
        let end = fixed.len() + layout.notes_end;
        // SAFETY: a name ended by zero; the descriptor is fresh and ours alone.
        let fd = unsafe {
            let fd = libc::memfd_create(c"coverage".as_ptr(), libc::MFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let len = libc::off_t::try_from(end).map_err(io::Error::other)?;
        // SAFETY: the call takes integers.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), len) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let start = map_len(fd.as_raw_fd(), end, Rights::Write)?;
        // SAFETY: the mapping is fresh, ours alone so far, and long enough for both parts,
        // which begin where their types are aligned.
        let view = unsafe {
            ptr::copy_nonoverlapping(fixed.as_ptr(), start.as_ptr(), fixed.len());
            let notes = start.add(fixed.len());
            let list = notes.add(layout.list);
            ptr::write_bytes(list.as_ptr(), 0xff, blocks * size_of::<u32>());
            View::of(start, notes, blocks)
        };
        Ok(Self {
            view,
            fd,
            len: end,
            taken: 0,
        })
    }

    /// The memory, as a program gets it.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The numbers of the blocks that were reached since the last call, in the order in which
    /// they were.
    pub fn take_reached(&mut self) -> Vec<u32> {
        let reached = self.view.reached();
        let new = self.taken..reached;
        self.taken = reached;
        let list = new.filter_map(|place| self.view.at(place));
        list.filter_map(|block| u32::try_from(block).ok()).collect()
    }

    /// Whether any process notes blocks, or has.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.view.notes().armed.load(Ordering::Relaxed) > 0
    }

    /// Why blocks are not noted, or not any more; `None` where they are.
    #[must_use]
    pub fn obstacle(&self) -> Option<Obstacle> {
        self.view.obstacle()
    }

    /// Forgets what was reached: what is reached from now on in processes that put their traps
    /// back ([`crate::trap::arm_again`]) is noted anew. No process of the program may run.
    pub fn reset(&mut self) {
        let view = &self.view;
        let places = view.list().iter();
        places.for_each(|place| place.store(NONE, Ordering::Relaxed));
        let times = view.times().iter();
        times.for_each(|time| time.store(0, Ordering::Relaxed));
        view.notes().reached.store(0, Ordering::Release);
        self.taken = 0;
    }

    /// Takes blocks as reached, besides those that were. No process of the program may run.
    pub fn mark_reached(&mut self, blocks: impl IntoIterator<Item = u32>) {
        for block in blocks {
            self.view.note(block as usize);
        }
        self.taken = self.view.reached();
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made, of this length; no reference to it is left.
        unsafe { libc::munmap(self.view.fixed.as_ptr().cast::<c_void>(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Map {
        let program = [(0x1000, 0x55), (0x1010, 0x48), (0x1020, 0xc3)];
        let library = [(0x800, 0xf3)];
        let modules = [(c"", &program[..]), (c"libx.so", &library[..])];
        Map::new(&modules.map(|(name, blocks)| Module { name, blocks })).unwrap()
    }

    #[test]
    fn the_other_side_reads_what_was_written() {
        let map = two();
        let view = View::attach(map.fd()).unwrap();
        assert_eq!(view.addresses(), [0x1000, 0x1010, 0x1020, 0x800]);
        assert_eq!(view.bytes(), [0x55, 0x48, 0xc3, 0xf3]);
        assert_eq!(view.modules(), 2);
        assert_eq!(view.module(0), Some((c"", 0..3)));
        assert_eq!(view.module(1), Some((c"libx.so", 3..4)));
        assert_eq!(view.module(MAX_MODULES), None);
    }

    #[test]
    fn each_block_is_taken_once_in_order() {
        let mut map = two();
        let view = View::attach(map.fd()).unwrap();
        assert_eq!(map.take_reached(), []);
        for block in [2, 0, 2, 9] {
            view.note(block);
        }
        assert!(view.is_reached(2) && !view.is_reached(1) && !view.is_reached(9));
        assert_eq!(map.take_reached(), [2, 0]);
        view.note(3);
        assert_eq!(map.take_reached(), [3]);

        map.reset();
        assert!(!view.is_reached(2));
        view.note(2);
        assert_eq!(map.take_reached(), [2]);
        map.mark_reached([1, 2]);
        assert_eq!(map.take_reached(), []);
        assert!(view.is_reached(1));
    }

    #[test]
    fn a_place_that_was_taken_and_not_used_is_passed_over() {
        let mut map = two();
        let view = View::attach(map.fd()).unwrap();
        view.notes().reached.fetch_add(1, Ordering::Relaxed);
        view.note(1);
        assert_eq!(map.take_reached(), [1]);
        view.notes().reached.fetch_add(100, Ordering::Relaxed);
        assert_eq!(map.take_reached(), []);
    }

    #[test]
    fn what_is_no_map_is_refused() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(View::attach(file.as_fd()).is_none());
        let map = two();
        // SAFETY: the call takes integers; nothing refers to the map's memory any more.
        unsafe {
            let len = libc::off_t::try_from(size_of::<Header>() + 3).unwrap();
            assert_eq!(libc::ftruncate(map.fd().as_raw_fd(), len), 0);
        }
        assert!(View::attach(map.fd()).is_none());
        let long = c"a name of a library that is longer than the place that there is for it.so";
        let module = Module {
            name: long,
            blocks: &[],
        };
        assert!(Map::new(&[module]).is_err());
        assert_eq!(map.obstacle(), None);
        assert!(!map.is_armed());
    }
}
