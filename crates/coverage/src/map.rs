//! The blocks of a program and which were reached, in memory that the controller shares with
//! the processes of the program.
#![allow(unsafe_code)] // Memory shared between processes; each block says why it is sound.

use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// The first word of a map.
const MAGIC: u32 = 0x626c_6b31;

/// The most modules of a map.
pub(crate) const MAX_MODULES: usize = 16;

/// The most bytes of the name of a module, with the zero at its end.
const MAX_NAME: usize = 56;

/// What stands in the list of reached blocks where nothing was noted yet: a process may be
/// killed between taking a place and using it.
const NONE: u32 = u32::MAX;

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
}

impl Obstacle {
    fn from_number(number: u32) -> Option<Self> {
        [
            Self::Handler,
            Self::Protected,
            Self::OtherCode,
            Self::Unsupported,
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
        }
    }
}

/// The fixed part at the start.
#[repr(C)]
struct Header {
    magic: u32,
    /// How many blocks there are, of all modules together.
    blocks: u32,
    modules: u32,
    /// How many were reached: the length of the list.
    reached: AtomicU32,
    /// Why blocks are not noted, an [`Obstacle`] or 0.
    obstacle: AtomicU32,
    /// How many processes have begun to note blocks, forks not counted.
    armed: AtomicU32,
    module: [Record; MAX_MODULES],
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

/// Where the parts of a map are, in bytes from its start.
struct Layout {
    addresses: usize,
    list: usize,
    bytes: usize,
    states: usize,
    end: usize,
}

impl Layout {
    /// `None` where that many blocks have no room in the address space.
    fn of(blocks: usize) -> Option<Self> {
        let addresses = size_of::<Header>();
        let words = blocks.checked_mul(size_of::<u32>())?;
        let list = addresses.checked_add(words)?;
        let bytes = list.checked_add(words)?;
        let states = bytes.checked_add(blocks)?;
        let end = states.checked_add(blocks)?;
        Some(Self {
            addresses,
            list,
            bytes,
            states,
            end,
        })
    }
}

/// A map as it is mapped into this process.
#[derive(Clone, Copy)]
pub(crate) struct View {
    start: NonNull<u8>,
    blocks: usize,
}

impl View {
    /// Maps the map that `fd` is of; `None` where it is none.
    pub(crate) fn attach(fd: BorrowedFd<'_>) -> Option<Self> {
        // SAFETY: an all-zero structure is valid, and the call writes to it.
        let len = unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            (libc::fstat(fd.as_raw_fd(), &raw mut stat) == 0).then_some(stat.st_size)?
        };
        let len = usize::try_from(len).ok()?;
        if len < size_of::<Header>() {
            return None;
        }
        let start = map(fd.as_raw_fd(), len).ok()?;
        // SAFETY: the mapping is at least as long as a header, aligned to a page, and any bytes
        // are a valid one.
        let header = unsafe { start.cast::<Header>().as_ref() };
        let blocks = header.blocks as usize;
        let whole = Layout::of(blocks).is_some_and(|layout| layout.end <= len);
        let known = header.modules as usize <= MAX_MODULES;
        (header.magic == MAGIC && whole && known).then_some(Self { start, blocks })
    }

    fn header(&self) -> &Header {
        // SAFETY: `start` is a mapping with a header at its start that is never unmapped while
        // a view is in use; what changes in it is atomic.
        unsafe { self.start.cast::<Header>().as_ref() }
    }

    fn part<T>(&self, place: impl Fn(&Layout) -> usize) -> &[T] {
        let Some(layout) = Layout::of(self.blocks) else {
            return &[];
        };
        // SAFETY: the mapping is as long as the layout says, each part is aligned to its type
        // (words follow a header of whole words), and what changes in it is atomic.
        unsafe {
            let start = self.start.add(place(&layout)).cast::<T>();
            slice::from_raw_parts(start.as_ptr(), self.blocks)
        }
    }

    /// Addresses of all blocks, as in the files.
    pub(crate) fn addresses(&self) -> &[u32] {
        self.part(|layout| layout.addresses)
    }

