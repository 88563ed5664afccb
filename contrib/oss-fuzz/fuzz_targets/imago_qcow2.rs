//! Opens any bytes as a qcow2 image with the crate imago, and reads the guest's disk.

#![no_main]

use std::fmt::{self, Display, Formatter};
use std::io;

use imago::io_buffers::{IoVector, IoVectorMut};
use imago::qcow2::Qcow2;
use imago::storage::drivers::CommonStorageHelper;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder as _, Storage};
use libfuzzer_sys::fuzz_target;

/// Bytes that are read at once, and how often.
const PIECE: u64 = 64 << 10;
const MAX_PIECES: u64 = 32;

/// The input as a file.
#[derive(Debug)]
struct Input {
    bytes: Vec<u8>,
    helper: CommonStorageHelper,
}

impl Display for Input {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

impl Storage for Input {
    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    unsafe fn pure_readv(&self, mut buffers: IoVectorMut<'_>, offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.bytes.get(start..).unwrap_or_default();
        let mut piece = vec![0; buffers.len() as usize];
        let count = rest.len().min(piece.len());
        piece[..count].copy_from_slice(&rest[..count]);
        buffers.copy_from_slice(&piece);
        Ok(())
    }

    unsafe fn pure_writev(&self, _: IoVector<'_>, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    unsafe fn invalidate_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn get_storage_helper(&self) -> &CommonStorageHelper {
        &self.helper
    }
}

fn read(bytes: &[u8]) -> io::Result<()> {
    let input = Input {
        bytes: bytes.to_vec(),
        helper: CommonStorageHelper::default(),
    };
    let image = Qcow2::<Input>::builder(input).open(DenyImplicitOpenGate::default())?;
    let disk = FormatAccess::new(image);
    let mut piece = vec![0; PIECE as usize];
    let pieces = disk.size().div_ceil(PIECE);
    // The first ones, and the last one.
    for number in (0..pieces.min(MAX_PIECES)).chain(pieces.checked_sub(1)) {
        let at = number * PIECE;
        let len = (disk.size() - at).min(PIECE) as usize;
        disk.read(&mut piece[..len], at)?;
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    // What is refused is no finding; a panic is.
    let _ = read(bytes);
});

#[cfg(feature = "mutator")]
mod mutator {
    use libfuzzer_sys::{fuzz_crossover, fuzz_mutator, fuzzer_mutate};

    fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
        match seed % 4 {
            // libFuzzer's own mutations know what the target compares.
            0 => fuzzer_mutate(data, size, max_size),
            _ => image_mutator::libfuzzer::mutate(data, size, max_size, seed),
        }
    });

    fuzz_crossover!(|one: &[u8], other: &[u8], out: &mut [u8], seed: u32| {
        image_mutator::libfuzzer::cross_over(one, other, out, seed)
    });
}
