//! Processes as `/proc` shows them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::sys;

/// How many bytes of a name the kernel keeps (`TASK_COMM_LEN`, less the end).
const COMM_MAX: usize = 15;
/// The longest whole name (bytes): a command line may hold anything.
pub(crate) const WHOLE_NAME_MAX: usize = 64;

/// A process as seen at one moment; it may have ended since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: i32,
    /// The process id of its parent.
    pub parent: i32,
    /// Its name (`comm`): at most 15 bytes, bytes that are not UTF-8 replaced.
    pub name: String,
    /// Its state as proc(5) has it: `R`, `S`, `D`, `Z`, ...
    pub state: char,
    /// CPU time it has used, in user and system mode together, without its
    /// children's.
    pub cpu: Duration,
    /// Its resident memory, in bytes: 0 once it has ended. Pages that processes share
    /// count for each.
    pub memory: u64,
}

/// What the numbers in `/proc/PID/stat` count.
#[derive(Debug, Clone, Copy)]
struct Units {
    tick: Duration,
    page: u32,
}

impl Units {
    fn of_this_system() -> Self {
        Self {
            tick: Duration::from_secs(1) / sys::ticks_per_second(),
            page: sys::page_size(),
        }
    }
}

impl Process {
    /// Whether it has ended and only waits to be reaped by its parent.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Its name, not truncated where the command line still has it whole:
    /// `qemu-storage-daemon`, of which the kernel keeps `qemu-storage-da`.
    #[must_use]
    pub fn whole_name(&self) -> String {
        let truncated = self.name.len() >= COMM_MAX;
        let line = truncated.then(|| fs::read(format!("/proc/{}/cmdline", self.pid)).ok());
        let whole = line.flatten().and_then(|line| whole(&self.name, &line));
        whole.unwrap_or_else(|| self.name.clone())
    }

    /// Reads a line of `/proc/PID/stat`. The name stands in parentheses and may
    /// itself hold blanks and parentheses, so the last `)` ends it.
    fn parse(stat: &[u8], units: Units) -> Option<Self> {
        let open = stat.iter().position(|&b| b == b'(')?;
        let close = stat.iter().rposition(|&b| b == b')')?;
        let pid = str::from_utf8(stat.get(..open)?)
            .ok()?
            .trim()
            .parse()
            .ok()?;
        let name = String::from_utf8_lossy(stat.get(open + 1..close)?).into_owned();
        let mut rest = str::from_utf8(stat.get(close + 1..)?)
            .ok()?
            .split_ascii_whitespace();
        let state = rest.next()?.chars().next()?;
        let parent = rest.next()?.parse().ok()?;
        // Fields 14 and 15 (utime, stime), counted from 1; the parent is field 4.
        let user: u32 = rest.nth(9)?.parse().ok()?;
        let system: u32 = rest.next()?.parse().ok()?;
        // Field 24 (rss).
        let pages: u64 = rest.nth(8)?.parse().ok()?;
        Some(Self {
            pid,
            parent,
            name,
            state,
            cpu: units.tick.saturating_mul(user.saturating_add(system)),
            memory: pages.saturating_mul(units.page.into()),
        })
    }
}

/// The name that begins with `name`, among the program and, for a script, its first
/// argument in a command line as `/proc/PID/cmdline` has it.
fn whole(name: &str, line: &[u8]) -> Option<String> {
    let mut files = line.split(|b| *b == 0).take(2).map(|word| {
        let file = word.rsplit(|b| *b == b'/').next().unwrap_or(word);
        String::from_utf8_lossy(file).into_owned()
    });
    files.find(|file| file.starts_with(name) && file.len() <= WHOLE_NAME_MAX)
}

/// Every process.
///
/// # Errors
///
/// Fails if `/proc` cannot be read. Processes that end while it is read are left out.
pub(crate) fn all() -> io::Result<Vec<Process>> {
    let units = Units::of_this_system();
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let name = entry.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        if let Some(process) = read(&entry.path(), units) {
            processes.push(process);
        }
    }
    Ok(processes)
}

/// Reads the process whose directory in `/proc` is `dir`; `None` where it has ended.
fn read(dir: &Path, units: Units) -> Option<Process> {
    // One read gives the line whole; fs::read would ask for the size first.
    let mut stat = [0; 1024];
    let len = fs::File::open(dir.join("stat"))
        .and_then(|mut file| file.read(&mut stat))
        .ok()?;
    Process::parse(stat.get(..len)?, units)
}

/// The process `pid` as it is now; `None` where it has ended.
pub(crate) fn one(pid: i32) -> Option<Process> {
    let units = Units::of_this_system();
    read(&PathBuf::from(format!("/proc/{pid}")), units)
}

/// Whether the kernel lists the children of a process by themselves
/// (`CONFIG_PROC_CHILDREN`), so that not all of `/proc` has to be read.
fn lists_children() -> bool {
    static LISTS: OnceLock<bool> = OnceLock::new();
    *LISTS.get_or_init(|| Path::new("/proc/thread-self/children").exists())
}

