//! The program's side: traps in its code, and the signal handler that notes and removes them.
//!
//! Nothing here allocates or takes a lock: it runs in forks of processes with threads and in a
//! signal handler.
#![allow(unsafe_code)] // Changes the code of the process it runs in; each block says why it is sound.

use std::ffi::{CStr, c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::slice;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use crate::map::{MAX_MODULES, Obstacle, View};

/// `push %es`, which is no instruction in 64-bit mode, whatever follows it.
pub(crate) const TRAP: u8 = 0x06;

/// The map, once this process or one that it was forked from has traps.
static VIEW: OnceLock<Shared> = OnceLock::new();

/// What is to be added to addresses of a file, by module; [`ABSENT`] for one that is not loaded.
static BASES: [AtomicUsize; MAX_MODULES] = [const { AtomicUsize::new(ABSENT) }; MAX_MODULES];

const ABSENT: usize = usize::MAX;

/// Whether this process has traps.
static ARMED: AtomicBool = AtomicBool::new(false);

/// How many of the reached blocks this process has removed the traps of.
static FORGOTTEN: AtomicUsize = AtomicUsize::new(0);

/// The code that this process shares with other servers, and behind it the place of the same
/// with all traps; a length of 0 where it has code of its own.
static SHARED: SharedPlace = SharedPlace {
    start: AtomicUsize::new(0),
    all: AtomicUsize::new(0),
    len: AtomicUsize::new(0),
};

struct SharedPlace {
    start: AtomicUsize,
    all: AtomicUsize,
    len: AtomicUsize,
}

/// Whether this process, and not a fork, has removed traps from pages of shared code, which are
/// its own since: [`CLEAN`], [`CHANGED`] or [`REMOVED`].
static PAGES: AtomicU8 = AtomicU8::new(CLEAN);

/// All pages are those that others have.
const CLEAN: u8 = 0;
/// Some are not.
const CHANGED: u8 = 1;
/// The same, and the controller has removed the traps for all when the next run begins.
const REMOVED: u8 = 2;

/// What SIGILL did before.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

struct Shared(View);

// SAFETY: what changes in the memory of a view is atomic.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// Sets a trap at each block of the map `fd` that was not reached, in this process; whether
/// there are any now. What keeps it from that is noted in the map.
///
/// To be called once, where no other thread runs.
pub fn arm(fd: BorrowedFd<'_>) -> bool {
    View::attach(fd).is_some_and(|view| arm_view(view, None))
}

/// The same, with the code that [`crate::SharedText`] is of in place of the program's own. Where
/// that cannot be, because the code is not the same or may not be mapped, the program keeps its
/// own.
pub fn arm_shared(fd: BorrowedFd<'_>, text: BorrowedFd<'_>) -> bool {
    View::attach(fd).is_some_and(|view| arm_view(view, Some(text)))
}

/// The same with a map in two files: the blocks, which are only read, and the notes.
pub(crate) fn arm_files(blocks: BorrowedFd<'_>, notes: BorrowedFd<'_>) -> bool {
    View::attach_files(blocks, notes).is_some_and(|view| arm_view(view, None))
}

/// The same with the code in a file, which has the traps and which other processes map too:
/// one that removes a trap removes it for all.
pub(crate) fn arm_text(
    blocks: BorrowedFd<'_>,
    notes: BorrowedFd<'_>,
    text: BorrowedFd<'_>,
) -> bool {
    let Some(base) = Text::of_program().and_then(|own| own.replace(text)) else {
        return arm_files(blocks, notes);
    };
    let Some(view) = View::attach_files(blocks, notes) else {
        return false;
    };
    let Shared(view) = VIEW.get_or_init(|| Shared(view));
    BASES[0].store(base, Ordering::Relaxed);
    view.count_armed();
    ARMED.store(true, Ordering::Relaxed);
    true
}

fn arm_view(view: View, text: Option<BorrowedFd<'_>>) -> bool {
    let Shared(view) = VIEW.get_or_init(|| Shared(view));
    match begin(view) {
        Ok(()) => {
            let is_program = view.module(0).is_some_and(|(name, _)| name.is_empty());
            if let Some((text, own)) = text.filter(|_| is_program).zip(Text::of_program()) {
                // Without it the program keeps its own.
                let _ = own.share(text);
            }
            view.count_armed();
            ARMED.store(true, Ordering::Relaxed);
            set_traps(view);
            true
        }
        Err(obstacle) => {
            view.hinder(obstacle);
            false
        }
    }
}

/// Finds the modules, makes their code writable, and handles SIGILL.
fn begin(view: &View) -> Result<(), Obstacle> {
    if cfg!(not(all(target_arch = "x86_64", target_os = "linux"))) {
        return Err(Obstacle::Unsupported);
    }
    let mut search = Search {
        view,
        obstacle: None,
    };
    // SAFETY: the callback has the signature that the call asks for, and gets a pointer to a
    // live structure.
    unsafe { libc::dl_iterate_phdr(Some(found), (&raw mut search).cast()) };
    if let Some(obstacle) = search.obstacle {
        return Err(obstacle);
    }
    handle_traps()
}

/// Handles SIGILL.
fn handle_traps() -> Result<(), Obstacle> {
    // SAFETY: all-zero is valid for a `sigaction`, which the calls read and write; the handler
    // has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut previous: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGILL, ptr::null(), &raw mut previous) != 0 {
            return Err(Obstacle::Handler);
        }
        let _ = PREVIOUS.set(previous);
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = trapped;
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // A handler of another signal may be code with traps, which end the process as long
        // as this one runs: it has to wait.
        libc::sigfillset(&raw mut action.sa_mask);
        if libc::sigaction(libc::SIGILL, &raw const action, ptr::null_mut()) != 0 {
            return Err(Obstacle::Handler);
        }
    }
    Ok(())
}

