//! Pieces of images that no tool here can make: tests build them from these.

/// CRC-32C (Castagnoli), the checksum of VHDX.
pub use crc32c::crc32c;

/// A zlib stream (RFC 1950) that holds `data` as it is, in stored blocks
/// (RFC 1951, section 3.2.4).
#[must_use]
pub fn zlib_stored(data: &[u8]) -> Vec<u8> {
    const LONGEST: usize = 0xffff;
    let mut out = vec![0x78, 0x01];
    let mut rest = data;
    loop {
        let (block, next) = rest.split_at(rest.len().min(LONGEST));
        // A block's length is at most `LONGEST`, so both bytes are there.
        let length = block.len().to_le_bytes();
        out.push(u8::from(next.is_empty()));
        out.extend([length[0], length[1], !length[0], !length[1]]);
        out.extend(block);
        rest = next;
        if rest.is_empty() {
            break;
        }
    }
    out.extend(adler2::adler32_slice(data).to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_stream_has_blocks_and_a_checksum() {
        let out = zlib_stored(b"abc");
        assert_eq!(out, *b"\x78\x01\x01\x03\x00\xfc\xffabc\x02\x4d\x01\x27");
        assert_eq!(zlib_stored(&[0; 70_000]).len(), 2 + 2 * 5 + 70_000 + 4);
        assert_eq!(zlib_stored(b"").len(), 11);
    }
}
