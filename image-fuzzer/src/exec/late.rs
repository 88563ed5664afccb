//! Fork servers that fork late, at a program's first call of getopt(3): which requests they
//! are for, and how many there are. What they do is in [`runserver::late`].

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use runserver::wire::LATE_WORD;

use super::Request;
use super::program::{Program, ServerKind};
use super::server::{Server, Start};

/// The most servers of one program; the least recently used is ended for another. One of
/// `qemu-img` has less than 1 MiB of its own.
const MOST: usize = 12;

/// The servers of one program.
pub(super) struct LateServers {
    /// How many requests of a kind are made before there is a server for it.
    after: u32,
    /// Whether a run under one was found to be like others.
    pub(super) is_checked: bool,
    /// The least recently used first.
    entries: Vec<Entry>,
}

/// A server, or a place for one.
struct Entry {
    key: Key,
    requests: u32,
    server: Option<Server>,
}

/// What a server has in common with each of its requests.
#[derive(PartialEq)]
struct Key {
    name: OsString,
    words: usize,
    cwd: PathBuf,
    env: Vec<(OsString, OsString)>,
}

impl Key {
    fn of(request: &Request) -> Option<Self> {
        Some(Self {
            name: request.argv.first()?.clone(),
            words: request.argv.len(),
            cwd: request.cwd.clone(),
            env: request.env.clone(),
        })
    }
}

impl LateServers {
    /// No servers yet; each is to be started when `after` requests of its kind were made.
    pub(super) fn new(after: u32) -> Self {
        Self {
            after,
            is_checked: false,
            entries: Vec::new(),
        }
    }

    /// The place of the server for a request, which counts as used once more; `None` where it
    /// is not to have one, or not yet.
    ///
    /// The guarding allocator is to see all blocks of a program, so that a run under it cannot
    /// begin late.
    pub(super) fn place(&mut self, request: &Request) -> Option<&mut Option<Server>> {
        let fits = |word: &OsString| word.len() < LATE_WORD;
        if request.guard.is_some() || !request.argv.iter().skip(1).all(fits) {
            return None;
        }
        let key = Key::of(request)?;
        let entry = match self.entries.iter().position(|entry| entry.key == key) {
            Some(known) => self.entries.remove(known),
            None => {
                if self.entries.len() >= MOST {
                    self.entries.remove(0);
                }
                Entry {
                    key,
                    requests: 0,
                    server: None,
                }
            }
        };
        self.entries.push(entry);
        let entry = self.entries.last_mut()?;
        let due = entry.requests >= self.after;
        entry.requests = entry.requests.saturating_add(1);
        due.then_some(&mut entry.server)
    }

    /// Puts a server back that was taken from the place that was used last.
    pub(super) fn put_back(&mut self, server: Server) {
        if let Some(entry) = self.entries.last_mut() {
            entry.server = Some(server);
        }
    }
}

/// Starts a server for requests like this one, which is `message` in the server's format.
///
/// # Errors
///
/// It does not start: the program cannot be forked late.
pub(super) fn start(
    program: &Program,
    kind: &ServerKind,
    files: [&File; 3],
    message: &[u8],
) -> io::Result<Server> {
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let accesses = AddWatchFlags::IN_ACCESS | AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE;
    watch.add_watch(program.scratch(), accesses)?;
    let server = Server::start(program, kind, files, Start::Late(message))?;
    // What it has read there would be what all runs read.
    match watch.read_events() {
        Err(Errno::EAGAIN) => Ok(server),
        Ok(_) => Err(io::Error::other(
            "the program uses files before its options",
        )),
        Err(error) => Err(error.into()),
    }
}