/// What the search for modules is for.
struct Search<'a> {
    view: &'a View,
    obstacle: Option<Obstacle>,
}

/// Looks at a program or library that is loaded: where it is one of the modules, its code
/// becomes writable.
extern "C" fn found(info: *mut libc::dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
    // SAFETY: `begin` passes a pointer to a live structure that nothing else refers to; the
    // loader passes a valid one, whose headers are an array of that length, and whose name is
    // a string ended by zero.
    let (search, info, name, headers) = unsafe {
        let search = &mut *search.cast::<Search<'_>>();
        let info = &*info;
        let name = match info.dlpi_name.is_null() {
            true => c"",
            false => CStr::from_ptr(info.dlpi_name),
        };
        let headers = match info.dlpi_phdr.is_null() {
            true => &[][..],
            false => slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)),
        };
        (search, info, name, headers)
    };
    let file = name.to_bytes().rsplit(|&byte| byte == b'/').next();
    let base = info.dlpi_addr as usize;
    for (number, place) in BASES.iter().enumerate() {
        let Some((module, blocks)) = search.view.module(number) else {
            continue;
        };
        if file != Some(module.to_bytes()) {
            continue;
        }
        let segments = Segments { base, headers };
        match segments.make_writable(search.view, blocks) {
            Ok(()) => place.store(base, Ordering::Relaxed),
            Err(obstacle) => search.obstacle = Some(obstacle),
        }
        break;
    }
    0
}

/// Where the code of the program is in this process.
struct Text {
    base: usize,
    /// Its first page.
    start: usize,
    /// How long it is, in whole pages.
    len: usize,
}

