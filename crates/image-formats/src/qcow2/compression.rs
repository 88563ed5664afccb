//! Compressed clusters.

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use serde::{Deserialize, Serialize};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// How compressed clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Raw deflate streams, type 0 (QEMU's `zlib`).
    Deflate,
    /// Zstandard, type 1; needs version 3.
    Zstd,
}

impl Compression {
    /// The number in the header.
    #[must_use]
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Deflate => 0,
            Self::Zstd => 1,
        }
    }

    /// The compression that a number in the header stands for.
    #[must_use]
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Deflate),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// The window of QEMU's inflate; deflate streams with longer distances are
/// refused by it.
const WINDOW: usize = 4096;
/// Binary logarithm of the largest zstd window that is accepted: 16 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 24;

/// Why a compressed cluster has no contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// The stream breaks the rules of its compression.
    #[error("the compressed data is damaged")]
    Damaged,
    /// The stream ends early.
    #[error("the compressed data expands to {0} bytes, less than a cluster")]
    TooShort(usize),
}

/// Compresses the contents of a cluster.
///
/// # Errors
///
/// When the compressor runs out of memory.
pub(crate) fn compress(data: &[u8], compression: Compression) -> std::io::Result<Vec<u8>> {
    match compression {
        Compression::Deflate => deflate(data),
        Compression::Zstd => zstd::bulk::compress(data, 3),
    }
}

/// A raw deflate stream that never looks back further than [`WINDOW`]: matches do not
/// cross a full flush.
fn deflate(data: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = Compress::new(flate2::Compression::default(), false);
    let mut out = Vec::with_capacity(data.len() / 2 + 64);
    let mut chunks = data.chunks(WINDOW).peekable();
    while let Some(mut chunk) = chunks.next() {
        let flush = if chunks.peek().is_some() {
            FlushCompress::Full
        } else {
            FlushCompress::Finish
        };
        loop {
            out.reserve(WINDOW);
            let before = stream.total_in();
            let status = stream.compress_vec(chunk, &mut out, flush)?;
            let taken = usize::try_from(stream.total_in() - before).unwrap_or(chunk.len());
            chunk = &chunk[taken.min(chunk.len())..];
            let flushed = chunk.is_empty() && out.len() < out.capacity();
            if status == Status::StreamEnd || (flushed && flush == FlushCompress::Full) {
                break;
            }
        }
    }
    Ok(out)
}

/// Expands a compressed cluster of `len` bytes; what follows the stream is ignored,
/// and so is what would exceed the cluster.
///
/// # Errors
///
/// The stream is damaged or expands to less than a cluster.
pub(crate) fn expand(
    data: &[u8],
    len: usize,
    compression: Compression,
) -> Result<Vec<u8>, InflateError> {
    let mut out = vec![0; len];
    let got = match compression {
        Compression::Deflate => inflate(data, &mut out)?,
        Compression::Zstd => unzstd(data, &mut out)?,
    };
    if got < len {
        Err(InflateError::TooShort(got))
    } else {
        Ok(out)
    }
}

fn inflate(data: &[u8], out: &mut [u8]) -> Result<usize, InflateError> {
    let mut stream = Decompress::new(false);
    let progress = |stream: &Decompress| (stream.total_in() as usize, stream.total_out() as usize);
    loop {
        let before = progress(&stream);
        let (input, output) = (&data[before.0.min(data.len())..], &mut out[before.1..]);
        let status = stream.decompress(input, output, FlushDecompress::Finish);
        let status = status.map_err(|_| InflateError::Damaged)?;
        let after = progress(&stream);
        if status == Status::StreamEnd || after == before || after.1 == out.len() {
            return Ok(after.1);
        }
    }
}

fn unzstd(data: &[u8], out: &mut [u8]) -> Result<usize, InflateError> {
    let damaged = |_| InflateError::Damaged;
    let mut stream = Decoder::new().map_err(damaged)?;
    let limit = DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX);
    stream.set_parameter(limit).map_err(damaged)?;
    let mut input = InBuffer::around(data);
    let len = out.len();
    let mut output = OutBuffer::around(out);
    loop {
        let before = (input.pos(), output.pos());
        let more = stream.run(&mut input, &mut output).map_err(damaged)?;
        let after = (input.pos(), output.pos());
        if more == 0 || after == before || after.1 == len {
            return Ok(after.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pattern::Pattern;

    #[test]
    fn what_is_compressed_expands() {
        let patterns = [
            Pattern::Fill(3),
            Pattern::Count(9),
            Pattern::Noise(1),
            Pattern::Bytes(b"some text, again. ".to_vec()),
        ];
        for compression in [Compression::Deflate, Compression::Zstd] {
            for pattern in &patterns {
                for len in [512, 4096, 65536, 1 << 21] {
                    let data = pattern.bytes(len);
                    let mut packed = compress(&data, compression).unwrap();
                    packed.resize(packed.len().next_multiple_of(512), 0xa5);
                    assert_eq!(
                        expand(&packed, len, compression),
                        Ok(data),
                        "{pattern:?} {len}"
                    );
                }
            }
        }
    }

    #[test]
    fn streams_that_end_early_say_so() {
        let packed = compress(&[1; 100], Compression::Deflate).unwrap();
        assert_eq!(
            expand(&packed, 512, Compression::Deflate),
            Err(InflateError::TooShort(100))
        );
        assert_eq!(
            expand(b"", 512, Compression::Zstd),
            Err(InflateError::TooShort(0))
        );
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = expand(&data, 4096, Compression::Deflate);
            let _ = expand(&data, 4096, Compression::Zstd);
            let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
            frame.extend(data);
            let _ = expand(&frame, 4096, Compression::Zstd);
        }
    }
}
