//! Canaries: files and sockets that no command names, and that show when they are accessed.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::accept;

use super::Canaries;
use super::launch::CANARY_PORT;

const RAW: &str = "secret.raw";
const QCOW2: &str = "secret.qcow2";
const SOCKET: &str = "secret.sock";

/// The text that fills the canaries, so that it is recognised in an output.
pub const SECRET: &[u8] = b"canary: no command named this file\n";

thread_local! {
    /// The canaries that executors of this thread have, by folder.
    static CANARY_SETS: RefCell<HashMap<PathBuf, Weak<CanarySet>>> = RefCell::default();
}

/// A folder of canaries: two files and a socket. Executors over the same scratch folder
/// share it.
#[derive(Debug)]
pub(super) struct CanarySet {
    folder: PathBuf,
    watch: Inotify,
    unix: Option<UnixListener>,
    files: [PathBuf; 2],
    socket: PathBuf,
}

impl CanarySet {
    /// The canaries in `folder`, created if need be.
    pub(super) fn shared(folder: PathBuf) -> io::Result<Rc<Self>> {
        CANARY_SETS.with_borrow_mut(|sets| {
            if let Some(canaries) = sets.get(&folder).and_then(Weak::upgrade) {
                return Ok(canaries);
            }
            let canaries = Rc::new(Self::new(folder.clone())?);
            sets.insert(folder, Rc::downgrade(&canaries));
            Ok(canaries)
        })
    }

    /// Creates the folder with its files and starts to watch it.
    fn new(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        // Files that a killed fuzzer left are ours; anything else is not.
        for entry in fs::read_dir(&folder)? {
            let name = entry?.file_name();
            if ![RAW, QCOW2, SOCKET].iter().any(|ours| name == *ours) {
                let text = format!("it holds {}; remove the folder", name.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
        }
        let socket = folder.join(SOCKET);
        // A socket that no process listens on any more still has its name.
        if socket.exists() {
            fs::remove_file(&socket)?;
        }
        // A path can be too long for the address of a socket: then there is none.
        let unix = UnixListener::bind(&socket).ok();
        if let Some(unix) = &unix {
            unix.set_nonblocking(true)?;
        }
        let canaries = Self {
            files: [folder.join(RAW), folder.join(QCOW2)],
            socket,
            watch: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?,
            folder,
            unix,
        };
        canaries.fill()?;
        canaries.watch.add_watch(
            &canaries.folder,
            AddWatchFlags::IN_OPEN
                | AddWatchFlags::IN_ACCESS
                | AddWatchFlags::IN_MODIFY
                | AddWatchFlags::IN_ATTRIB
                | AddWatchFlags::IN_CREATE
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_MOVE,
        )?;
        Ok(canaries)
    }

    fn fill(&self) -> io::Result<()> {
        fs::write(self.folder.join(RAW), filled(64 << 10))?;
        fs::write(self.folder.join(QCOW2), qcow2())
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What images may name; `tcp` tells whether the port is open.
    pub(super) fn names(&self, tcp: bool) -> Canaries {
        Canaries {
            files: self.files.to_vec(),
            socket: self.unix.is_some().then(|| self.socket.clone()),
            port: tcp.then_some(CANARY_PORT),
        }
    }

    /// The socket to poll during a run.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.unix.as_ref().map(AsFd::as_fd)
    }

    /// Closes connections, so that no program waits for an answer, and notes them.
    pub(super) fn close_connections(&self, touched: &mut BTreeSet<PathBuf>) {
        if let Some(unix) = &self.unix {
            while unix.accept().is_ok() {
                touched.insert(self.socket.clone());
            }
        }
    }

    /// What was touched since the last call. Restores what was changed.
    pub(super) fn touched(&self) -> BTreeSet<PathBuf> {
        let mut touched = BTreeSet::new();
        self.close_connections(&mut touched);
        let mut changed = false;
        while let Ok(events) = self.watch.read_events() {
            for event in events {
                let Some(name) = event.name else { continue };
                touched.insert(self.folder.join(&name));
                changed |= !event
                    .mask
                    .intersects(AddWatchFlags::IN_OPEN | AddWatchFlags::IN_ACCESS);
            }
        }
        if changed {
            // Where that fails there is a canary less, and the others still work.
            let _ = self.restore();
            while self.watch.read_events().is_ok() {}
        }
        touched
    }

    /// Removes other files and writes the canaries again.
    fn restore(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else if entry.file_name() != SOCKET {
                fs::remove_file(entry.path())?;
            }
        }
        self.fill()
    }
}

impl Drop for CanarySet {
    fn drop(&mut self) {
        // A drop reports no errors; a folder that stays is harmless.
        for file in self.files.iter().chain([&self.socket]) {
            let _ = fs::remove_file(file);
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Closes connections to the TCP canary, and notes them.
pub(super) fn close_tcp_connections(listener: &OwnedFd, touched: &mut BTreeSet<PathBuf>) {
    while let Ok(fd) = accept(listener.as_raw_fd()) {
        let _ = nix::unistd::close(fd);
        touched.insert(format!("tcp:127.0.0.1:{CANARY_PORT}").into());
    }
}

fn filled(len: usize) -> Vec<u8> {
    SECRET.iter().copied().cycle().take(len).collect()
}

/// A qcow2 image of 32 KiB (version 2, clusters of 512 bytes): header, refcount table and
/// block, L1 and L2 table, and 64 clusters of the secret.
fn qcow2() -> Vec<u8> {
    const CLUSTER: usize = 512;
    const DATA: usize = 5;
    const DATA_CLUSTERS: usize = 64;
    const COPIED: u64 = 1 << 63;
    let mut image = vec![0; CLUSTER * DATA];
    image.extend(filled(CLUSTER * DATA_CLUSTERS));
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    let at = |cluster: usize| (cluster * CLUSTER) as u64;
    put(0, b"QFI\xfb");
    put(4, &2_u32.to_be_bytes()); // version
    put(20, &9_u32.to_be_bytes()); // cluster_bits
    put(24, &at(DATA_CLUSTERS).to_be_bytes()); // size
    put(36, &1_u32.to_be_bytes()); // l1_size
    put(40, &at(3).to_be_bytes()); // l1_table_offset
    put(48, &at(1).to_be_bytes()); // refcount_table_offset
    put(56, &1_u32.to_be_bytes()); // refcount_table_clusters
    put(CLUSTER, &at(2).to_be_bytes());
    for cluster in 0..DATA + DATA_CLUSTERS {
        put(2 * CLUSTER + 2 * cluster, &1_u16.to_be_bytes());
    }
    put(3 * CLUSTER, &(at(4) | COPIED).to_be_bytes());
    for cluster in 0..DATA_CLUSTERS {
        let entry = at(DATA + cluster) | COPIED;
        put(4 * CLUSTER + 8 * cluster, &entry.to_be_bytes());
    }
    image
}