impl Text {
    /// That of the program itself; `None` where it has not exactly one segment of code.
    fn of_program() -> Option<Self> {
        extern "C" fn first(info: *mut libc::dl_phdr_info, _: usize, to: *mut c_void) -> c_int {
            // SAFETY: the loader passes a valid structure, whose headers are an array of that
            // length, and `of_program` a pointer to a live value that nothing else refers to.
            unsafe {
                let info = &*info;
                let headers = match info.dlpi_phdr.is_null() {
                    true => &[][..],
                    false => slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)),
                };
                let base = info.dlpi_addr as usize;
                let segments = Segments { base, headers };
                let mut code = segments.code();
                if let (Some((start, len)), None) = (code.next(), code.next()) {
                    let page = page_size();
                    let first = start & !(page - 1);
                    let end = (start + len).next_multiple_of(page);
                    *to.cast::<Option<Text>>() = Some(Text {
                        base,
                        start: first,
                        len: end - first,
                    });
                }
            }
            // The program is the first.
            1
        }
        let mut text: Option<Self> = None;
        // SAFETY: the callback has the signature that the call asks for, and gets a pointer to
        // a live value.
        unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut text).cast()) };
        text.filter(|_| cfg!(all(target_arch = "x86_64", target_os = "linux")))
    }

    /// Maps `file` in its place, where that is as long and SIGILL can be handled; gives what is
    /// to be added to addresses of the program's file.
    fn replace(&self, file: BorrowedFd<'_>) -> Option<usize> {
        if len_of(file)? != self.len {
            return None;
        }
        // A mapping that fails must not have removed what was there: a first one shows
        // whether this file can be executed from.
        let tried = self.map(file, ptr::null_mut(), libc::MAP_SHARED, 0)?;
        // SAFETY: the mapping of just now, which nothing refers to.
        unsafe { libc::munmap(tried, self.len) };
        handle_traps().ok()?;
        let place = self.start as *mut c_void;
        self.map(file, place, libc::MAP_SHARED | libc::MAP_FIXED, 0)?;
        Some(self.base)
    }

    /// Maps the first half of `file` in its place, privately, where that is the same but for
    /// traps, and the other half elsewhere.
    fn share(&self, file: BorrowedFd<'_>) -> Option<()> {
        if len_of(file)? != self.len.checked_mul(2)? {
            return None;
        }
        let private = libc::MAP_PRIVATE;
        let second = libc::off_t::try_from(self.len).ok()?;
        let all = self.map(file, ptr::null_mut(), private, second)?;
        // SAFETY: both are mapped, this long and can be read; nothing writes to them here.
        let (own, other) = unsafe {
            let own = slice::from_raw_parts(self.start as *const u8, self.len);
            (own, slice::from_raw_parts(all as *const u8, self.len))
        };
        // The loader may have written to the code.
        let mut pairs = own.iter().zip(other);
        let is_same = pairs.all(|(own, other)| own == other || *other == TRAP);
        let place = self.start as *mut c_void;
        if !is_same
            || self
                .map(file, place, private | libc::MAP_FIXED, 0)
                .is_none()
        {
            // SAFETY: the mapping of just now, which nothing refers to any more.
            unsafe { libc::munmap(all, self.len) };
            return None;
        }
        SHARED.start.store(self.start, Ordering::Relaxed);
        SHARED.all.store(all as usize, Ordering::Relaxed);
        SHARED.len.store(self.len, Ordering::Relaxed);
        Some(())
    }

    /// Maps as much of `file` as the code is long, from `offset` on.
    fn map(
        &self,
        file: BorrowedFd<'_>,
        at: *mut c_void,
        flags: c_int,
        offset: libc::off_t,
    ) -> Option<*mut c_void> {
        let rights = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        // SAFETY: a fresh mapping, or one in the place of the program's code, which is the
        // same but for traps that are handled.
        let found = unsafe { libc::mmap(at, self.len, rights, flags, file.as_raw_fd(), offset) };
        (found != libc::MAP_FAILED).then_some(found)
    }
}

/// The length of a file, in bytes.
fn len_of(file: BorrowedFd<'_>) -> Option<usize> {
    // SAFETY: an all-zero structure is valid, and the call writes to it.
    let len = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        (libc::fstat(file.as_raw_fd(), &raw mut stat) == 0).then_some(stat.st_size)?
    };
    usize::try_from(len).ok()
}

