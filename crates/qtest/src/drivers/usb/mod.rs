//! USB: disks at a host controller.
//!
//! `Host` is what a host controller does for one device: it carries control and bulk transfers.
//! `bot` and `uas` carry SCSI commands over them. USB 3.1, chapter 9.

mod bot;
mod descriptors;
mod ehci;
mod uas;
mod xhci;

use crate::block::Disk;
use crate::drivers::scsi::ScsiDisk;
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};
use bot::Bot;
use descriptors::Interface;
use ehci::Ehci;
use uas::Uas;
use xhci::Xhci;

/// A bulk endpoint of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Its number, 1 to 15.
    number: u8,
    /// Whether data come from the device.
    input: bool,
    /// The largest packet in bytes.
    packet: u16,
    /// How many packets follow the first without a pause.
    burst: u8,
    /// How many streams it has; none where it has no streams.
    streams: u16,
}

impl Endpoint {
    /// As in descriptors and requests: the direction is the highest bit.
    const fn address(self) -> u8 {
        self.number | (self.input as u8) << 7
    }
}

/// A transfer that was started; unique within a host controller.
type Transfer = u64;

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ending {
    /// So many bytes were transferred.
    Done(u64),
    /// The endpoint or the controller objects, in the words of the specification. The endpoint
    /// is halted until it is recovered.
    Failed(String),
}

/// A request of the default control pipe, USB 3.1, 9.3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Setup {
    /// `bmRequestType`.
    kind: u8,
    /// `bRequest`.
    request: u8,
    /// `wValue`.
    value: u16,
    /// `wIndex`.
    index: u16,
}

impl Setup {
    /// With the length of the data in bytes.
    fn encode(self, length: u16) -> [u8; 8] {
        let [value, value_high] = self.value.to_le_bytes();
        let [index, index_high] = self.index.to_le_bytes();
        let [length, length_high] = length.to_le_bytes();
        [
            self.kind,
            self.request,
            value,
            value_high,
            index,
            index_high,
            length,
            length_high,
        ]
    }

    /// Whether data come from the device.
    const fn is_input(self) -> bool {
        self.kind & 0x80 != 0
    }
}

/// A host controller with the first device that is attached to it.
trait Host {
    /// Carries a request of the control pipe out; what was wrong if the device refuses it.
    ///
    /// # Errors
    ///
    /// Fails if the controller does not answer.
    fn control(
        &mut self,
        guest: &mut Guest,
        setup: Setup,
        data: &Buffer,
    ) -> Result<Result<u64, String>>;

    /// Makes bulk endpoints known to the controller.
    ///
    /// # Errors
    ///
    /// Fails if the controller refuses them.
    fn configure(&mut self, guest: &mut Guest, endpoints: &[Endpoint]) -> Result<()>;

    /// How many streams an endpoint can have, with stream 0; none where there are no streams.
    fn streams(&self) -> u16;

    /// Starts a transfer of a bulk endpoint, on a stream from 1 where it has streams.
    ///
    /// # Errors
    ///
    /// Fails if there are too many.
    fn start(
        &mut self,
        guest: &mut Guest,
        endpoint: Endpoint,
        stream: u16,
        data: &Buffer,
    ) -> Result<Transfer>;

    /// What ended since the last call, without waiting.
    ///
    /// # Errors
    ///
    /// Fails if the controller is not as it has to be.
    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Transfer, Ending)>>;

    /// Lets a bulk endpoint that was halted go on. Its transfers are given up.
    ///
    /// # Errors
    ///
    /// Fails if the controller refuses.
    fn recover(&mut self, guest: &mut Guest, endpoint: Endpoint) -> Result<()>;

    /// Resets the controller and the device, which is not configured then.
    ///
    /// # Errors
    ///
    /// Fails if they do not come back.
    fn reset(&mut self, guest: &mut Guest) -> Result<()>;
}

