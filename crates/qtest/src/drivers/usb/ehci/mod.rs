//! EHCI: a host controller with the first device of high speed that is attached to it.
//!
//! Enhanced Host Controller Interface for USB 1.0. All transfers are on the asynchronous list,
//! which has a queue head for each endpoint.

mod queue;
mod registers;

use std::collections::{BTreeMap, VecDeque};

use super::{Ending, Endpoint, Host, Setup, Transfer};
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};
use crate::pci::Pci;
use queue::{Head, Part, Pid};
use registers::Registers;

const NAME: &str = "ehci";

/// Serial bus, USB, EHCI.
const CLASS: u32 = 0x0c_03_20;

/// The address that the device gets, and the largest packet of its control pipe.
const ADDRESS: u8 = 1;
const CONTROL_PACKET: u16 = 64;

/// A transfer on its way, with its parts.
#[derive(Debug)]
struct OnItsWay {
    transfer: Transfer,
    parts: Vec<Part>,
}

/// An endpoint with what is on its way, and what waits for that.
#[derive(Debug)]
struct Pipe {
    head: Head,
    input: bool,
    current: Option<OnItsWay>,
    waiting: VecDeque<(Transfer, Buffer)>,
}

/// A controller.
#[derive(Debug)]
pub(super) struct Ehci {
    registers: Registers,
    control: Head,
    pipes: BTreeMap<u8, Pipe>,
    next: Transfer,
}

impl Ehci {
    /// Finds a controller and gives the first device that is attached to it an address.
    ///
    /// # Errors
    ///
    /// Fails if there is no controller with a device, or they do not answer.
    pub(super) fn open(guest: &mut Guest) -> Result<Self> {
        let pci = Pci::enumerate(guest)?;
        let function = pci.find_class(NAME, CLASS, 0xff_ff_ff)?;
        let registers = Registers::new(guest, function.memory(NAME, 0)?)?;
        let mut host = Self {
            registers,
            control: Head::control(guest, CONTROL_PACKET)?,
            pipes: BTreeMap::new(),
            next: 0,
        };
        host.set_up(guest)?;
        Ok(host)
    }

    fn set_up(&mut self, guest: &mut Guest) -> Result<()> {
        const SET_ADDRESS: u8 = 5;
        self.registers.reset(guest)?;
        self.control.set_address(guest, 0)?;
        self.registers.start(guest, self.control.memory)?;
        self.registers.attach(guest)?;
        let setup = Setup {
            kind: 0,
            request: SET_ADDRESS,
            value: ADDRESS.into(),
            index: 0,
        };
        super::request(self, guest, NAME, setup)?;
        self.control.set_address(guest, ADDRESS)
    }

    /// Sends what waits for an endpoint on which nothing is on its way.
    fn send(&mut self, guest: &mut Guest, address: u8) -> Result<()> {
        let Some(pipe) = self.pipes.get_mut(&address) else {
            return Ok(());
        };
        if pipe.current.is_some() {
            return Ok(());
        }
        if let Some((transfer, data)) = pipe.waiting.pop_front() {
            let pid = if pipe.input { Pid::In } else { Pid::Out };
            let parts = queue::parts(&data, pid, pipe.head.packet)?;
            let parts = pipe.head.send(guest, parts)?;
            pipe.current = Some(OnItsWay { transfer, parts });
        }
        Ok(())
    }
}

impl Host for Ehci {
    fn control(
        &mut self,
        guest: &mut Guest,
        setup: Setup,
        data: &Buffer,
    ) -> Result<Result<u64, String>> {
        let length = u16::try_from(data.len())
            .map_err(|_| Error::device(NAME, "too many data for the control pipe"))?;
        let request = guest.buffer(&[8], 64)?;
        guest.label("usb setup packet");
        guest.fill_buffer(&request, &setup.encode(length))?;
        let (stage, status) = if setup.is_input() && length > 0 {
            (Pid::In, Pid::Out)
        } else {
            (Pid::Out, Pid::In)
        };
        let mut parts = queue::parts(&request, Pid::Setup, 8)?;
        if length > 0 {
            // Packets of data and of the status begin with DATA1 (USB 2.0, 8.5.3).
            let stage = queue::parts(data, stage, CONTROL_PACKET)?;
            parts.extend(stage.into_iter().map(Part::toggled));
        }
        parts.push(Part::empty(status).toggled());
        let parts = self.control.send(guest, parts)?;
        let control = &self.control;
        let ending = guest.wait(NAME, "the end of a control transfer", |guest| {
            control.ending(guest, &parts)
        })?;
        control.end(guest, parts);
        guest.free_buffer(&request);
        match ending {
            Ending::Done(done) => Ok(Ok(done.saturating_sub(8))),
            Ending::Failed(why) => {
                self.control.recover(guest)?;
                Ok(Err(why))
            }
        }
    }

    fn configure(&mut self, guest: &mut Guest, endpoints: &[Endpoint]) -> Result<()> {
        for &endpoint in endpoints {
            let head = Head::bulk(guest, ADDRESS, endpoint)?;
            self.control.insert(guest, &head)?;
            let pipe = Pipe {
                head,
                input: endpoint.input,
                current: None,
                waiting: VecDeque::new(),
            };
            self.pipes.insert(endpoint.address(), pipe);
        }
        Ok(())
    }

    fn streams(&self) -> u16 {
        0
    }

    fn start(
        &mut self,
        guest: &mut Guest,
        endpoint: Endpoint,
        _stream: u16,
        data: &Buffer,
    ) -> Result<Transfer> {
        let transfer = self.next;
        let none = || Error::device(NAME, "the endpoint is not configured");
        let pipe = self.pipes.get_mut(&endpoint.address()).ok_or_else(none)?;
        pipe.waiting.push_back((transfer, data.clone()));
        self.next += 1;
        self.send(guest, endpoint.address())?;
        Ok(transfer)
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Transfer, Ending)>> {
        let mut ended = Vec::new();
        let addresses: Vec<u8> = self.pipes.keys().copied().collect();
        for address in addresses {
            let Some(pipe) = self.pipes.get_mut(&address) else {
                continue;
            };
            let Some(current) = pipe.current.take() else {
                continue;
            };
            let Some(ending) = pipe.head.ending(guest, &current.parts)? else {
                pipe.current = Some(current);
                continue;
            };
            pipe.head.end(guest, current.parts);
            let goes_on = matches!(ending, Ending::Done(_));
            ended.push((current.transfer, ending));
            if goes_on {
                self.send(guest, address)?;
            }
        }
        Ok(ended)
    }

    fn recover(&mut self, guest: &mut Guest, endpoint: Endpoint) -> Result<()> {
        let none = || Error::device(NAME, "the endpoint is not configured");
        let pipe = self.pipes.get_mut(&endpoint.address()).ok_or_else(none)?;
        pipe.waiting.clear();
        pipe.head.recover(guest)?;
        if let Some(current) = pipe.current.take() {
            pipe.head.end(guest, current.parts);
        }
        Ok(())
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        self.registers.reset(guest)?;
        for pipe in std::mem::take(&mut self.pipes).into_values() {
            if let Some(current) = pipe.current {
                pipe.head.end(guest, current.parts);
            }
            guest.free(pipe.head.memory);
        }
        guest.free(self.control.memory);
        self.control = Head::control(guest, CONTROL_PACKET)?;
        self.set_up(guest)
    }
}