/// The size of a page, in bytes.
fn page_size() -> usize {
    // SAFETY: the call takes integers.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// The segments of a loaded file.
struct Segments<'a> {
    base: usize,
    headers: &'a [libc::Elf64_Phdr],
}

impl Segments<'_> {
    /// Start and length of each part that is code.
    fn code(&self) -> impl Iterator<Item = (usize, usize)> {
        let code = |header: &&libc::Elf64_Phdr| {
            header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0
        };
        let place = |header: &libc::Elf64_Phdr| {
            let start = self.base.wrapping_add(header.p_vaddr as usize);
            (start, header.p_memsz as usize)
        };
        self.headers.iter().filter(code).map(place)
    }

    /// Whether the code is what the map says of the blocks with these numbers.
    fn is_that_of(&self, view: &View, blocks: std::ops::Range<usize>) -> bool {
        let addresses = view.addresses().get(blocks.clone());
        let (Some(addresses), Some(bytes)) = (addresses, view.bytes().get(blocks)) else {
            return false;
        };
        // The blocks are sorted: most are in the segment of the last one.
        let mut segment = (0, 0);
        addresses.iter().zip(bytes).all(|(&address, &byte)| {
            let place = self.base.wrapping_add(address as usize);
            let is_in = |(start, len): &(usize, usize)| place.wrapping_sub(*start) < *len;
            if !is_in(&segment) {
                segment = self.code().find(is_in).unwrap_or_default();
            }
            // SAFETY: within a segment that the loader has mapped for execution, and so for
            // reading.
            is_in(&segment) && unsafe { ptr::read_volatile(place as *const u8) } == byte
        })
    }

    /// Makes the code writable, where it is what the map says of the blocks with these numbers.
    fn make_writable(&self, view: &View, blocks: std::ops::Range<usize>) -> Result<(), Obstacle> {
        if !self.is_that_of(view, blocks) {
            return Err(Obstacle::OtherCode);
        }
        let page = page_size();
        for (start, len) in self.code() {
            let first = start & !(page - 1);
            let len = start + len - first;
            let rights = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            // SAFETY: pages that hold a segment of the program; its code stays what it is.
            let changed = unsafe { libc::mprotect(first as *mut c_void, len, rights) };
            if changed != 0 {
                return Err(Obstacle::Protected);
            }
        }
        Ok(())
    }
}

/// Where a block is in this process; `None` where its module is not loaded.
fn place(view: &View, block: usize) -> Option<*mut u8> {
    let address = *view.addresses().get(block)? as usize;
    let holds = |number: &usize| {
        let module = view.module(*number);
        module.is_some_and(|(_, blocks)| blocks.contains(&block))
    };
    let number = (0..view.modules()).find(holds)?;
    let base = BASES.get(number)?.load(Ordering::Relaxed);
    (base != ABSENT).then(|| base.wrapping_add(address) as *mut u8)
}

/// Replaces the byte at a place where a block is.
fn poke(place: *mut u8, byte: u8) {
    // SAFETY: `begin` made this byte writable, and it begins an instruction: other threads run
    // the instruction, or trap and find the byte put back.
    unsafe { ptr::write_volatile(place, byte) };
}

/// Puts the byte of the program back.
fn remove_trap(view: &View, block: usize) {
    if let (Some(place), Some(&byte)) = (place(view, block), view.bytes().get(block)) {
        poke(place, byte);
    }
}