/// Reads a descriptor of the device.
fn descriptor(
    host: &mut impl Host,
    guest: &mut Guest,
    device: &'static str,
    kind: u8,
    length: u16,
) -> Result<Vec<u8>> {
    const GET_DESCRIPTOR: u8 = 6;
    let buffer = guest.buffer(&[length.into()], 64)?;
    let setup = Setup {
        kind: 0x80,
        request: GET_DESCRIPTOR,
        value: u16::from(kind) << 8,
        index: 0,
    };
    let answer = host.control(guest, setup, &buffer)?;
    let bytes = guest.buffer_bytes(&buffer)?;
    guest.free_buffer(&buffer);
    match answer {
        Ok(_) => Ok(bytes),
        Err(why) => Err(Error::device(device, format!("descriptor {kind}: {why}"))),
    }
}

/// A request without data.
fn request(
    host: &mut impl Host,
    guest: &mut Guest,
    device: &'static str,
    setup: Setup,
) -> Result<()> {
    match host.control(guest, setup, &Buffer::default())? {
        Ok(_) => Ok(()),
        Err(why) => {
            let what = format!("request {:#04x}: {why}", setup.request);
            Err(Error::device(device, what))
        }
    }
}

/// Reads what the device is, and configures it as a disk of this protocol.
fn configure(
    host: &mut impl Host,
    guest: &mut Guest,
    device: &'static str,
    protocol: u8,
) -> Result<Interface> {
    const SET_CONFIGURATION: u8 = 9;
    let header = descriptor(host, guest, device, descriptors::CONFIGURATION, 9)?;
    let length = u16::from_le_bytes([header[2], header[3]]);
    let whole = descriptor(
        host,
        guest,
        device,
        descriptors::CONFIGURATION,
        length.max(9),
    )?;
    let interface = descriptors::disk(&whole, protocol)
        .ok_or_else(|| Error::device(device, "the device is no disk of this protocol"))?;
    let setup = Setup {
        kind: 0,
        request: SET_CONFIGURATION,
        value: interface.configuration.into(),
        index: 0,
    };
    request(host, guest, device, setup)?;
    host.configure(guest, &interface.endpoints)?;
    Ok(interface)
}

/// Tells the device that an endpoint goes on (Clear Feature, Endpoint Halt).
fn clear_halt(
    host: &mut impl Host,
    guest: &mut Guest,
    device: &'static str,
    endpoint: Endpoint,
) -> Result<()> {
    const CLEAR_FEATURE: u8 = 1;
    const TO_ENDPOINT: u8 = 2;
    let setup = Setup {
        kind: TO_ENDPOINT,
        request: CLEAR_FEATURE,
        value: 0,
        index: endpoint.address().into(),
    };
    host.recover(guest, endpoint)?;
    request(host, guest, device, setup)
}

fn bot(guest: &mut Guest, host: impl Host + 'static) -> Result<Box<dyn Disk>> {
    let transport = Bot::open(guest, host)?;
    Ok(Box::new(ScsiDisk::open(guest, transport)?))
}

fn uas(guest: &mut Guest, host: impl Host + 'static) -> Result<Box<dyn Disk>> {
    let transport = Uas::open(guest, host)?;
    Ok(Box::new(ScsiDisk::open(guest, transport)?))
}

/// A disk with bulk-only transport at an xHCI controller.
///
/// # Errors
///
/// Fails if there is none, or it does not answer.
pub fn open_xhci_bot(guest: &mut Guest) -> Result<Box<dyn Disk>> {
    let host = Xhci::open(guest)?;
    bot(guest, host)
}

/// A disk with USB attached SCSI at an xHCI controller.
///
/// # Errors
///
/// Fails if there is none, or it does not answer.
pub fn open_xhci_uas(guest: &mut Guest) -> Result<Box<dyn Disk>> {
    let host = Xhci::open(guest)?;
    uas(guest, host)
}

/// A disk with bulk-only transport at an EHCI controller.
///
/// # Errors
///
/// Fails if there is none, or it does not answer.
pub fn open_ehci_bot(guest: &mut Guest) -> Result<Box<dyn Disk>> {
    let host = Ehci::open(guest)?;
    bot(guest, host)
}

/// A disk with USB attached SCSI at an EHCI controller.
///
/// # Errors
///
/// Fails if there is none, or it does not answer.
pub fn open_ehci_uas(guest: &mut Guest) -> Result<Box<dyn Disk>> {
    let host = Ehci::open(guest)?;
    uas(guest, host)
}
