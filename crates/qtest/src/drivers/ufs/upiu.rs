//! Units of the protocol (UFS 3.1, section 10.7).

use super::NAME;
use crate::drivers::scsi::{Command, Outcome};
use crate::error::{Error, Result};

/// Types of units.
const NOP_OUT: u8 = 0x00;
const COMMAND: u8 = 0x01;
const QUERY: u8 = 0x16;
pub(super) const NOP_IN: u8 = 0x20;
const RESPONSE: u8 = 0x21;

/// Flags of a command: data come, data go.
const READ: u8 = 1 << 6;
const WRITE: u8 = 1 << 5;

/// Bytes of the header.
pub(super) const TASK_TAG: usize = 3;
const QUERY_FUNCTION: usize = 5;
pub(super) const RESPONSE_CODE: usize = 6;
const STATUS: usize = 7;

/// Functions of queries.
const STANDARD_READ: u8 = 0x01;
const STANDARD_WRITE: u8 = 0x81;

/// What a query does (section 10.7.8.3), and the flag fDeviceInit.
pub(super) const READ_FLAG: u8 = 0x05;
pub(super) const SET_FLAG: u8 = 0x06;
pub(super) const DEVICE_INIT: u8 = 0x01;

/// Where a response has the length of its sense data, and these.
const SENSE_LENGTH: usize = 32;

/// A request whether there is a device.
pub(super) fn nop_out() -> Vec<u8> {
    let mut bytes = vec![0; 32];
    bytes[0] = NOP_OUT;
    bytes
}

/// A query about a flag.
pub(super) fn query(operation: u8, flag: u8) -> Vec<u8> {
    let mut bytes = vec![0; 32];
    bytes[0] = QUERY;
    bytes[QUERY_FUNCTION] = if operation == READ_FLAG {
        STANDARD_READ
    } else {
        STANDARD_WRITE
    };
    (bytes[12], bytes[13]) = (operation, flag);
    bytes
}

/// The value of a flag in the response to a query.
pub(super) fn flag(response: &[u8]) -> u8 {
    response.get(23).copied().unwrap_or_default()
}

/// A SCSI command to logical unit 0.
pub(super) fn command(command: &Command) -> Result<Vec<u8>> {
    if command.cdb.is_empty() || command.cdb.len() > 16 {
        let what = format!("a command of {} bytes", command.cdb.len());
        return Err(Error::device(NAME, what));
    }
    let length = u32::try_from(command.data.len())
        .map_err(|_| Error::device(NAME, "a transfer is shorter than 4 GiB"))?;
    let flags = match length {
        0 => 0,
        _ if command.data.is_in() => READ,
        _ => WRITE,
    };
    let mut bytes = vec![COMMAND, flags];
    bytes.resize(12, 0);
    bytes.extend(length.to_be_bytes());
    bytes.extend(&command.cdb);
    bytes.resize(32, 0);
    Ok(bytes)
}

/// How a command ended.
pub(super) fn outcome(response: &[u8]) -> Outcome {
    const TARGET_SUCCESS: u8 = 0;
    let byte = |at: usize| response.get(at).copied().unwrap_or_default();
    if byte(0) != RESPONSE {
        let why = format!("a response of type {:#04x}", byte(0));
        return Outcome::Lost { why };
    }
    let status = byte(STATUS);
    if byte(RESPONSE_CODE) != TARGET_SUCCESS && status == 0 {
        return Outcome::Lost {
            why: "target failure".to_owned(),
        };
    }
    let length = u16::from_be_bytes([byte(SENSE_LENGTH), byte(SENSE_LENGTH + 1)]);
    let sense = response.get(SENSE_LENGTH + 2..).unwrap_or_default();
    let sense = sense.iter().copied().take(length.into()).collect();
    Outcome::Ended { status, sense }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::scsi::Data;
    use proptest::prelude::*;

    #[test]
    fn a_command_has_its_length_in_big_endian() {
        let buffer = crate::guest::Buffer {
            pieces: vec![(0, 0x1200)],
        };
        let cdb = vec![0x28, 1];
        let data = Data::Out(buffer);
        let bytes = command(&Command { cdb, data }).unwrap();
        assert_eq!(bytes[..2], [1, 0x20]);
        assert_eq!(bytes[12..18], [0, 0, 0x12, 0, 0x28, 1]);
        assert_eq!(bytes.len(), 32);
    }

    #[test]
    fn a_response_has_sense_data() {
        let mut response = vec![0; 64];
        (response[0], response[7], response[33], response[34]) = (0x21, 2, 1, 0x70);
        let expected = Outcome::Ended {
            status: 2,
            sense: vec![0x70],
        };
        assert_eq!(outcome(&response), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_outcome(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = outcome(&bytes);
        }
    }
}
