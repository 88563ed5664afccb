//! Checksums that formats keep over their headers.

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4), as VHDX uses it.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32, _| {
        if crc & 1 == 1 {
            crc >> 1 ^ POLYNOMIAL
        } else {
            crc >> 1
        }
    };
    !bytes
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// The complement of the sum of all bytes, as VPC uses it.
pub(crate) fn complement_sum(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(0_u32, |sum, byte| sum.wrapping_add((*byte).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        // RFC 3720, B.4, and the usual check value.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(complement_sum(&[1, 2, 255]), !258);
    }
}
