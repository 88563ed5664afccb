//! A known sequence of writes: from what is on a disk follows how far it had come.

use anyhow::{Context as _, Result, ensure};

use super::LinuxGuest;
use crate::image::Image;
use crate::test::Test;

/// How many records there is room for, a power of two; later ones go over earlier ones.
const PLACES: u64 = 2048;
/// How far apart in places records are that follow each other: odd, so that each place
/// is used once a round.
const STRIDE: u64 = 37;
/// The length of a record in bytes.
const RECORD: u64 = 4096;
/// Each sector of a record has its number at the end, before the end of a line.
const SECTOR: usize = 512;

/// A sequence of records that a guest writes to a disk, one after the other, each made
/// durable (`fsync`) before the next.
///
/// Record N (from 1) is in place `N * 37 % 2048` of 4 KiB each, from the start of the disk,
/// so that the first 8 MiB of it are used.
#[derive(Debug, Clone, Default)]
pub struct Sequence {
    /// The last record that the guest reported as durable.
    pub synced: u64,
}

impl Sequence {
    /// How many bytes at the start of the disk it uses.
    pub const BYTES: u64 = PLACES * RECORD;

    /// Starts it in the background, after record `synced`, on a disk of the guest or a file
    /// of at least [`Sequence::BYTES`]: `/dev/disk0`.
    ///
    /// # Errors
    ///
    /// Fails if the guest does not take the command.
    pub async fn start(&self, guest: &mut LinuxGuest, file: &str) -> Result<()> {
        guest.vm.ctx.log(format!("guest: writes records to {file}"));
        let sectors = usize::try_from(RECORD)? / SECTOR;
        let format = format!("%{}d\\n", SECTOR - 1).repeat(sectors);
        let numbers = "$n ".repeat(sectors);
        let command = format!(
            "rm -f /tmp/stop; (n={}; while [ ! -e /tmp/stop ]; do n=$((n + 1)); \
             printf '{format}' {numbers} | dd of={file} bs={RECORD} count=1 iflag=fullblock \
             seek=$((n * {STRIDE} % {PLACES})) conv=notrunc,fsync 2>/tmp/dd || {{ \
             echo \"! failed $n: $(tail -n 1 /tmp/dd)\" >&3; exit; }}; echo \"! synced $n\" >&3; \
             done; echo '! stopped' >&3) >/dev/null 2>&1 &",
            self.synced
        );
        guest.quiet(command).await?;
        Ok(())
    }

    /// Waits until `more` more records are durable.
    ///
    /// # Errors
    ///
    /// Fails if the guest's write fails, or it does not come so far.
    pub async fn advance(&mut self, guest: &mut LinuxGuest, more: u64) -> Result<()> {
        let wanted = self.synced + more;
        while self.synced < wanted {
            let event = guest.event(|_| true).await?;
            ensure!(self.note(&event)?, "the sequence stopped");
        }
        Ok(())
    }

    /// Stops it after the record that is being written.
    ///
    /// # Errors
    ///
    /// Fails if a write failed.
    pub async fn stop(&mut self, guest: &mut LinuxGuest) -> Result<()> {
        guest.quiet("touch /tmp/stop").await?;
        while self.note(&guest.event(|_| true).await?)? {}
        Ok(())
    }

    /// Takes the reports that were left when a guest was killed.
    ///
    /// # Errors
    ///
    /// Fails if a write failed.
    pub fn catch_up(&mut self, events: &[String]) -> Result<()> {
        events
            .iter()
            .try_for_each(|event| self.note(event).map(drop))
    }

    /// Whether it goes on after this event.
    fn note(&mut self, event: &str) -> Result<bool> {
        if event == "stopped" {
            return Ok(false);
        }
        let number = event.strip_prefix("synced ").and_then(|n| n.parse().ok());
        let number: u64 = number.with_context(|| format!("the guest reports '{event}'"))?;
        ensure!(
            number == self.synced + 1,
            "record {number} follows {}",
            self.synced
        );
        self.synced = number;
        Ok(true)
    }

    /// An image has all records up to one that is not before the last durable one, and
    /// nothing of later ones; not logged.
    ///
    /// # Errors
    ///
    /// Fails if a record is missing, torn or out of order.
    pub async fn is_on(&self, t: &Test, image: &Image) -> Result<u64> {
        self.is_in(&t.disk_bytes(image, &[]).await?)
    }

    /// The same of the bytes of a disk.
    ///
    /// # Errors
    ///
    /// Fails as [`Sequence::is_on`] does.
    pub fn is_in(&self, disk: &[u8]) -> Result<u64> {
        let last = last_record(disk)?;
        ensure!(
            last >= self.synced,
            "record {} was durable, and the last on the disk is {last}",
            self.synced
        );
        Ok(last)
    }
}

