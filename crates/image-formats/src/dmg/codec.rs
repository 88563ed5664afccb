//! The types of chunks, and how their data is compressed.

use std::io::{Read, Write as _};

use super::adc;

/// How the data of a chunk is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkType {
    /// Zeros, without data.
    Zero,
    /// As it is.
    Raw,
    /// Free space, without data; reads as zeros.
    Ignore,
    /// Compressed.
    Adc,
    Zlib,
    Bzip2,
    Lzfse,
    /// Compressed, and not read here.
    Lzma,
    /// No part of the disk.
    Comment,
    /// The end of the table.
    Terminator,
}

impl ChunkType {
    /// The type with this number.
    pub(super) fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Zero,
            1 => Self::Raw,
            2 => Self::Ignore,
            0x8000_0004 => Self::Adc,
            0x8000_0005 => Self::Zlib,
            0x8000_0006 => Self::Bzip2,
            0x8000_0007 => Self::Lzfse,
            0x8000_0008 => Self::Lzma,
            0x7fff_fffe => Self::Comment,
            0xffff_ffff => Self::Terminator,
            _ => return None,
        })
    }

    /// Its number.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Zero => 0,
            Self::Raw => 1,
            Self::Ignore => 2,
            Self::Adc => 0x8000_0004,
            Self::Zlib => 0x8000_0005,
            Self::Bzip2 => 0x8000_0006,
            Self::Lzfse => 0x8000_0007,
            Self::Lzma => 0x8000_0008,
            Self::Comment => 0x7fff_fffe,
            Self::Terminator => 0xffff_ffff,
        }
    }

    /// Whether it is a part of the disk.
    pub(super) fn is_data(self) -> bool {
        !matches!(self, Self::Comment | Self::Terminator)
    }

    /// Whether it has data in the file.
    pub(super) fn is_stored(self) -> bool {
        self.is_data() && !matches!(self, Self::Zero | Self::Ignore)
    }

    /// Expands the data of a chunk to `len` bytes.
    ///
    /// # Errors
    ///
    /// What is wrong with it: it is damaged, or expands to more or less.
    pub(super) fn expand(self, data: &[u8], len: usize) -> Result<Vec<u8>, String> {
        let out = match self {
            Self::Adc => adc::expand(data, len)?,
            Self::Zlib => bounded(flate2::read::ZlibDecoder::new(data), len)?,
            Self::Bzip2 => bounded(bzip2::read::BzDecoder::new(data), len)?,
            Self::Lzfse => {
                let mut decoder = lzfse_rust::LzfseRingDecoder::default();
                bounded(decoder.reader(data), len)?
            }
            Self::Raw => data.to_vec(),
            _ => vec![0; len],
        };
        if out.len() != len {
            let is = if out.len() < len { "less" } else { "more" };
            return Err(format!("it expands to {is} than {len} bytes"));
        }
        Ok(out)
    }

    /// Compresses `data`.
    ///
    /// # Errors
    ///
    /// The encoder fails; none does with data in memory.
    pub(super) fn compress(self, data: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Adc => Ok(adc::compress(data)),
            Self::Zlib => {
                let level = flate2::Compression::default();
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(data)?;
                encoder.finish()
            }
            Self::Bzip2 => {
                let level = bzip2::Compression::fast();
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), level);
                encoder.write_all(data)?;
                encoder.finish()
            }
            Self::Lzfse => {
                let mut out = Vec::new();
                let done = lzfse_rust::encode_bytes(data, &mut out);
                done.map_err(|error| std::io::Error::other(error.to_string()))?;
                Ok(out)
            }
            _ => Ok(data.to_vec()),
        }
    }
}

/// What `decoder` gives, but no more than one byte over `len`.
fn bounded(decoder: impl Read, len: usize) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut decoder = decoder.take(len as u64 + 1);
    match decoder.read_to_end(&mut out) {
        Ok(_) => Ok(out),
        Err(error) => Err(format!("it does not expand: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Pattern;

    const ALL: [ChunkType; 5] = [
        ChunkType::Raw,
        ChunkType::Adc,
        ChunkType::Zlib,
        ChunkType::Bzip2,
        ChunkType::Lzfse,
    ];

    #[test]
    fn what_was_compressed_expands_to_its_length_alone() {
        for pattern in [Pattern::Fill(7), Pattern::Count(1), Pattern::Noise(2)] {
            let data = pattern.bytes(40_000);
            for kind in ALL {
                let packed = kind.compress(&data).unwrap();
                assert_eq!(kind.expand(&packed, 40_000), Ok(data.clone()), "{kind:?}");
                assert!(kind.expand(&packed, 40_001).is_err(), "{kind:?}");
                if kind != ChunkType::Adc {
                    assert!(kind.expand(&packed, 39_999).is_err(), "{kind:?}");
                }
                let half = &packed[..packed.len() / 2];
                assert!(kind.expand(half, 40_000).is_err(), "{kind:?}");
            }
        }
    }

    #[test]
    fn damaged_data_is_an_error() {
        let data = Pattern::Count(1).bytes(4000);
        for kind in ALL.into_iter().skip(1) {
            let packed = kind.compress(&data).unwrap();
            for at in (0..packed.len()).step_by(7) {
                let mut damaged = packed.clone();
                damaged[at] ^= 0x55;
                let _ = kind.expand(&damaged, 4000);
            }
        }
    }
}