/// Replaces the bytes at all blocks for which `byte` gives one, given the number of the block
/// and the byte of the program.
fn poke_all(view: &View, byte: impl Fn(usize, u8) -> Option<u8>) {
    let (addresses, bytes) = (view.addresses(), view.bytes());
    for (number, base) in BASES.iter().enumerate() {
        let base = base.load(Ordering::Relaxed);
        let Some((_, blocks)) = view.module(number).filter(|_| base != ABSENT) else {
            continue;
        };
        for block in blocks {
            if let (Some(&address), Some(&own)) = (addresses.get(block), bytes.get(block))
                && let Some(byte) = byte(block, own)
            {
                poke(base.wrapping_add(address as usize) as *mut u8, byte);
            }
        }
    }
}

fn set_traps(view: &View) {
    let shared = shared_blocks(view);
    let has_trap = |block| !view.is_reached(block) && !shared.contains(&block);
    poke_all(view, |block, _| has_trap(block).then_some(TRAP));
}

/// The numbers of the blocks in code that this process shares with others.
fn shared_blocks(view: &View) -> std::ops::Range<usize> {
    match SHARED.len.load(Ordering::Relaxed) {
        0 => 0..0,
        _ => view.module(0).map_or(0..0, |(_, blocks)| blocks),
    }
}

/// Has the shared code, with whatever traps there are by now, in place of pages that this
/// process has changed. Other threads may run: the bytes are the same but for traps.
fn renew_pages() {
    let start = SHARED.start.load(Ordering::Relaxed) as *mut c_void;
    // SAFETY: the mapping that `share` made; what is read there from now on is the code of the
    // program, with traps that are handled.
    unsafe {
        libc::madvise(
            start,
            SHARED.len.load(Ordering::Relaxed),
            libc::MADV_DONTNEED,
        )
    };
}

/// Maps the code with all traps in place of the shared code. Whether that was done.
fn set_all_shared() -> bool {
    let [start, all, len] =
        [&SHARED.start, &SHARED.all, &SHARED.len].map(|place| place.load(Ordering::Relaxed));
    if len == 0 {
        return false;
    }
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: both are mappings that `share` made, of this length: the code of the program in
    // place of the same, with traps that are handled.
    let moved = unsafe { libc::mremap(all as *mut c_void, len, len, flags, start as *mut c_void) };
    moved != libc::MAP_FAILED
}

/// The view of the map, where this process has traps.
fn armed() -> Option<&'static View> {
    let armed = ARMED.load(Ordering::Relaxed);
    VIEW.get().filter(|_| armed).map(|Shared(view)| view)
}

/// Whether this process has traps.
#[must_use]
pub fn is_armed() -> bool {
    ARMED.load(Ordering::Relaxed)
}

/// Removes the traps of this process at all blocks that were reached in it or in its forks, so
/// that later forks have none there.
pub fn forget_reached() {
    let Some(view) = armed() else {
        return;
    };
    let reached = view.reached();
    let mut done = FORGOTTEN.load(Ordering::Relaxed);
    if done > reached {
        // The controller has begun anew.
        done = 0;
    }
    // What others share the controller has changed for all.
    let shared = shared_blocks(view);
    for block in (done..reached).filter_map(|place| view.at(place)) {
        if !shared.contains(&block) {
            remove_trap(view, block);
        }
    }
    match PAGES.load(Ordering::Relaxed) {
        CHANGED => PAGES.store(REMOVED, Ordering::Relaxed),
        REMOVED => {
            renew_pages();
            PAGES.store(CLEAN, Ordering::Relaxed);
        }
        _ => {}
    }
    FORGOTTEN.store(reached, Ordering::Relaxed);
}

/// Sets the traps of all blocks that the map does not have as reached, those that were removed
/// before included. To be called in a fork, which ends soon.
pub fn arm_again() {
    let Some(view) = armed() else {
        return;
    };
    if set_all_shared() {
        let shared = shared_blocks(view);
        let reached = (0..view.reached()).filter_map(|place| view.at(place));
        reached
            .filter(|block| shared.contains(block))
            .for_each(|block| remove_trap(view, block));
    }
    set_traps(view);
}