impl Test {
    /// Makes an image read as zeroes where a [`Sequence`] goes: sectors of luks that were never
    /// written read as noise. Not logged.
    ///
    /// # Errors
    ///
    /// Fails if the image cannot be written.
    pub async fn clear(&self, image: &Image) -> Result<()> {
        if image.format() == "luks" {
            let write = format!("write -P 0 0 {}", Sequence::BYTES);
            self.io(image, [write]).quiet().await?;
        }
        Ok(())
    }

    /// What a guest reads from the start of an image, as far as a [`Sequence`] goes, with
    /// more options for `qemu-img convert`; not logged.
    ///
    /// # Errors
    ///
    /// Fails if the image cannot be read.
    pub async fn disk_bytes(&self, image: &Image, options: &[&str]) -> Result<Vec<u8>> {
        let shown = image.to_string();
        let words = [
            &["convert", "-O", "raw"],
            options,
            &[&shown, "TEST_DIR/disk.bytes"],
        ];
        self.img(words.concat()).quiet().await?;
        let path = self.path("disk.bytes");
        let mut bytes = std::fs::read(&path).context("failed to read the disk")?;
        let _ = std::fs::remove_file(path);
        bytes.truncate(usize::try_from(Sequence::BYTES)?);
        Ok(bytes)
    }
}

/// The number of the last record on a disk that has all records up to it.
fn last_record(disk: &[u8]) -> Result<u64> {
    ensure!(
        disk.len() as u64 >= Sequence::BYTES,
        "the disk is too short"
    );
    let mut found = Vec::new();
    for (place, record) in disk
        .chunks_exact(usize::try_from(RECORD)?)
        .take(usize::try_from(PLACES)?)
        .enumerate()
    {
        found.push(number(record).with_context(|| format!("in place {place}"))?);
    }
    let last = found.iter().copied().max().unwrap_or(0);
    for n in last.saturating_sub(PLACES - 1)..=last {
        let got = found[usize::try_from(n * STRIDE % PLACES)?];
        // The place of 0 is empty until a record goes there.
        ensure!(
            got == n,
            "record {n} has {got} in its place, and the last is {last}"
        );
    }
    let written = last.min(PLACES);
    let used = found.iter().filter(|n| **n > 0).count() as u64;
    ensure!(
        used == written,
        "{used} places are used by {written} records"
    );
    Ok(last)
}

/// The number of a record; 0 where there is none.
fn number(record: &[u8]) -> Result<u64> {
    if record.iter().all(|b| *b == 0) {
        return Ok(0);
    }
    let mut numbers = record.chunks(SECTOR).map(|sector| {
        let text = std::str::from_utf8(sector).ok()?.strip_suffix('\n')?;
        text.trim_start_matches(' ').parse().ok()
    });
    let first = numbers
        .next()
        .flatten()
        .context("a record without a number")?;
    ensure!(
        numbers.all(|n| n == Some(first)),
        "a torn record, from {first} on"
    );
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(disk: &mut [u8], n: u64) {
        let record = format!("{n:>511}\n").repeat(8);
        let at = usize::try_from(n * STRIDE % PLACES * RECORD).expect("small");
        disk[at..at + record.len()].copy_from_slice(record.as_bytes());
    }

    fn written(last: u64) -> Vec<u8> {
        let mut disk = vec![0; usize::try_from(Sequence::BYTES).expect("small")];
        (1..=last).for_each(|n| write(&mut disk, n));
        disk
    }

    #[test]
    fn a_disk_shows_how_far_the_sequence_came() {
        for last in [0, 1, 100, PLACES - 1, PLACES, PLACES + 1, 3 * PLACES + 5] {
            let disk = written(last);
            assert_eq!(last_record(&disk).expect("whole"), last);
            assert!(Sequence { synced: last }.is_in(&disk).is_ok());
            assert!(Sequence { synced: last + 1 }.is_in(&disk).is_err());
        }
    }

    #[test]
    fn what_is_lost_torn_or_early_is_noticed() {
        let at = |n: u64| usize::try_from(n * STRIDE % PLACES * RECORD).expect("small");
        for last in [100, PLACES + 100] {
            let mut lost = written(last);
            lost[at(50)..][..4096].fill(0);
            let mut torn = written(last);
            torn[at(last)..][..512].fill(0);
            let mut early = written(last);
            write(&mut early, last + 2);
            let mut stale = written(last);
            write(&mut stale, 50 + 4 * PLACES);
            write(&mut stale, 50);
            for disk in [lost, torn, early] {
                assert!(last_record(&disk).is_err());
            }
            assert_eq!(last_record(&stale).is_err(), last > PLACES);
        }
        assert!(last_record(&[0; 4096]).is_err());
    }

    #[test]
    fn events_are_counted_in_order() {
        let mut sequence = Sequence::default();
        let events = |list: &[&str]| list.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>();
        sequence
            .catch_up(&events(&["synced 1", "synced 2"]))
            .expect("in order");
        assert_eq!(sequence.synced, 2);
        assert!(sequence.catch_up(&events(&["synced 4"])).is_err());
        assert!(sequence.catch_up(&events(&["failed 3: error"])).is_err());
        assert!(!sequence.note("stopped").expect("known"));
    }
}
