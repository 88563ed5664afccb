//! What a completion's status means, in the words of section 4.6.1.

use crate::block::Status;

/// Status code types (figure 127).
const GENERIC: u16 = 0;
const COMMAND_SPECIFIC: u16 = 1;
const MEDIA: u16 = 2;

/// Status code type and code, and their words (figures 128 to 131).
const WORDS: &[(u16, u16, &str)] = &[
    (GENERIC, 0x01, "invalid command opcode"),
    (GENERIC, 0x02, "invalid field in command"),
    (GENERIC, 0x03, "command ID conflict"),
    (GENERIC, 0x04, "data transfer error"),
    (
        GENERIC,
        0x05,
        "commands aborted due to power loss notification",
    ),
    (GENERIC, 0x06, "internal error"),
    (GENERIC, 0x07, "command abort requested"),
    (GENERIC, 0x08, "command aborted due to SQ deletion"),
    (GENERIC, 0x0b, "invalid namespace or format"),
    (GENERIC, 0x0c, "command sequence error"),
    (GENERIC, 0x0d, "invalid SGL segment descriptor"),
    (GENERIC, 0x0e, "invalid number of SGL descriptors"),
    (GENERIC, 0x0f, "data SGL length invalid"),
    (GENERIC, 0x10, "metadata SGL length invalid"),
    (GENERIC, 0x11, "SGL descriptor type invalid"),
    (GENERIC, 0x13, "PRP offset invalid"),
    (GENERIC, 0x15, "operation denied"),
    (GENERIC, 0x16, "SGL offset invalid"),
    (GENERIC, 0x1c, "SGL data block granularity invalid"),
    (GENERIC, 0x20, "namespace is write protected"),
    (GENERIC, 0x80, "LBA out of range"),
    (GENERIC, 0x81, "capacity exceeded"),
    (GENERIC, 0x82, "namespace not ready"),
    (COMMAND_SPECIFIC, 0x00, "completion queue invalid"),
    (COMMAND_SPECIFIC, 0x01, "invalid queue identifier"),
    (COMMAND_SPECIFIC, 0x02, "invalid queue size"),
    (COMMAND_SPECIFIC, 0x03, "abort command limit exceeded"),
    (COMMAND_SPECIFIC, 0x08, "invalid interrupt vector"),
    (COMMAND_SPECIFIC, 0x80, "conflicting attributes"),
    (COMMAND_SPECIFIC, 0x81, "invalid protection information"),
    (COMMAND_SPECIFIC, 0x82, "attempted write to read only range"),
    (MEDIA, 0x80, "write fault"),
    (MEDIA, 0x81, "unrecovered read error"),
    (MEDIA, 0x82, "end-to-end guard check error"),
    (MEDIA, 0x85, "compare failure"),
    (MEDIA, 0x86, "access denied"),
    (MEDIA, 0x87, "deallocated or unwritten logical block"),
];

/// The status of a request from the status field of its completion, without the phase.
pub(super) fn status(field: u16) -> Status {
    match words(field) {
        None => Status::Done,
        Some(why) => Status::Failed { why },
    }
}

/// What a status field says; nothing if it is success.
pub(super) fn words(field: u16) -> Option<String> {
    let (kind, code) = (field >> 8 & 7, field & 0xff);
    if (kind, code) == (GENERIC, 0) {
        return None;
    }
    let known = WORDS.iter().find(|(t, c, _)| (*t, *c) == (kind, code));
    Some(known.map_or_else(
        || format!("status code type {kind:#x}, status code {code:#04x}"),
        |(_, _, text)| (*text).to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_words() {
        assert_eq!(status(0), Status::Done);
        // More, and Do Not Retry, are no part of the code.
        assert_eq!(words(0x6080).as_deref(), Some("LBA out of range"));
        assert_eq!(
            words(0x2ff).as_deref(),
            Some("status code type 0x2, status code 0xff")
        );
    }
}
