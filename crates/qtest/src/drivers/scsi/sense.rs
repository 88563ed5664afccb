//! What a device says of a command that did not succeed: SAM-5 5.3 and SPC-4 4.5.

/// As many bytes of sense data as are asked for.
pub const LENGTH: u8 = 96;

/// The status of a command with sense data.
pub const CHECK_CONDITION: u8 = 0x02;

/// The key of a device that cannot be accessed, such as a drive without a medium.
pub const NOT_READY: u8 = 0x2;

/// The key of what happened to the device since, such as a reset.
pub const UNIT_ATTENTION: u8 = 0x6;

/// Sense data in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sense {
    /// The sense key, 0 to 15.
    pub key: u8,
    /// The additional sense code.
    pub asc: u8,
    /// Its qualifier.
    pub ascq: u8,
}

impl Sense {
    /// Reads sense data of the fixed format (SPC-4 4.5.3) or of the one with descriptors
    /// (4.5.2); nothing if they are too short or neither.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let at = |i: usize| bytes.get(i).copied();
        match at(0)? & 0x7f {
            0x70 | 0x71 => Some(Self {
                key: at(2)? & 15,
                asc: at(12).unwrap_or(0),
                ascq: at(13).unwrap_or(0),
            }),
            0x72 | 0x73 => Some(Self {
                key: at(1)? & 15,
                asc: at(2)?,
                ascq: at(3)?,
            }),
            _ => None,
        }
    }

    /// In the words of the standards: `ILLEGAL REQUEST, INVALID FIELD IN CDB (5/24/00)`.
    #[must_use]
    pub fn words(self) -> String {
        let Self { key, asc, ascq } = self;
        let code = CODES
            .iter()
            .find(|(a, q, _)| (*a, *q) == (asc, ascq))
            .map_or(String::new(), |(_, _, words)| format!(", {words}"));
        let name = KEYS.get(usize::from(key)).copied().unwrap_or("RESERVED");
        format!("{name}{code} ({key:x}/{asc:02x}/{ascq:02x})")
    }
}

/// SPC-4 4.5.6.
const KEYS: [&str; 16] = [
    "NO SENSE",
    "RECOVERED ERROR",
    "NOT READY",
    "MEDIUM ERROR",
    "HARDWARE ERROR",
    "ILLEGAL REQUEST",
    "UNIT ATTENTION",
    "DATA PROTECT",
    "BLANK CHECK",
    "VENDOR SPECIFIC",
    "COPY ABORTED",
    "ABORTED COMMAND",
    "RESERVED",
    "VOLUME OVERFLOW",
    "MISCOMPARE",
    "COMPLETED",
];

/// Additional sense codes that disks use: SPC-4 4.5.6 and annex F.
const CODES: &[(u8, u8, &str)] = &[
    (0x00, 0x06, "I/O PROCESS TERMINATED"),
    (0x04, 0x00, "LOGICAL UNIT NOT READY, CAUSE NOT REPORTABLE"),
    (0x04, 0x01, "LOGICAL UNIT IS IN PROCESS OF BECOMING READY"),
    (
        0x04,
        0x02,
        "LOGICAL UNIT NOT READY, INITIALIZING COMMAND REQUIRED",
    ),
    (0x0c, 0x00, "WRITE ERROR"),
    (0x0e, 0x01, "INFORMATION UNIT TOO SHORT"),
    (0x0e, 0x02, "INFORMATION UNIT TOO LONG"),
    (0x11, 0x00, "UNRECOVERED READ ERROR"),
    (0x1a, 0x00, "PARAMETER LIST LENGTH ERROR"),
    (0x1d, 0x00, "MISCOMPARE DURING VERIFY OPERATION"),
    (0x20, 0x00, "INVALID COMMAND OPERATION CODE"),
    (0x21, 0x00, "LOGICAL BLOCK ADDRESS OUT OF RANGE"),
    (0x24, 0x00, "INVALID FIELD IN CDB"),
    (0x25, 0x00, "LOGICAL UNIT NOT SUPPORTED"),
    (0x26, 0x00, "INVALID FIELD IN PARAMETER LIST"),
    (0x27, 0x00, "WRITE PROTECTED"),
    (0x27, 0x07, "SPACE ALLOCATION FAILED WRITE PROTECT"),
    (
        0x28,
        0x00,
        "NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED",
    ),
    (0x29, 0x00, "POWER ON, RESET, OR BUS DEVICE RESET OCCURRED"),
    (0x29, 0x01, "POWER ON OCCURRED"),
    (0x29, 0x02, "SCSI BUS RESET OCCURRED"),
    (0x29, 0x03, "BUS DEVICE RESET FUNCTION OCCURRED"),
    (0x29, 0x04, "DEVICE INTERNAL RESET"),
    (0x29, 0x07, "I_T NEXUS LOSS OCCURRED"),
    (0x2a, 0x01, "MODE PARAMETERS CHANGED"),
    (0x2a, 0x09, "CAPACITY DATA HAS CHANGED"),
    (0x2c, 0x00, "COMMAND SEQUENCE ERROR"),
    (0x39, 0x00, "SAVING PARAMETERS NOT SUPPORTED"),
    (0x3a, 0x00, "MEDIUM NOT PRESENT"),
    (0x3a, 0x01, "MEDIUM NOT PRESENT - TRAY CLOSED"),
    (0x3a, 0x02, "MEDIUM NOT PRESENT - TRAY OPEN"),
    (0x3f, 0x0e, "REPORTED LUNS DATA HAS CHANGED"),
    (0x44, 0x00, "INTERNAL TARGET FAILURE"),
    (0x4b, 0x01, "TOO MUCH WRITE DATA"),
    (0x4e, 0x00, "OVERLAPPED COMMANDS ATTEMPTED"),
    (0x53, 0x02, "MEDIUM REMOVAL PREVENTED"),
    (0x55, 0x00, "SYSTEM RESOURCE FAILURE"),
];

/// What a status is called: SAM-5 5.3.1.
#[must_use]
pub fn status_words(status: u8) -> String {
    let name = match status {
        0x00 => "GOOD",
        CHECK_CONDITION => "CHECK CONDITION",
        0x04 => "CONDITION MET",
        0x08 => "BUSY",
        0x18 => "RESERVATION CONFLICT",
        0x28 => "TASK SET FULL",
        0x30 => "ACA ACTIVE",
        0x40 => "TASK ABORTED",
        _ => return format!("status {status:#04x}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_sense_data_or_none(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(sense) = Sense::decode(&bytes) {
                prop_assert!(sense.key < 16);
                prop_assert!(!sense.words().is_empty());
            }
        }
    }

    #[test]
    fn both_formats_are_read() {
        let mut fixed = vec![0; 18];
        (fixed[0], fixed[2], fixed[12]) = (0x70, 0x05, 0x21);
        let sense = Sense::decode(&fixed).unwrap();
        assert_eq!(
            sense.words(),
            "ILLEGAL REQUEST, LOGICAL BLOCK ADDRESS OUT OF RANGE (5/21/00)"
        );
        assert_eq!(Sense::decode(&[0x72, 0x05, 0x21, 0]), Some(sense));
        assert_eq!(Sense::decode(&[0x72, 5]), None);
        assert_eq!(Sense::decode(&[0; 18]), None);
    }

    #[test]
    fn codes_without_words_are_numbers() {
        let sense = Sense {
            key: 0xb,
            asc: 0xc1,
            ascq: 2,
        };
        assert_eq!(sense.words(), "ABORTED COMMAND (b/c1/02)");
        assert_eq!(status_words(0x44), "status 0x44");
    }
}