/// Removes all traps of this process, which from now on handles SIGILL itself.
pub fn disarm() {
    let Some(view) = armed() else {
        return;
    };
    remove_all(view);
    view.hinder(Obstacle::Handler);
}

fn remove_all(view: &View) {
    ARMED.store(false, Ordering::Relaxed);
    poke_all(view, |_, own| Some(own));
}

/// The block at an address of this process.
fn block_at(view: &View, address: usize) -> Option<usize> {
    (0..view.modules()).find_map(|number| {
        let base = BASES.get(number)?.load(Ordering::Relaxed);
        let (_, blocks) = view.module(number).filter(|_| base != ABSENT)?;
        let first = blocks.start;
        let wanted = u32::try_from(address.checked_sub(base)?).ok()?;
        let found = view.addresses().get(blocks)?.binary_search(&wanted).ok()?;
        Some(first + found)
    })
}

/// Handles SIGILL: notes the block of a trap and removes it. Where there is none, the signal is
/// the program's own, and is left to what handled it before.
extern "C" fn trapped(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    let view = VIEW.get().map(|Shared(view)| view);
    let block = view.zip(instruction(context));
    let block = block.and_then(|(view, at)| Some((view, block_at(view, at)?)));
    // What is there may be the program's own trap: then the byte is the same.
    if let Some((view, block)) = block
        && view.bytes().get(block) != Some(&TRAP)
    {
        view.note(block);
        remove_trap(view, block);
        PAGES.store(CHANGED, Ordering::Relaxed);
        return;
    }
    // Its handler may be code of the program.
    if let Some(view) = armed() {
        remove_all(view);
    }
    if let Some(previous) = PREVIOUS.get() {
        // SAFETY: what the call gave before. The instruction fails again, for that.
        unsafe { libc::sigaction(libc::SIGILL, previous, ptr::null_mut()) };
    }
}

/// The address of the instruction at the signal.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn instruction(context: *mut c_void) -> Option<usize> {
    // SAFETY: the kernel passes a handler with SA_SIGINFO a valid context.
    let context = unsafe { context.cast::<libc::ucontext_t>().as_ref()? };
    let number = usize::try_from(libc::REG_RIP).ok()?;
    usize::try_from(context.uc_mcontext.gregs.get(number)?.cast_unsigned()).ok()
}