    /// The byte at each address.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.part(|layout| layout.bytes)
    }

    /// Which blocks were reached, in the order in which they were.
    fn list(&self) -> &[AtomicU32] {
        self.part(|layout| layout.list)
    }

    /// Whether each block was reached.
    fn states(&self) -> &[AtomicU8] {
        self.part(|layout| layout.states)
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
        let Some(state) = self.states().get(block) else {
            return;
        };
        if state.swap(1, Ordering::Relaxed) == 0 {
            let place = self.header().reached.fetch_add(1, Ordering::Relaxed) as usize;
            if let (Some(place), Ok(block)) = (self.list().get(place), u32::try_from(block)) {
                place.store(block, Ordering::Release);
            }
        }
    }

    /// Whether a block was reached.
    pub(crate) fn is_reached(&self, block: usize) -> bool {
        let state = self.states().get(block);
        state.is_some_and(|state| state.load(Ordering::Relaxed) != 0)
    }

    /// How many blocks were reached.
    pub(crate) fn reached(&self) -> usize {
        (self.header().reached.load(Ordering::Acquire) as usize).min(self.blocks)
    }

    /// The block at a place of the list.
    pub(crate) fn at(&self, place: usize) -> Option<usize> {
        let block = self.list().get(place)?.load(Ordering::Acquire) as usize;
        (block < self.blocks).then_some(block)
    }

    pub(crate) fn hinder(&self, obstacle: Obstacle) {
        let place = &self.header().obstacle;
        place.store(obstacle as u32, Ordering::Relaxed);
    }

    pub(crate) fn count_armed(&self) {
        self.header().armed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Maps a file that is shared with other processes.
fn map(fd: c_int, len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a fresh mapping.
    let start = unsafe {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(ptr::null_mut(), len, rights, libc::MAP_SHARED, fd, 0)
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
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
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let blocks: usize = modules.iter().map(|module| module.blocks.len()).sum();
        let layout = Layout::of(blocks).filter(|_| blocks < NONE as usize);
        let layout = layout.ok_or_else(|| invalid("too many blocks"))?;
        if modules.len() > MAX_MODULES {
            return Err(invalid("too many libraries to note blocks of"));
        }
        // SAFETY: a name ended by zero; the descriptor is fresh and ours alone.
        let fd = unsafe {
            let fd = libc::memfd_create(c"coverage".as_ptr(), libc::MFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let len = libc::off_t::try_from(layout.end).map_err(io::Error::other)?;
        // SAFETY: the call takes integers.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), len) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let start = map(fd.as_raw_fd(), layout.end)?;
        let mut header = Header {
            magic: MAGIC,
            blocks: u32::try_from(blocks).map_err(io::Error::other)?,
            modules: u32::try_from(modules.len()).map_err(io::Error::other)?,
            reached: AtomicU32::new(0),
            obstacle: AtomicU32::new(0),
            armed: AtomicU32::new(0),
            module: [Record {
                name: [0; MAX_NAME],
                first: 0,
                count: 0,
            }; MAX_MODULES],
        };
        let mut first = 0;
        for (record, module) in header.module.iter_mut().zip(modules) {
            let name = module.name.to_bytes_with_nul();
            let place = record.name.get_mut(..name.len());
            place
                .ok_or_else(|| invalid("the name of a library is too long"))?
                .copy_from_slice(name);
            record.first = first;
            record.count = u32::try_from(module.blocks.len()).map_err(io::Error::other)?;
            first += record.count;
        }
        let all = modules.iter().flat_map(|module| module.blocks);
        // SAFETY: the mapping is fresh, ours alone so far, and as long as the layout says.
        unsafe {
            start.cast::<Header>().write(header);
            let addresses = start.add(layout.addresses).cast::<u32>();
            let bytes = start.add(layout.bytes);
            for (number, (address, byte)) in all.enumerate() {
                addresses.add(number).write(*address);
                bytes.add(number).write(*byte);
            }
            ptr::write_bytes(
                start.add(layout.list).as_ptr(),
                0xff,
                blocks * size_of::<u32>(),
            );
        }
        Ok(Self {
            view: View { start, blocks },
            fd,
            len: layout.end,
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
        self.view.header().armed.load(Ordering::Relaxed) > 0
    }

    /// Why blocks are not noted, or not any more; `None` where they are.
    #[must_use]
    pub fn obstacle(&self) -> Option<Obstacle> {
        let number = self.view.header().obstacle.load(Ordering::Relaxed);
        Obstacle::from_number(number)
    }

    /// Forgets what was reached: what is reached from now on in processes that put their traps
    /// back ([`crate::trap::arm_again`]) is noted anew. No process of the program may run.
    pub fn reset(&mut self) {
        let view = &self.view;
        let places = view.list().iter();
        places.for_each(|place| place.store(NONE, Ordering::Relaxed));
        let states = view.states().iter();
        states.for_each(|state| state.store(0, Ordering::Relaxed));
        view.header().reached.store(0, Ordering::Release);
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
        unsafe { libc::munmap(self.view.start.as_ptr().cast::<c_void>(), self.len) };
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
        view.header().reached.fetch_add(1, Ordering::Relaxed);
        view.note(1);
        assert_eq!(map.take_reached(), [1]);
        view.header().reached.fetch_add(100, Ordering::Relaxed);
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