/// The children of `pid`, those that have ended but were not waited for
/// included; none where it has ended. While children end, one may be missing.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    if lists_children() {
        return listed_children(pid);
    }
    let all = all().unwrap_or_default().into_iter();
    all.filter(|p| p.parent == pid).map(|p| p.pid).collect()
}

/// The children of `pid` as its threads list them.
fn listed_children(pid: i32) -> Vec<i32> {
    let mut children = Vec::new();
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return children;
    };
    for thread in threads.flatten() {
        let Ok(list) = fs::read_to_string(thread.path().join("children")) else {
            continue;
        };
        children.extend(
            list.split_ascii_whitespace()
                .filter_map(|pid| pid.parse::<i32>().ok()),
        );
    }
    children
}

/// Every process below `pid`, less the trees that start at `spare`; children
/// before their own children.
///
/// # Errors
///
/// Fails if `/proc` cannot be read.
pub(crate) fn tree(pid: i32, spare: &[i32]) -> io::Result<Vec<Process>> {
    if !lists_children() {
        return Ok(below(pid, all()?, spare));
    }
    let units = Units::of_this_system();
    let mut seen = HashSet::from([pid]);
    let mut found: Vec<Process> = Vec::new();
    let mut next = 0;
    let mut parent = Some(pid);
    while let Some(of) = parent {
        for child in listed_children(of) {
            if !spare.contains(&child) && seen.insert(child) {
                found.extend(read(&PathBuf::from(format!("/proc/{child}")), units));
            }
        }
        parent = found.get(next).map(|p| p.pid);
        next += 1;
    }
    Ok(found)
}

/// Every process below `pid`, children before their own children, those that
/// have ended but were not waited for included; not `pid` itself.
///
/// Processes may fork while they are listed: a child that is made meanwhile may be
/// missing. A caller that needs all of them calls it again.
///
/// # Errors
///
/// Fails if `/proc` cannot be read.
pub fn descendants(pid: i32) -> io::Result<Vec<Process>> {
    tree(pid, &[])
}

/// Those of `processes` that are below `pid`, less the trees that start at
/// `spare`.
pub(crate) fn below(pid: i32, processes: Vec<Process>, spare: &[i32]) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in processes {
        if !spare.contains(&process.pid) {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut found = children.remove(&pid).unwrap_or_default();
    let mut next = 0;
    while let Some(process) = found.get(next) {
        // Taking each parent's children out once also ends on a loop, which a
        // reused process id could make in a list that is not of one moment.
        if let Some(more) = children.remove(&process.pid) {
            found.extend(more);
        }
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process {
            pid,
            parent,
            name: String::new(),
            state: 'S',
            cpu: Duration::ZERO,
            memory: 0,
        }
    }

    /// A tick is 10 ms, a page 4 KiB.
    const UNITS: Units = Units {
        tick: Duration::from_millis(10),
        page: 4096,
    };

    fn pids(processes: &[Process]) -> Vec<i32> {
        processes.iter().map(|p| p.pid).collect()
    }

    #[test]
    fn a_name_with_parentheses_and_bad_bytes_is_read() {
        let stat = b"42 (a) (b \xff) S 7 42 42 0 -1 4194560 1 2 3 4 250 50 1 1 20 0 1 0 99 1 1\n";
        let p = Process::parse(stat, UNITS).unwrap();
        assert_eq!((p.pid, p.parent, p.state), (42, 7, 'S'));
        assert_eq!(p.name, "a) (b \u{fffd}");
        assert_eq!((p.cpu, p.memory), (Duration::from_secs(3), 4096));
    }

    #[test]
    fn a_truncated_line_is_not_a_process() {
        let stat = b"42 (a) S 7 42 42";
        for end in 0..stat.len() {
            assert_eq!(Process::parse(&stat[..end], UNITS), None);
        }
    }

    #[test]
    fn descendants_come_parents_first_and_without_the_spared() {
        let all = vec![
            process(5, 4),
            process(2, 1),
            process(4, 2),
            process(3, 1),
            process(6, 3),
            process(9, 8),
        ];
        assert_eq!(pids(&below(1, all.clone(), &[])), [2, 3, 4, 6, 5]);
        assert_eq!(pids(&below(1, all, &[4])), [2, 3, 6]);
    }

    #[test]
    fn a_loop_of_parents_ends() {
        assert_eq!(
            pids(&below(1, vec![process(2, 1), process(1, 2)], &[])),
            [2, 1]
        );
    }

    /// Reports once named `qemu-storage-da`.
    #[test]
    fn a_long_name_is_whole() {
        let known = |line: &[u8]| whole("qemu-storage-da", line);
        let daemon = Some("qemu-storage-daemon".to_owned());
        assert_eq!(known(b"/usr/bin/qemu-storage-daemon\0--blockdev\0"), daemon);
        assert_eq!(known(b"python3\0./qemu-storage-daemon\0"), daemon);
        assert_eq!(known(b"python3\0-c\0qemu-storage-daemon\0"), None);
        assert_eq!(known(b""), None);
        assert_eq!(known(format!("qemu-storage-da{:50}", "").as_bytes()), None);
    }
}
