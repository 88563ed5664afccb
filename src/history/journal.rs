//! The journal: one JSON record a line, appended by every run.
//!
//! Runs at the same time append to the same file: each record is one `write` to a
//! file opened with `O_APPEND`. Every run holds a shared lock on `lock` for as
//! long as it lasts; old records are dropped only under the exclusive lock, that
//! is, if no other run is active.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use bstr::ByteSlice as _;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::model::Kind;

/// Results kept for each test and combination.
pub(super) const RING: usize = 50;
/// Runs whose beginning and end are kept.
const RUNS: usize = 50;
/// Below this size (bytes) nothing is dropped. Above it, old records are looked for
/// whenever the journal has doubled since the last time.
const SMALL: u64 = 1 << 20;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Record {
    /// A run began.
    Run {
        run: String,
        /// Seconds since 1970.
        at: u64,
        jobs: usize,
        combos: Vec<String>,
        tests: Vec<String>,
        /// Stands for what was selected: the pairs of tests and combinations. Empty in older
        /// journals.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        selection: String,
    },
    /// A job ended.
    Done {
        run: String,
        test: String,
        combo: String,
        verdict: Kind,
        /// Seconds; 0 where nothing was started.
        secs: f64,
        /// Seconds since 1970.
        at: u64,
        /// Why it is not a pass, in a line.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
        /// What QEMU's programs ran under, where that makes the time a time of its own.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        under: String,
    },
    /// A run ended (a killed one has no such record).
    End {
        run: String,
        /// Seconds.
        wall: f64,
        interrupted: bool,
        /// Test and combination of what it did not get to.
        not_reached: Vec<(String, String)>,
    },
}

/// The journal, open for appending, with the lock that keeps it in place.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    _lock: Flock<File>,
}

/// The journal's file in the history's directory.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("journal.jsonl")
}

impl Journal {
    /// Opens the journal in `dir`, both made where they do not exist, and drops
    /// old records where they have become many and no other run is going on.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)
            .with_context(|| format!("cannot create the history directory {}", dir.display()))?;
        let path = path(dir);
        let lock = lock(dir, &path)?;
        let open = || -> io::Result<File> {
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .open(&path)?;
            end_last_line(&mut file)?;
            Ok(file)
        };
        let file = open().with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self { file, _lock: lock })
    }

    /// Appends a record, in one piece.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }
}

/// Takes the shared lock; first, where no other run holds it and the journal is
/// long, drops old records.
fn lock(dir: &Path, journal: &Path) -> anyhow::Result<Flock<File>> {
    let path = dir.join("lock");
    let what = || format!("cannot lock {}", path.display());
    let open = || {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(what)
    };
    let len = || fs::metadata(journal).map_or(0, |m| m.len());
    // The lock file holds the journal's length (bytes) when it was last looked at.
    let looked_at = fs::read_to_string(&path).ok();
    let looked_at = looked_at.and_then(|text| text.trim().parse().ok());
    let long = len() > SMALL.max(looked_at.unwrap_or(0u64).saturating_mul(2));
    if long && let Ok(mut alone) = Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
        compact(journal).with_context(|| format!("cannot shorten {}", journal.display()))?;
        alone.set_len(0).with_context(what)?;
        writeln!(alone, "{}", len()).with_context(what)?;
    }
    Flock::lock(open()?, FlockArg::LockShared)
        .map_err(|(_, errno): (File, Errno)| io::Error::from(errno))
        .with_context(what)
}

/// A run that was aborted may have left half a line; the next record must not
/// continue it.
fn end_last_line(file: &mut File) -> io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(())
}

/// Reads the journal at `path` record by record; lines that are not records (incomplete, or
/// of a later version) are passed over, and a journal that is not there is empty.
pub(super) fn read(path: &Path, mut take: impl FnMut(Record)) -> io::Result<()> {
    lines(path, |_, record| {
        take(record);
        Ok(())
    })
}

/// Reads the results of the run `id` from the journal at `path`.
pub(super) fn read_run(path: &Path, id: &str, mut take: impl FnMut(Record)) -> io::Result<()> {
    // Most lines are of other runs, and need not be parsed.
    each_line(path, |line| {
        if line.contains_str(id)
            && let Ok(record) = serde_json::from_slice(line)
            && matches!(&record, Record::Done { run, .. } if run == id)
        {
            take(record);
        }
        Ok(())
    })
}

