//! What of a process a forked child would share with it: descriptors, threads, mappings.
#![allow(unsafe_code)] // Calls on descriptors; each block says why it is sound.

use std::ffi::c_int;
use std::fs::File;
use std::io::{Read, Write};

use crate::sys;

/// The most descriptors that a program may have opened.
const MOST: usize = 16;

/// Bytes of the path of a file in `/proc/self`.
const PATH: usize = 64;

/// Descriptors that each child creates anew, so that no two share what is behind them.
pub(crate) struct Inherited {
    found: [Option<Descriptor>; MOST],
}

/// One of them.
#[derive(Debug, Clone, Copy)]
struct Descriptor {
    number: c_int,
    /// The flags of fcntl(2): those of the open file, and those of the descriptor.
    flags: c_int,
    kind: Kind,
}

/// What is behind a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Event { count: u32, semaphore: bool },
    Signal { mask: u64 },
    Epoll,
}

impl Inherited {
    /// The descriptors from 3 on and below `end`; `None` where one is of another kind, or
    /// there are too many.
    pub(crate) fn find(end: c_int) -> Option<Self> {
        let mut found = [None; MOST];
        let mut places = found.iter_mut();
        for number in 3..end {
            // SAFETY: calls that take integers.
            let (own, flags) = unsafe {
                (
                    libc::fcntl(number, libc::F_GETFD),
                    libc::fcntl(number, libc::F_GETFL),
                )
            };
            if own < 0 {
                continue;
            }
            let close = if own & libc::FD_CLOEXEC != 0 {
                libc::O_CLOEXEC
            } else {
                0
            };
            let (mut link, mut info) = ([0; 64], [0; 1024]);
            let link = read_link(number, &mut link)?;
            let mut path = [0; PATH];
            let path = print(&mut path, format_args!("/proc/self/fdinfo/{number}"))?;
            let info = sys::read_file(path, &mut info)?;
            *places.next()? = Some(Descriptor {
                number,
                flags: flags & libc::O_NONBLOCK | close,
                kind: kind(link, std::str::from_utf8(info).ok()?)?,
            });
        }
        Some(Self { found })
    }

    /// Creates them anew, in the state that they were found in; `false` on an error.
    pub(crate) fn renew(&self) -> bool {
        self.found.iter().flatten().all(Descriptor::renew)
    }
}

impl Descriptor {
    fn renew(&self) -> bool {
        let close = self.flags & libc::O_CLOEXEC;
        // SAFETY: calls that take integers; the mask is a live set of signals.
        unsafe {
            let new = match self.kind {
                Kind::Event { count, semaphore } => {
                    let semaphore = if semaphore { libc::EFD_SEMAPHORE } else { 0 };
                    libc::eventfd(count, self.flags | semaphore)
                }
                Kind::Signal { mask } => {
                    let mut set: libc::sigset_t = std::mem::zeroed();
                    libc::sigemptyset(&raw mut set);
                    for signal in (1..=64).filter(|signal| mask >> (signal - 1) & 1 != 0) {
                        libc::sigaddset(&raw mut set, signal);
                    }
                    libc::signalfd(-1, &raw const set, self.flags)
                }
                Kind::Epoll => libc::epoll_create1(close),
            };
            new >= 0 && libc::dup3(new, self.number, close) == self.number && libc::close(new) == 0
        }
    }
}

/// What a descriptor is, from its link and its information in `/proc` (see proc(5)); `None`
/// where it cannot be created anew.
fn kind(link: &[u8], info: &str) -> Option<Kind> {
    let value = |name: &str| {
        let mut lines = info.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    };
    match link {
        b"anon_inode:[eventfd]" => Some(Kind::Event {
            count: u32::from_str_radix(value("eventfd-count")?, 16).ok()?,
            semaphore: value("eventfd-semaphore") == Some("1"),
        }),
        b"anon_inode:[signalfd]" => Some(Kind::Signal {
            mask: u64::from_str_radix(value("sigmask")?, 16).ok()?,
        }),
        b"anon_inode:[eventpoll]" => value("tfd").is_none().then_some(Kind::Epoll),
        _ => None,
    }
}

/// What a descriptor's link in `/proc` says.
fn read_link(number: c_int, place: &mut [u8]) -> Option<&[u8]> {
    let mut path = [0; PATH];
    let path = print(&mut path, format_args!("/proc/self/fd/{number}\0"))?;
    // SAFETY: a path ended by zero, and a live slice with its length.
    let len =
        unsafe { libc::readlink(path.as_ptr().cast(), place.as_mut_ptr().cast(), place.len()) };
    place.get(..usize::try_from(len).ok()?)
}

