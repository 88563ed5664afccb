//! The code of a program with traps in it, in files that many processes map.
#![allow(unsafe_code)] // Makes a file in memory; the block says why it is sound.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::trap;

/// What the kernel calls shared code in the list of the mappings of a process.
pub const TEXT_PATH: &str = "/memfd:program-text";

/// The code of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The address of its first byte, at the start of a page.
    pub address: u64,
    /// Whole pages.
    pub bytes: Vec<u8>,
}

impl Code {
    /// The code of the program that `file` has the bytes of, whose only executable segment is
    /// `size` bytes at this offset in the file and this address; `None` where the file is
    /// shorter, or they do not agree on where pages begin.
    #[must_use]
    pub fn of_segment(file: &[u8], offset: u64, address: u64, size: u64) -> Option<Self> {
        const PAGE: u64 = 4096;
        let skew = address % PAGE;
        let first = offset.checked_sub(skew).filter(|first| first % PAGE == 0)?;
        let end = offset.checked_add(size)?;
        let last = end.checked_next_multiple_of(PAGE)?;
        let (first, last) = (usize::try_from(first).ok()?, usize::try_from(last).ok()?);
        let mut bytes = file.get(first..last.min(file.len()))?.to_vec();
        // What is behind the end of a file reads as zero.
        bytes.resize(last - first, 0);
        (usize::try_from(end).ok()? <= file.len()).then_some(Self {
            address: address - skew,
            bytes,
        })
    }
}

/// The code with a trap at each block.
pub(crate) fn with_traps(mut code: Code, blocks: &[(u32, u8)]) -> io::Result<Vec<u8>> {
    for &(address, byte) in blocks {
        let at = u64::from(address).checked_sub(code.address);
        let at = at.and_then(|at| usize::try_from(at).ok());
        let place = at.and_then(|at| code.bytes.get_mut(at));
        match place.filter(|place| **place == byte) {
            Some(place) => *place = trap::TRAP,
            None => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(code.bytes)
}

/// A file in memory, with these contents.
pub(crate) fn in_memory(contents: &[u8]) -> io::Result<File> {
    // SAFETY: a name ended by zero; the descriptor is fresh and ours alone.
    let file = unsafe {
        let fd = libc::memfd_create(c"program-text".as_ptr(), libc::MFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(fd)
    };
    file.write_all_at(contents, 0)?;
    Ok(file)
}

/// The code of a program that all its fork servers share: the controller's side.
///
/// Each server maps it in place of the program's own code, privately. What is shared is the
/// memory: it takes the room of one copy, a fork has no page of it to copy, and a trap that the
/// controller removes is gone in all servers at once.
#[derive(Debug)]
pub struct SharedText {
    /// The code with the traps that are left, and behind it the code with all traps.
    file: File,
    /// The address of its first byte.
    address: u64,
    /// Its length, in bytes.
    len: u64,
    /// The blocks whose trap was removed, by number.
    removed: Vec<AtomicBool>,
}

impl SharedText {
    /// The code of a program with these blocks, each an address and the byte there.
    ///
    /// # Errors
    ///
    /// A block is not in the code, or no memory can be had.
    pub fn new(code: Code, blocks: &[(u32, u8)]) -> io::Result<Self> {
        let address = code.address;
        let mut text = with_traps(code, blocks)?;
        let len = text.len() as u64;
        text.extend_from_within(..);
        Ok(Self {
            file: in_memory(&text)?,
            address,
            len,
            removed: blocks.iter().map(|_| AtomicBool::new(false)).collect(),
        })
    }

    /// The memory, as a server gets it.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Puts the byte of the program back at the block with this number.
    ///
    /// # Errors
    ///
    /// The memory cannot be written: the trap stays, and costs what it costs.
    pub fn remove_trap(&self, number: usize, (address, byte): (u32, u8)) -> io::Result<()> {
        let is_left = |removed: &AtomicBool| !removed.swap(true, Ordering::Relaxed);
        let at = u64::from(address).checked_sub(self.address);
        match at.filter(|_| self.removed.get(number).is_some_and(is_left)) {
            Some(at) => self.file.write_all_at(&[byte], at),
            None => Ok(()),
        }
    }

    /// Puts the byte of the program back at a block in the code with all traps: runs that have
    /// those ([`trap::arm_again`]) do not note it any more.
    ///
    /// # Errors
    ///
    /// The memory cannot be written: the trap stays.
    pub fn remove_from_all(&self, (address, byte): (u32, u8)) -> io::Result<()> {
        let at = u64::from(address).checked_sub(self.address);
        let at = at.filter(|at| *at < self.len);
        at.map_or(Ok(()), |at| self.file.write_all_at(&[byte], self.len + at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: [(u32, u8); 3] = [(0x5010, 0x55), (0x5020, 0x90), (0x6000, 0x90)];

    fn code() -> Code {
        let mut file = vec![0x90; 0x3000];
        file[0x1010] = 0x55;
        Code::of_segment(&file, 0x1010, 0x5010, 0x1ff0).unwrap()
    }

    #[test]
    fn a_trap_is_removed_from_one_of_two_copies() {
        let text = SharedText::new(code(), &BLOCKS).unwrap();
        let byte = |at| {
            let mut byte = [0];
            text.file.read_exact_at(&mut byte, at).unwrap();
            byte[0]
        };
        assert_eq!([byte(0x10), byte(0x2010)], [trap::TRAP; 2]);
        text.remove_trap(0, BLOCKS[0]).unwrap();
        assert_eq!([byte(0x10), byte(0x2010)], [0x55, trap::TRAP]);
        assert_eq!([byte(0x20), byte(0x1000)], [trap::TRAP; 2]);
        text.remove_from_all(BLOCKS[2]).unwrap();
        assert_eq!([byte(0x1000), byte(0x3000)], [trap::TRAP, 0x90]);
        // There is no such block.
        text.remove_trap(7, (0x5020, 0x90)).unwrap();
        assert_eq!(byte(0x20), trap::TRAP);
    }

    #[test]
    fn code_is_whole_pages_with_traps() {
        let code = code();
        assert_eq!((code.address, code.bytes.len()), (0x5000, 0x2000));
        assert_eq!(code.bytes[0x10], 0x55);
        // The file ends within the last page.
        let file = vec![0x90; 0x2800];
        let short = Code::of_segment(&file, 0x1000, 0x5000, 0x1800).unwrap();
        assert_eq!((short.bytes.len(), short.bytes[0x1fff]), (0x2000, 0));
        assert_eq!(Code::of_segment(&file, 0x1000, 0x5010, 1), None);
        assert_eq!(Code::of_segment(&file, 0x1000, 0x5000, 0x9000), None);

        let text = with_traps(code.clone(), &BLOCKS).unwrap();
        let traps = [0x10, 0x20, 0x1000];
        let mut expected = code.bytes.clone();
        traps.iter().for_each(|&at| expected[at] = trap::TRAP);
        assert!(text == expected);
        // Where another byte is, it is another program.
        assert!(with_traps(code.clone(), &[(0x5010, 0x56)]).is_err());
        assert!(with_traps(code, &[(0x7000, 0x90)]).is_err());
    }
}
