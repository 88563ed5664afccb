//! Programs that wait under gdbserver (`-gdb`): found among the processes of a test, since
//! tests start gdbserver themselves and keep what it prints.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::progress::Progress;
use crate::words::{command_line, quoted};

/// The state of a socket that listens, in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// Finds each gdbserver once.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    known: HashSet<i32>,
}

impl Watcher {
    /// The programs among the processes `pids` that wait for gdb since the last look.
    pub(super) fn look(&mut self, pids: &[i32]) -> Vec<Progress> {
        let mut found = Vec::new();
        for &pid in pids {
            if !self.known.contains(&pid)
                && let Some(waiting) = waiting(pid)
            {
                self.known.insert(pid);
                found.push(waiting);
            }
        }
        found
    }
}

/// What waits under process `pid`, if that is a gdbserver that listens.
fn waiting(pid: i32) -> Option<Progress> {
    let words = command_of(pid)?;
    let server = words.first()?.rsplit(|b| *b == b'/').next()?;
    if server != b"gdbserver" {
        return None;
    }
    let target = match connection(&words)? {
        Connection::Host(host) => format!("{host}:{}", listening_port(pid)?),
        Connection::Device(path) => path,
    };
    let inferior = childproc::descendants(pid).ok()?.first()?.pid;
    let program = fs::read_link(format!("/proc/{inferior}/exe")).ok()?;
    let program = program.to_string_lossy();
    let program = program.strip_suffix(" (deleted)").unwrap_or(&program);
    Some(Progress::WaitsForGdb {
        program: command_line(&command_of(inferior)?),
        command: format!(
            "gdb -ex {} {}",
            quoted(&format!("target remote {target}")),
            quoted(program)
        ),
    })
}

/// The command line of a process.
pub(super) fn command_of(pid: i32) -> Option<Vec<Vec<u8>>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let line = line.strip_suffix(b"\0")?;
    Some(line.split(|b| *b == 0).map(<[u8]>::to_vec).collect())
}

/// Where a gdbserver is reached.
#[derive(Debug, PartialEq, Eq)]
enum Connection {
    /// By TCP on this host; the port is the one that it listens on, since it may choose.
    Host(String),
    /// Through a device.
    Device(String),
}

/// What the command line of a gdbserver says of where it is reached; `None` where that is
/// its standard input and output.
fn connection(words: &[Vec<u8>]) -> Option<Connection> {
    let mut words = words.iter().skip(1).map(Vec::as_slice);
    let comm = loop {
        match words.next()? {
            // What follows up to the dashes is the wrapper.
            b"--wrapper" => {
                words.find(|word| *word == b"--")?;
            }
            b"-" | b"stdio" => return None,
            word if word.starts_with(b"-") => {}
            word => break String::from_utf8_lossy(word).into_owned(),
        }
    };
    let Some((host, _)) = comm.rsplit_once(':') else {
        return Some(Connection::Device(comm));
    };
    Some(Connection::Host(match host {
        "" | "tcp" | "tcp4" => "localhost".to_owned(),
        host => host.to_owned(),
    }))
}

/// The TCP port that process `pid` listens on.
fn listening_port(pid: i32) -> Option<u16> {
    let sockets = sockets(&Path::new("/proc").join(pid.to_string()).join("fd"));
    ["tcp", "tcp6"].iter().find_map(|table| {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok()?;
        port_in(&table, &sockets)
    })
}

/// The inodes of the sockets in a process's directory of descriptors.
fn sockets(dir: &Path) -> HashSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect()
}

/// The port of the first socket of `inodes` that listens, in a table as in
/// `/proc/net/tcp`.
fn port_in(table: &str, inodes: &HashSet<String>) -> Option<u16> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, _, state, _, _, _, _, _, inode, ..] = fields.as_slice() else {
            return None;
        };
        if *state != LISTENING || !inodes.contains(*inode) {
            return None;
        }
        u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_gdbserver_is_reached_follows_its_options() {
        let of = |line: &str| {
            let words: Vec<_> = line.split(' ').map(|w| w.as_bytes().to_vec()).collect();
            connection(&words)
        };
        let host = |host: &str| Some(Connection::Host(host.to_owned()));
        assert_eq!(of("gdbserver localhost:12345 qemu -S"), host("localhost"));
        assert_eq!(of("gdbserver --once :0 qemu"), host("localhost"));
        assert_eq!(of("gdbserver --wrapper env A=b -- ::1:7 qemu"), host("::1"));
        let device = Connection::Device("/dev/ttyS0".to_owned());
        assert_eq!(of("gdbserver --debug /dev/ttyS0 qemu"), Some(device));
        assert_eq!(of("gdbserver - qemu"), None);
        assert_eq!(of("gdbserver --version"), None);
    }

    #[test]
    fn the_port_is_the_one_of_a_listening_socket() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0\n   \
             1: 0100007F:3039 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 12 1 0 20 4\n   \
             2: 0100007F:303A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0 100 0\n";
        let inodes = |all: &[&str]| all.iter().map(|i| (*i).to_owned()).collect();
        assert_eq!(port_in(table, &inodes(&["12"])), Some(0x303a));
        assert_eq!(port_in(table, &inodes(&["13"])), None);
        assert_eq!(port_in("", &inodes(&["12"])), None);
    }
}
