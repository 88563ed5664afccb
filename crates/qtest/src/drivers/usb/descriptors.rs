//! What a device says of itself: descriptors (USB 3.1, 9.6).

use super::Endpoint;

/// Types of descriptors (table 9-6).
pub(super) const CONFIGURATION: u8 = 2;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;
const COMPANION: u8 = 0x30;
/// What an endpoint is for (UAS, 5.2.3.2).
const PIPE_USAGE: u8 = 0x24;

/// The class of disks, and the subclass of those with SCSI commands.
const MASS_STORAGE: u8 = 8;
const SCSI: u8 = 6;

/// Protocols of disks (Mass Storage Class Overview, section 3).
pub(super) const BULK_ONLY: u8 = 0x50;
pub(super) const UAS: u8 = 0x62;

/// The interface of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    /// The number of its configuration.
    pub(super) configuration: u8,
    pub(super) number: u8,
    /// Those for bulk transfers, in their order.
    pub(super) endpoints: Vec<Endpoint>,
    /// What each of them is for, 0 where that is not said.
    pub(super) usage: Vec<u8>,
}

impl Interface {
    /// The first endpoint of a direction.
    pub(super) fn direction(&self, input: bool) -> Option<Endpoint> {
        self.endpoints.iter().find(|e| e.input == input).copied()
    }

    /// The endpoint for something.
    pub(super) fn used_for(&self, usage: u8) -> Option<Endpoint> {
        let mut both = self.endpoints.iter().zip(&self.usage);
        both.find(|(_, u)| **u == usage).map(|(e, _)| *e)
    }
}

/// The first disk of a protocol in a configuration.
pub(super) fn disk(bytes: &[u8], protocol: u8) -> Option<Interface> {
    let mut found: Option<Interface> = None;
    let mut inside = false;
    let configuration = *bytes.get(5)?;
    let mut rest = bytes;
    while let [length, kind, ..] = *rest {
        let whole = rest.get(..length.into())?;
        if length < 2 {
            return None;
        }
        rest = &rest[length.into()..];
        match (kind, whole) {
            (INTERFACE, [_, _, number, _, _, class, subclass, speaks, ..]) => {
                inside = found.is_none()
                    && [*class, *subclass, *speaks] == [MASS_STORAGE, SCSI, protocol];
                if inside {
                    found = Some(Interface {
                        configuration,
                        number: *number,
                        ..Interface::default()
                    });
                }
            }
            (ENDPOINT, [_, _, address, attributes, low, high, ..]) if inside => {
                let bulk = attributes & 3 == 2;
                if let Some(interface) = found.as_mut().filter(|_| bulk) {
                    interface.endpoints.push(Endpoint {
                        number: address & 15,
                        input: address & 0x80 != 0,
                        packet: u16::from_le_bytes([*low, *high]) & 0x7ff,
                        ..Endpoint::default()
                    });
                    interface.usage.push(0);
                }
            }
            (COMPANION, [_, _, burst, attributes, ..]) if inside => {
                if let Some(last) = found.as_mut().and_then(|i| i.endpoints.last_mut()) {
                    last.burst = *burst;
                    let streams = u32::from(attributes & 31);
                    last.streams = if streams == 0 {
                        0
                    } else {
                        1 << streams.min(15)
                    };
                }
            }
            (PIPE_USAGE, [_, _, usage, ..]) if inside => {
                if let Some(last) = found.as_mut().and_then(|i| i.usage.last_mut()) {
                    *last = *usage;
                }
            }
            _ => {}
        }
    }
    found.filter(|interface| !interface.endpoints.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_disk_is_found() {
        let mut bytes = vec![9, 2, 0, 0, 1, 1, 0, 0xc0, 0];
        bytes.extend([9, 4, 0, 0, 2, 8, 6, 0x62, 0]);
        bytes.extend([7, 5, 0x01, 2, 0, 4, 0, 6, 0x30, 15, 0, 0, 0, 4, 0x24, 1, 0]);
        bytes.extend([7, 5, 0x82, 2, 0, 4, 0, 6, 0x30, 15, 4, 0, 0, 4, 0x24, 2, 0]);
        let found = disk(&bytes, UAS).unwrap();
        assert_eq!((found.configuration, found.usage.clone()), (1, vec![1, 2]));
        let status = found.used_for(2).unwrap();
        assert_eq!((status.address(), status.streams), (0x82, 16));
        assert_eq!((status.packet, status.burst), (1024, 15));
        assert_eq!(found.direction(false).unwrap().number, 1);
        assert_eq!(disk(&bytes, BULK_ONLY), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_disk_or_not(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = disk(&bytes, UAS);
        }
    }
}
