//! The log of writes that the `blklogwrites` driver keeps, in the form of Linux's
//! dm-log-writes: a superblock, then each write in order with its data.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, bail, ensure};

/// The first eight bytes of a log, little-endian.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1 << 0;
const DISCARD: u64 = 1 << 2;

/// One request as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Where it wrote, in bytes.
    pub offset: u64,
    /// What it wrote; nothing for a flush or a discard.
    pub data: Vec<u8>,
    /// Whether it flushes all requests before it to the disk.
    pub flush: bool,
}

/// A log of writes, read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteLog {
    /// The requests, in the order in which they were made.
    pub entries: Vec<Logged>,
}

impl WriteLog {
    /// Reads a log, as many entries as its superblock counts.
    ///
    /// # Errors
    ///
    /// Fails if it is not such a log, or truncated.
    pub fn parse(log: &[u8]) -> Result<Self> {
        ensure!(number(log, 0)? == MAGIC, "not a write log: wrong magic");
        ensure!(number(log, 8)? == 1, "a write log of another version");
        let count = number(log, 16)?;
        let sector = number(log, 24)? & u64::from(u32::MAX);
        ensure!(
            sector.is_power_of_two(),
            "a write log with sectors of {sector} bytes"
        );
        let mut at = sector;
        let mut entries = Vec::new();
        for n in 0..count {
            let (entry, next) =
                entry(log, at, sector).with_context(|| format!("entry {n} of the log"))?;
            entries.push(entry);
            at = next;
        }
        Ok(Self { entries })
    }

    /// Whether a write of a block full of `pattern` is there, with a flush behind it.
    #[must_use]
    pub fn flushed_after(&self, pattern: u8) -> bool {
        let full = |entry: &Logged| {
            entry
                .data
                .chunks_exact(512)
                .any(|b| b.iter().all(|x| *x == pattern))
        };
        let last = self.entries.iter().rposition(full);
        last.is_some_and(|last| self.entries[last..].iter().any(|entry| entry.flush))
    }

    /// Replays the first `count` requests to `file`.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub fn replay(&self, file: &File, count: usize) -> Result<()> {
        for entry in self.entries.iter().take(count) {
            file.write_all_at(&entry.data, entry.offset)
                .context("failed to replay a write")?;
        }
        Ok(())
    }
}

/// The entry at `at` and where the next one is; `sector` is the log's unit.
fn entry(log: &[u8], at: u64, sector: u64) -> Result<(Logged, u64)> {
    let bytes = |sectors: u64| sectors.checked_mul(sector).context("an offset overflows");
    let offset = bytes(number(log, at)?)?;
    let flags = number(log, at + 16)?;
    let length = match flags & DISCARD {
        0 => bytes(number(log, at + 8)?)?,
        _ => 0,
    };
    let start = at + sector;
    let end = start.checked_add(length).context("a length overflows")?;
    let place = usize::try_from(start)?..usize::try_from(end)?;
    let Some(data) = log.get(place) else {
        bail!("its data are truncated")
    };
    let logged = Logged {
        offset,
        data: data.to_vec(),
        flush: flags & FLUSH != 0,
    };
    Ok((logged, end))
}

/// The eight bytes at `at`, little-endian.
fn number(log: &[u8], at: u64) -> Result<u64> {
    let at = usize::try_from(at)?;
    let bytes = log
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .context("the log is truncated")?;
    Ok(u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(entries: &[(u64, u64, u64)]) -> Vec<u8> {
        let mut log = Vec::new();
        let count = entries.len() as u64;
        for value in [MAGIC, 1, count, 512] {
            log.extend(value.to_le_bytes());
        }
        log.resize(512, 0);
        for (n, (sector, sectors, flags)) in entries.iter().enumerate() {
            for value in [*sector, *sectors, *flags, 0] {
                log.extend(value.to_le_bytes());
            }
            log.resize(log.len().next_multiple_of(512), 0);
            if flags & DISCARD == 0 {
                let data = vec![n as u8 + 1; usize::try_from(sectors * 512).expect("small")];
                log.extend(data);
            }
        }
        log
    }

    #[test]
    fn writes_are_replayed_in_order_up_to_a_point() {
        let log = log(&[
            (0, 2, 0),
            (1, 2, 0),
            (0, 0, FLUSH),
            (0, 9, DISCARD),
            (2, 1, 0),
        ]);
        let log = WriteLog::parse(&log).expect("a good log");
        let flushes: Vec<bool> = log.entries.iter().map(|e| e.flush).collect();
        assert_eq!(flushes, [false, false, true, false, false]);
        for (count, last) in [(2, 2), (5, 5)] {
            let file = tempfile::tempfile().expect("a file");
            log.replay(&file, count).expect("replayed");
            let mut bytes = [0; 1536];
            file.read_exact_at(&mut bytes, 0).expect("as long");
            assert_eq!((bytes[0], bytes[512], bytes[1024]), (1, 2, last));
        }
    }

    #[test]
    fn other_files_are_refused() {
        let good = log(&[(0, 2, 0)]);
        for cut in [0, 20, 511, 520, good.len() - 1] {
            assert!(WriteLog::parse(&good[..cut]).is_err(), "cut at {cut}");
        }
        assert!(WriteLog::parse(&[0; 4096]).is_err());
    }
}