/// The address of the instruction at the signal; not known here.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn instruction(_: *mut c_void) -> Option<usize> {
    None
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests {
    use std::hint::black_box;

    use super::*;
    use crate::map::{Map, Module};
    use crate::text::{Code, SharedText};

    #[inline(never)]
    extern "C" fn double(number: c_int) -> c_int {
        black_box(number) * 2
    }

    #[inline(never)]
    extern "C" fn triple(number: c_int) -> c_int {
        black_box(number) * 3
    }

    /// Where this program is loaded.
    fn base() -> usize {
        extern "C" fn first(info: *mut libc::dl_phdr_info, _: usize, at: *mut c_void) -> c_int {
            // SAFETY: the loader passes a valid structure, and `base` a pointer to a number.
            unsafe { *at.cast::<usize>() = (*info).dlpi_addr as usize };
            1
        }
        let mut base = 0_usize;
        // SAFETY: the callback has the signature that the call asks for.
        unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut base).cast()) };
        base
    }

    /// A map of the two functions, in the order of their addresses, and the number of
    /// `double` in it.
    fn map(changed: u8) -> (Map, u32) {
        let block = |function: extern "C" fn(c_int) -> c_int| {
            let at = function as *const () as usize;
            // SAFETY: code of this program, which can be read.
            let byte = unsafe { ptr::read_volatile(at as *const u8) };
            (u32::try_from(at - base()).unwrap(), byte ^ changed)
        };
        let mut blocks = [block(double), block(triple)];
        let is_first = blocks[0] < blocks[1];
        blocks.sort_unstable();
        let module = Module {
            name: c"",
            blocks: &blocks,
        };
        (Map::new(&[module]).unwrap(), u32::from(!is_first))
    }

    /// The status of a fork that does this.
    fn fork(run: impl FnOnce() -> bool) -> c_int {
        // SAFETY: the child does not return; what it does takes no lock that another thread of
        // the tests may hold.
        unsafe {
            let pid = libc::fork();
            if pid == 0 {
                if !is_armed() {
                    // Rust's runtime handles it.
                    libc::signal(libc::SIGILL, libc::SIG_DFL);
                }
                libc::_exit(c_int::from(!run()));
            }
            let mut status = 0;
            libc::waitpid(pid, &raw mut status, 0);
            status
        }
    }

    #[test]
    fn a_block_is_noted_once_and_the_program_does_what_it_does() {
        let (mut map, number) = map(0);
        let fd = map.fd();
        let twice = || double(21) == 42 && double(4) == 8;
        assert_eq!(fork(|| arm(fd) && twice()), 0);
        assert_eq!(map.take_reached(), [number]);
        assert!(map.is_armed());
        assert_eq!(map.obstacle(), None);
    }

    #[test]
    fn forks_begin_without_the_traps_that_were_forgotten() {
        let (mut map, number) = map(0);
        let fd = map.fd();
        let status = fork(|| {
            let trap = || {
                // SAFETY: code of this program, which can be read.
                unsafe { ptr::read_volatile(double as *const () as *const u8) == TRAP }
            };
            let before = arm(fd) && trap();
            let ran = fork(|| double(2) == 4) == 0;
            let kept = trap();
            forget_reached();
            let gone = !trap();
            before && ran && kept && gone
        });
        assert_eq!(status, 0);
        assert_eq!(map.take_reached(), [number]);
    }

    #[test]
    fn what_was_forgotten_can_be_noted_again() {
        let (mut map, number) = map(0);
        let fd = map.fd().try_clone_to_owned().unwrap();
        let status = fork(|| {
            let armed = arm(std::os::fd::AsFd::as_fd(&fd)) && double(2) == 4;
            // The controller's part: the memory is shared.
            map.reset();
            let again = fork(|| {
                arm_again();
                double(2) == 4
            });
            armed && again == 0
        });
        assert_eq!(status, 0);
        assert_eq!(map.take_reached(), [number]);
    }

    /// The code of this program, as its file has it.
    fn own_code() -> Code {
        extern "C" fn first(info: *mut libc::dl_phdr_info, _: usize, to: *mut c_void) -> c_int {
            // SAFETY: as in `Text::of_program`.
            let (headers, to) = unsafe {
                let info = &*info;
                let count = usize::from(info.dlpi_phnum);
                let headers = slice::from_raw_parts(info.dlpi_phdr, count);
                (headers, &mut *to.cast::<Option<(u64, u64, u64)>>())
            };
            let code = headers
                .iter()
                .find(|it| it.p_type == libc::PT_LOAD && it.p_flags & libc::PF_X != 0);
            *to = code.map(|it| (it.p_offset, it.p_vaddr, it.p_filesz));
            1
        }
        let mut code: Option<(u64, u64, u64)> = None;
        // SAFETY: the callback has the signature that the call asks for.
        unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut code).cast()) };
        let (offset, address, size) = code.unwrap();
        let file = std::fs::read("/proc/self/exe").unwrap();
        Code::of_segment(&file, offset, address, size).unwrap()
    }

    #[test]
    fn servers_share_code_and_what_is_removed_from_it() {
        let (mut map, number) = map(0);
        let (view, fd) = (View::attach(map.fd()).unwrap(), map.fd());
        let addresses = view.addresses().iter().copied();
        let blocks: Vec<_> = addresses.zip(view.bytes().iter().copied()).collect();
        let text = SharedText::new(own_code(), &blocks).unwrap();
        let place = usize::try_from(number).unwrap();
        let trap = || {
            // SAFETY: code of this program, which can be read.
            unsafe { ptr::read_volatile(double as *const () as *const u8) == TRAP }
        };
        let status = fork(|| {
            let armed = arm_shared(fd, text.fd()) && trap();
            // A run in a fork leaves the trap to others until the controller has removed it.
            let noted = fork(|| double(2) == 4 && !trap()) == 0 && trap();
            text.remove_trap(place, blocks[place]).unwrap();
            forget_reached();
            armed && noted && !trap()
        });
        assert_eq!(status, 0);
        assert_eq!(map.take_reached(), [number]);
        // Another server begins without it, and can have it back.
        map.reset();
        let fd = map.fd();
        let again = fork(|| {
            let gone = arm_shared(fd, text.fd()) && !trap() && double(2) == 4;
            gone && fork(|| {
                arm_again();
                trap() && double(2) == 4 && !trap()
            }) == 0
        });
        assert_eq!(again, 0);
        assert_eq!(map.take_reached(), [number]);
    }

    /// What a server itself reaches, before it forks, costs its forks nothing in the end.
    #[test]
    fn pages_that_a_server_changed_are_those_of_others_again() {
        let (map, number) = map(0);
        let view = View::attach(map.fd()).unwrap();
        let addresses = view.addresses().iter().copied();
        let blocks: Vec<_> = addresses.zip(view.bytes().iter().copied()).collect();
        let text = SharedText::new(own_code(), &blocks).unwrap();
        let place = usize::try_from(number).unwrap();
        let fd = map.fd();
        let status = fork(|| {
            let changed = || PAGES.load(Ordering::Relaxed);
            let ran = arm_shared(fd, text.fd()) && double(2) == 4 && changed() == CHANGED;
            forget_reached();
            text.remove_trap(place, blocks[place]).unwrap();
            forget_reached();
            ran && changed() == CLEAN && double(2) == 4 && changed() == CLEAN
        });
        assert_eq!(status, 0);
    }

    #[test]
    fn a_thread_that_blocks_other_signals_is_not_ended() {
        let (mut map, number) = map(0);
        let fd = map.fd();
        let status = fork(|| {
            // SAFETY: all-zero is valid for a set of signals, which the calls write to.
            unsafe {
                let mut all: libc::sigset_t = std::mem::zeroed();
                libc::sigfillset(&raw mut all);
                libc::sigdelset(&raw mut all, libc::SIGILL);
                libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
            }
            arm(fd) && double(1) == 2
        });
        assert_eq!(status, 0);
        assert_eq!(map.take_reached(), [number]);
    }

    #[test]
    fn an_instruction_of_the_program_that_is_none_ends_it() {
        let (map, _) = map(0);
        let fd = map.fd();
        let status = fork(|| {
            let armed = arm(fd);
            // SAFETY: raises SIGILL, which is what is looked at.
            unsafe { std::arch::asm!("ud2") };
            armed
        });
        assert!(libc::WIFSIGNALED(status), "{status:x}");
        assert_eq!(libc::WTERMSIG(status), libc::SIGILL);
    }

    #[test]
    fn other_code_is_left_alone() {
        let (map, _) = map(0xff);
        let fd = map.fd();
        assert_eq!(fork(|| !arm(fd) && double(2) == 4), 0);
        assert_eq!(map.obstacle(), Some(Obstacle::OtherCode));
        assert!(!map.is_armed());
    }

    #[test]
    fn a_program_that_handles_the_signal_has_no_traps_any_more() {
        let (map, _) = map(0);
        let fd = map.fd();
        let status = fork(|| {
            let armed = arm(fd);
            disarm();
            // SAFETY: the call takes integers.
            unsafe { libc::signal(libc::SIGILL, libc::SIG_IGN) };
            armed && !is_armed() && double(2) == 4 && triple(2) == 6
        });
        assert_eq!(status, 0);
        assert_eq!(map.obstacle(), Some(Obstacle::Handler));
    }
}
