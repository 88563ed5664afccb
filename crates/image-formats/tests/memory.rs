//! Hostile images as long as a terabyte are decoded in little memory: the only test of
//! its process, since it looks at the most memory that the process ever had.

#[path = "common/exercise.rs"]
mod exercise;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use image_formats::ReadAt;
use image_formats::qcow2::{Disk, GuestOffset, Image};

use exercise::{BASES, exercise};

/// The length of the file: 1 TiB.
const LEN: u64 = 1 << 40;

/// A file with a header at its start and then one repeated 8-byte word, which
/// counts what is read of it.
struct Huge {
    head: Vec<u8>,
    word: u64,
    longest: AtomicU64,
    total: AtomicU64,
}

impl ReadAt for Huge {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let count = LEN.saturating_sub(offset).min(buf.len() as u64) as usize;
        self.longest.fetch_max(buf.len() as u64, Ordering::Relaxed);
        self.total.fetch_add(count as u64, Ordering::Relaxed);
        let word = self.word.to_be_bytes();
        for (at, byte) in (offset..).zip(&mut buf[..count]) {
            *byte = word[(at % 8) as usize];
        }
        if let Some(rest) = self
            .head
            .get(usize::try_from(offset).unwrap_or(usize::MAX)..)
        {
            let known = rest.len().min(count);
            buf[..known].copy_from_slice(&rest[..known]);
        }
        Ok(count)
    }

    fn len(&self) -> u64 {
        LEN
    }

    fn next_data(&self, offset: u64) -> Option<Range<u64>> {
        let hole = self.word == 0 && offset >= self.head.len() as u64;
        (!hole && offset < LEN).then_some(offset..LEN)
    }
}

/// A header whose every count and length is as large as its field, with clusters of
/// `cluster_bits`.
fn header(cluster_bits: u32) -> Vec<u8> {
    let mut head = BASES[1][..512].to_vec();
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(20, &cluster_bits.to_be_bytes());
    put(24, &0x7fff_ffff_ffff_fe00_u64.to_be_bytes()); // size
    put(36, &u32::MAX.to_be_bytes()); // l1_size
    put(40, &(1_u64 << 22).to_be_bytes()); // l1_table_offset
    put(48, &(1_u64 << 23).to_be_bytes()); // refcount_table_offset
    put(56, &u32::MAX.to_be_bytes()); // refcount_table_clusters
    put(60, &u32::MAX.to_be_bytes()); // nb_snapshots
    put(64, &(1_u64 << 24).to_be_bytes()); // snapshots_offset
    // One extension, the bitmaps: as many as the field can hold, in an endless directory.
    put(112, &0x2385_2875_u32.to_be_bytes());
    put(116, &24_u32.to_be_bytes());
    put(120, &u32::MAX.to_be_bytes());
    put(124, &[0; 4]);
    put(128, &u64::MAX.to_be_bytes());
    put(136, &(1_u64 << 25).to_be_bytes());
    put(144, &[0; 8]);
    head
}

/// The most memory this process has had, in KiB; 0 where the system does not report it.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}

#[test]
fn a_hostile_terabyte_takes_little_memory() {
    // What comes before counts for nothing: the base images, the test's own threads.
    exercise(&BASES[1]);
    let before = peak();
    // Zeros, ones, and entries that point into the file, with the flag for copied.
    for (word, bits) in [
        (0, &[9, 16, 21][..]),
        (u64::MAX, &[16]),
        (1 << 63 | 1 << 30, &[9]),
    ] {
        for &cluster_bits in bits {
            let huge = Arc::new(Huge {
                head: header(cluster_bits),
                word,
                longest: AtomicU64::new(0),
                total: AtomicU64::new(0),
            });
            let what = format!("{word:#x}, clusters of 2^{cluster_bits}");
            let (mut image, defects) = Image::decode(Arc::clone(&huge) as Arc<dyn ReadAt>).unwrap();
            assert!(!defects.is_empty() && defects.len() <= 4097, "{what}");
            assert!(image.used_fields().take(20_000).count() > 30, "{what}");
            for disk in [Disk::Active, Disk::Snapshot(0)] {
                let mut guest = image.guest(disk, None, None).unwrap();
                let mut buf = [0; 4096];
                for offset in [0, 1 << 40, (1 << 62) + 4096] {
                    // Whether it can be read is not the question.
                    let _ = guest.read(GuestOffset(offset), &mut buf);
                }
            }
            let _ = image.recompute_refcounts();
            // Twice the largest cluster is the most that a compressed one can take.
            let longest = huge.longest.load(Ordering::Relaxed);
            assert!(longest <= 4 << 20, "{what}: a read of {longest} bytes");
            let total = huge.total.load(Ordering::Relaxed);
            assert!(total <= 2 << 30, "{what}: {total} bytes read");
        }
    }
    let grown = peak().saturating_sub(before);
    assert!(grown <= 192 << 10, "{grown} KiB more than before");
}