/// Prints into a slice; `None` where there is no room.
fn print<'a>(place: &'a mut [u8], text: std::fmt::Arguments<'_>) -> Option<&'a str> {
    let len = place.len();
    let mut rest = &mut *place;
    rest.write_fmt(text).ok()?;
    let left = rest.len();
    std::str::from_utf8(place.get(..len - left)?).ok()
}

/// How many threads this process has.
pub(crate) fn threads() -> Option<u32> {
    let mut text = [0; 4096];
    let text = sys::read_file("/proc/self/status", &mut text)?;
    let mut lines = text.split(|&byte| byte == b'\n');
    let count = lines.find_map(|line| line.strip_prefix(b"Threads:"))?;
    std::str::from_utf8(count).ok()?.trim().parse().ok()
}

/// How many mappings of this process are shared and writable.
pub(crate) fn writable_shared_mappings() -> Option<usize> {
    count_writable_shared(File::open("/proc/self/maps").ok()?)
}

/// How many mappings in a list of proc_pid_maps(5) are shared and writable.
fn count_writable_shared(mut maps: impl Read) -> Option<usize> {
    let (mut count, mut chunk) = (0, [0; 4096]);
    // The rights are the second word of a line: where in the line, and what they are.
    let (mut at, mut rights) = (None, [0_u8; 4]);
    loop {
        let len = maps.read(&mut chunk).ok()?;
        if len == 0 {
            return Some(count);
        }
        for &byte in chunk.get(..len)? {
            match (byte, &mut at) {
                (b'\n', at) => *at = None,
                (b' ', at @ None) => *at = Some(0),
                (_, Some(number)) => {
                    if let Some(right) = rights.get_mut(*number) {
                        *right = byte;
                        count += usize::from(*number == 3 && rights[1] == b'w' && byte == b's');
                    }
                    *number += 1;
                }
                (_, None) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn descriptors_are_created_anew_as_they_were() {
        let event = "pos:\t0\nflags:\t02004002\neventfd-count:                1f\neventfd-id: 1\n\
                     eventfd-semaphore: 0\n";
        let known = kind(b"anon_inode:[eventfd]", event);
        let (count, semaphore) = (0x1f, false);
        assert_eq!(known, Some(Kind::Event { count, semaphore }));
        let signal = "pos:\t0\nsigmask:\t0000000010002040\n";
        let mask = 0x1000_2040;
        assert_eq!(
            kind(b"anon_inode:[signalfd]", signal),
            Some(Kind::Signal { mask })
        );
        let epoll = b"anon_inode:[eventpoll]";
        assert_eq!(kind(epoll, "pos:\t0\n"), Some(Kind::Epoll));
        assert_eq!(kind(epoll, "pos:\t0\ntfd:        5 events: 19\n"), None);
        assert_eq!(kind(b"anon_inode:[io_uring]", ""), None);
        assert_eq!(kind(b"/etc/passwd", "pos:\t0\n"), None);
        // SAFETY: calls that take integers, or pointers to live structures.
        unsafe {
            let kept = libc::eventfd(7, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            let own = libc::dup(kept);
            let found = Inherited {
                found: std::array::from_fn(|number| {
                    (number == 0).then_some(Descriptor {
                        number: own,
                        flags: libc::O_NONBLOCK | libc::O_CLOEXEC,
                        kind: Kind::Event {
                            count: 7,
                            semaphore: false,
                        },
                    })
                }),
            };
            assert!(found.renew());
            let read = |fd| {
                let mut number = 0_u64;
                let len = libc::read(fd, ptr::from_mut(&mut number).cast(), 8);
                (len == 8).then_some(number)
            };
            assert_eq!([read(own), read(own), read(kept)], [Some(7), None, Some(7)]);
            assert_ne!(libc::fcntl(own, libc::F_GETFL) & libc::O_NONBLOCK, 0);
            assert_ne!(libc::fcntl(own, libc::F_GETFD) & libc::FD_CLOEXEC, 0);
            libc::close(own);
            libc::close(kept);
        }
    }

    #[test]
    fn shared_mappings_are_counted_that_can_be_written() {
        let maps = "7f00-7f10 rw-p 00000000 00:00 0\n\
                    7f10-7f20 r--s 00000000 00:01 7  /dev/zero rw-s\n\
                    7f20-7f30 rw-s 00000000 00:01 7  /dev/zero (deleted)\n\
                    7f30-7f40 -w-s 00000000 00:01 7\n";
        assert_eq!(count_writable_shared(maps.as_bytes()), Some(2));
        assert!(writable_shared_mappings().is_some());
    }
}
