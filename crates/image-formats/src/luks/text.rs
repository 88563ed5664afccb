//! Text in fields of fixed length.

/// What comes before the first zero byte.
pub(super) fn until_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    let len = bytes.iter().position(|byte| *byte == 0);
    bytes.truncate(len.unwrap_or(bytes.len()));
    bytes
}

/// Whether the text is a UUID: groups of 8, 4, 4, 4 and 12 hexadecimal digits.
pub(super) fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_and_uuids_are_known() {
        assert_eq!(until_zero(b"aes\0x".to_vec()), b"aes");
        assert_eq!(until_zero(b"aes".to_vec()), b"aes");
        assert!(is_uuid(b"00000000-0000-4000-8000-00000000000a"));
        assert!(!is_uuid(b"00000000-0000-4000-8000-00000000000"));
        assert!(!is_uuid(b"00000000+0000-4000-8000-00000000000a"));
    }
}