fn lines(path: &Path, mut take: impl FnMut(&[u8], Record) -> io::Result<()>) -> io::Result<()> {
    each_line(path, |line| match serde_json::from_slice(line) {
        Ok(record) => take(line, record),
        Err(_) => Ok(()),
    })
}

fn each_line(path: &Path, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        take(&line)?;
        line.clear();
    }
    Ok(())
}

/// Rewrites the journal with the last [`RING`] results of each test and
/// combination and the last [`RUNS`] runs, in two passes, so that only counts are
/// held in memory. Does nothing where too little would be gained.
fn compact(path: &Path) -> io::Result<()> {
    let mut left: HashMap<(String, String), usize> = HashMap::new();
    let (mut runs, mut ends, mut total) = (0usize, 0usize, 0usize);
    read(path, |record| {
        total += 1;
        match record {
            Record::Done { test, combo, .. } => *left.entry((test, combo)).or_default() += 1,
            Record::Run { .. } => runs += 1,
            Record::End { .. } => ends += 1,
        }
    })?;
    let dropped: usize = left.values().map(|n| n.saturating_sub(RING)).sum();
    if dropped * 4 < total {
        return Ok(());
    }
    let mut keep = |record: Record| match record {
        Record::Done { test, combo, .. } => match left.get_mut(&(test, combo)) {
            Some(n) => {
                *n -= 1;
                *n < RING
            }
            None => false,
        },
        Record::Run { .. } => {
            runs -= 1;
            runs < RUNS
        }
        Record::End { .. } => {
            ends -= 1;
            ends < RUNS
        }
    };
    atomic_write::write(path, |to| {
        lines(path, |line, record| {
            if keep(record) {
                to.write_all(line)?;
            }
            Ok(())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(test: &str, n: u64) -> Record {
        Record::Done {
            run: "r".into(),
            test: test.into(),
            combo: "qcow2/file/writeback/threads/".into(),
            verdict: Kind::Pass,
            secs: 0.5,
            at: n,
            why: String::new(),
            under: String::new(),
        }
    }

    fn all(path: &Path) -> Vec<Record> {
        let mut records = Vec::new();
        read(path, |r| records.push(r)).unwrap();
        records
    }

    #[test]
    fn an_incomplete_line_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let file = path(dir.path());
        Journal::open(dir.path())
            .unwrap()
            .append(&done("001", 1))
            .unwrap();
        let mut raw = OpenOptions::new().append(true).open(&file).unwrap();
        raw.write_all(b"{\"done\":{\"run").unwrap();
        Journal::open(dir.path())
            .unwrap()
            .append(&done("002", 2))
            .unwrap();
        assert_eq!(all(&file), [done("001", 1), done("002", 2)]);
    }

    #[test]
    fn many_results_are_dropped_down_to_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let file = path(dir.path());
        let mut journal = Journal::open(dir.path()).unwrap();
        for n in 0..2 * RING as u64 {
            journal.append(&done("001", n)).unwrap();
        }
        journal.append(&done("002", 7)).unwrap();
        drop(journal);
        compact(&file).unwrap();
        let kept = all(&file);
        assert_eq!(kept.len(), RING + 1);
        assert_eq!(kept[0], done("001", RING as u64));
        assert_eq!(kept[RING], done("002", 7));
    }

    #[test]
    fn nothing_is_dropped_while_another_run_is_going_on() {
        let dir = tempfile::tempdir().unwrap();
        let file = path(dir.path());
        let mut journal = Journal::open(dir.path()).unwrap();
        let records = SMALL as usize / 90;
        for n in 0..records as u64 {
            journal.append(&done("001", n)).unwrap();
        }
        assert!(fs::metadata(&file).unwrap().len() > SMALL);
        let _second = Journal::open(dir.path()).unwrap();
        journal.append(&done("003", 1)).unwrap();
        assert_eq!(all(&file).len(), records + 1);
        drop((journal, _second));
        let _third = Journal::open(dir.path()).unwrap();
        assert_eq!(all(&file).len(), RING + 1);
        let looked_at = fs::read_to_string(dir.path().join("lock")).unwrap();
        let len = fs::metadata(&file).unwrap().len();
        assert_eq!(looked_at, format!("{len}\n"));
    }
}
