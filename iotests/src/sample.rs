//! Pieces of images that no tool here can make: tests build them from these.

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
    out.extend(adler32(data).to_be_bytes());
    out
}

/// The checksum at the end of a zlib stream (RFC 1950, section 8).
fn adler32(data: &[u8]) -> u32 {
    let (a, b) = data.iter().fold((1, 0), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (a + b) % 65521)
    });
    b << 16 | a
}

/// CRC-32C (Castagnoli), the checksum of VHDX.
#[must_use]
pub fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    };
    !data.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_their_specifications() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn a_stored_stream_has_blocks_and_a_checksum() {
        let out = zlib_stored(b"abc");
        assert_eq!(out[..10], *b"\x78\x01\x01\x03\x00\xfc\xffabc");
        assert_eq!(zlib_stored(&[0; 70_000]).len(), 2 + 2 * 5 + 70_000 + 4);
        assert_eq!(zlib_stored(b"").len(), 11);
    }
}
