//! xHCI: a host controller with the first device that is attached to it.
//!
//! Extensible Host Controller Interface for USB 1.2.

mod device;
mod registers;
mod ring;

use std::collections::BTreeMap;

use super::{Ending, Endpoint, Host, Setup, Transfer};
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};
use crate::pci::Pci;
use device::Device;
use registers::Registers;
use ring::{Block, Events, Ring, flag, kind};

const NAME: &str = "xhci";

/// Serial bus, USB, xHCI.
const CLASS: u32 = 0x0c_03_30;

/// The most that a block names, and what it does not cross (table 6-21).
const BOUNDARY: u64 = 64 << 10;

/// Completion codes (table 6-90).
mod code {
    pub(super) const SUCCESS: u32 = 1;
    pub(super) const SHORT_PACKET: u32 = 13;
}

/// Completion codes and what they are called.
const CODES: &[(u32, &str)] = &[
    (2, "data buffer error"),
    (3, "babble detected error"),
    (4, "USB transaction error"),
    (5, "TRB error"),
    (6, "stall error"),
    (7, "resource error"),
    (9, "no slots available error"),
    (10, "invalid stream type error"),
    (11, "slot not enabled error"),
    (12, "endpoint not enabled error"),
    (17, "parameter error"),
    (19, "context state error"),
    (26, "stopped"),
    (27, "stopped, length invalid"),
    (34, "invalid stream ID error"),
];

fn words(code: u32) -> String {
    let known = CODES.iter().find(|(number, _)| *number == code);
    known.map_or_else(
        || format!("completion code {code}"),
        |(_, text)| (*text).to_owned(),
    )
}

/// The number of an endpoint in a device context (section 4.5.1): that of the control pipe is 1.
const CONTROL: u8 = 1;

const fn context_index(endpoint: Endpoint) -> u8 {
    2 * endpoint.number + endpoint.input as u8
}

/// A transfer on its way.
#[derive(Debug)]
struct OnItsWay {
    /// The endpoint's number in the context, and the stream.
    pipe: (u8, u16),
    /// The blocks, and how many bytes there are up to the end of each.
    blocks: Vec<(u64, u64)>,
}

/// A controller.
#[derive(Debug)]
pub(super) struct Xhci {
    registers: Registers,
    commands: Ring,
    events: Events,
    device: Device,
    rings: BTreeMap<(u8, u16), Ring>,
    running: BTreeMap<Transfer, OnItsWay>,
    ended: Vec<(Transfer, Ending)>,
    /// The completion of a command: the address of its block, and the event.
    completion: Option<Block>,
    next: Transfer,
}

impl Xhci {
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
            device: Device::new(guest, &registers)?,
            registers,
            commands: Ring::new(guest)?,
            events: Events::new(guest)?,
            rings: BTreeMap::new(),
            running: BTreeMap::new(),
            ended: Vec::new(),
            completion: None,
            next: 0,
        };
        host.set_up(guest)?;
        Ok(host)
    }

    /// Starts the controller with rings that are empty, and gives the device an address.
    fn set_up(&mut self, guest: &mut Guest) -> Result<()> {
        self.registers.reset(guest)?;
        self.registers.start(
            guest,
            self.device.contexts,
            self.commands.pointer(),
            &self.events,
        )?;
        let port = self.registers.attach(guest)?;
        let slot = self.command(guest, Block::new(kind::ENABLE_SLOT, 0, 0, 0))?;
        let slot = (slot.control >> 24) as u8;
        let control = Ring::new(guest)?;
        self.rings.insert((CONTROL, 0), control);
        self.device.address(guest, slot, port, control.pointer())?;
        let input = self.device.input;
        let block = Block::new(kind::ADDRESS_DEVICE, input, 0, u32::from(slot) << 24);
        self.command(guest, block).map(drop)
    }

    /// Carries a command out; the event that says so.
    fn command(&mut self, guest: &mut Guest, block: Block) -> Result<Block> {
        let address = self.commands.push(guest, "xhci command", &[block])?;
        self.completion = None;
        self.registers.ring(guest, 0, 0)?;
        let event = guest.wait(NAME, "the end of a command", |guest| {
            self.collect(guest)?;
            Ok(self
                .completion
                .take_if(|event| address.contains(&event.parameter)))
        })?;
        self.commands.ended(1);
        if event.code() != code::SUCCESS {
            let what = format!("command {}: {}", block.kind(), words(event.code()));
            return Err(Error::device(NAME, what));
        }
        Ok(event)
    }

    /// Looks at the events that came.
    fn collect(&mut self, guest: &mut Guest) -> Result<()> {
        let mut any = false;
        while let Some(event) = self.events.take(guest)? {
            any = true;
            match event.kind() {
                kind::TRANSFER_EVENT => self.transfer_event(event),
                kind::COMMAND_COMPLETION => self.completion = Some(event),
                _ => {}
            }
        }
        if any {
            self.registers.acknowledge(guest, self.events.pointer())?;
        }
        Ok(())
    }

    fn transfer_event(&mut self, event: Block) {
        let found = self.running.iter().find_map(|(transfer, running)| {
            let block = running.blocks.iter().find(|b| b.0 == event.parameter)?;
            Some((*transfer, block.1))
        });
        // A second event of a transfer that was short says nothing new.
        let Some((transfer, up_to)) = found else {
            return;
        };
        let Some(running) = self.running.remove(&transfer) else {
            return;
        };
        if let Some(ring) = self.rings.get_mut(&running.pipe) {
            ring.ended(running.blocks.len() as u64);
        }
        let left = u64::from(event.status & 0x00ff_ffff);
        let ending = match event.code() {
            code::SUCCESS | code::SHORT_PACKET => Ending::Done(up_to.saturating_sub(left)),
            other => Ending::Failed(words(other)),
        };
        self.ended.push((transfer, ending));
    }

    /// Sends blocks to an endpoint.
    fn send(
        &mut self,
        guest: &mut Guest,
        pipe: (u8, u16),
        blocks: &[Block],
        ends: &[u64],
    ) -> Result<Transfer> {
        let none = || Error::device(NAME, "the endpoint is not configured");
        let ring = self.rings.get_mut(&pipe).ok_or_else(none)?;
        let addresses = ring.push(guest, "xhci transfer request block", blocks)?;
        let transfer = self.next;
        self.next += 1;
        let blocks = addresses.into_iter().zip(ends.iter().copied()).collect();
        self.running.insert(transfer, OnItsWay { pipe, blocks });
        let target = u32::from(pipe.0) | u32::from(pipe.1) << 16;
        self.registers
            .ring(guest, self.device.slot.into(), target)?;
        Ok(transfer)
    }

    /// Lets an endpoint that is halted go on behind what was sent to it (section 4.6.8).
    fn restart(&mut self, guest: &mut Guest, index: u8) -> Result<()> {
        let target = u32::from(self.device.slot) << 24 | u32::from(index) << 16;
        if self.device.is_halted(guest, index)? {
            let block = Block::new(kind::RESET_ENDPOINT, 0, 0, target);
            self.command(guest, block)?;
        } else if self.running.values().all(|r| r.pipe.0 != index) {
            return Ok(());
        }
        self.running.retain(|_, running| running.pipe.0 != index);
        let pipes: Vec<_> = self
            .rings
            .keys()
            .filter(|p| p.0 == index)
            .copied()
            .collect();
        for pipe in pipes {
            const LINEAR: u64 = 1 << 1;
            let Some(ring) = self.rings.get_mut(&pipe) else {
                continue;
            };
            ring.all_ended();
            let kind_of_stream = if pipe.1 > 0 { LINEAR } else { 0 };
            let pointer = ring.pointer() | kind_of_stream;
            let status = u32::from(pipe.1) << 16;
            self.command(
                guest,
                Block::new(kind::SET_DEQUEUE, pointer, status, target),
            )?;
        }
        Ok(())
    }
}

/// The blocks for a buffer, and how many bytes there are up to the end of each.
fn normal(data: &Buffer, packet: u16) -> (Vec<Block>, Vec<u64>) {
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for &(start, length) in &data.pieces {
        let (mut at, end) = (start, start + u64::from(length));
        while at < end {
            let next = (at / BOUNDARY + 1) * BOUNDARY;
            parts.push((at, end.min(next) - at));
            at = end.min(next);
        }
    }
    let whole = data.len();
    let last = parts.len().saturating_sub(1);
    let (mut blocks, mut ends, mut done) = (Vec::new(), Vec::new(), 0);
    for (index, (at, length)) in parts.into_iter().enumerate() {
        done += length;
        // How many packets come behind this block (section 4.11.2.4).
        let packets = (whole - done).div_ceil(u64::from(packet.max(1))).min(31);
        let status = u32::try_from(length | packets << 17).unwrap_or(0);
        let control = if index == last {
            flag::INTERRUPT
        } else {
            flag::CHAIN
        };
        let control = control | flag::INTERRUPT_ON_SHORT;
        blocks.push(Block::new(kind::NORMAL, at, status, control));
        ends.push(done);
    }
    (blocks, ends)
}

impl Host for Xhci {
    fn control(
        &mut self,
        guest: &mut Guest,
        setup: Setup,
        data: &Buffer,
    ) -> Result<Result<u64, String>> {
        const INPUT: u32 = 1 << 16;
        const INPUT_STAGE: u32 = 3 << 16;
        const OUTPUT_STAGE: u32 = 2 << 16;
        let length = u16::try_from(data.len())
            .map_err(|_| Error::device(NAME, "too many data for the control pipe"))?;
        let stage = match (length, setup.is_input()) {
            (0, _) => 0,
            (_, true) => INPUT_STAGE,
            (_, false) => OUTPUT_STAGE,
        };
        let parameter = u64::from_le_bytes(setup.encode(length));
        let mut blocks = vec![Block::new(
            kind::SETUP,
            parameter,
            8,
            flag::IMMEDIATE | stage,
        )];
        if let Some(&(address, length)) = data.pieces.first() {
            let direction = if setup.is_input() { INPUT } else { 0 };
            blocks.push(Block::new(kind::DATA, address, length, direction));
        }
        // The status goes the other way than the data.
        let direction = if setup.is_input() && length > 0 {
            0
        } else {
            INPUT
        };
        let control = direction | flag::INTERRUPT;
        blocks.push(Block::new(kind::STATUS, 0, 0, control));
        let ends = vec![u64::from(length); blocks.len()];
        let transfer = self.send(guest, (CONTROL, 0), &blocks, &ends)?;
        let ending = guest.wait(NAME, "the end of a control transfer", |guest| {
            self.collect(guest)?;
            let at = self.ended.iter().position(|(ended, _)| *ended == transfer);
            Ok(at.map(|at| self.ended.remove(at).1))
        })?;
        match ending {
            Ending::Done(length) => Ok(Ok(length)),
            Ending::Failed(why) => {
                self.restart(guest, CONTROL)?;
                Ok(Err(why))
            }
        }
    }

    fn configure(&mut self, guest: &mut Guest, endpoints: &[Endpoint]) -> Result<()> {
        for &endpoint in endpoints {
            let index = context_index(endpoint);
            let streams = self.registers.streams.min(endpoint.streams);
            if streams == 0 {
                self.rings.insert((index, 0), Ring::new(guest)?);
            }
            for stream in 1..streams {
                self.rings.insert((index, stream), Ring::new(guest)?);
            }
            self.device.add(guest, endpoint, streams, &self.rings)?;
        }
        self.device.finish(guest)?;
        let slot = u32::from(self.device.slot) << 24;
        let block = Block::new(kind::CONFIGURE_ENDPOINT, self.device.input, 0, slot);
        self.command(guest, block).map(drop)
    }

    fn streams(&self) -> u16 {
        self.registers.streams
    }

    fn start(
        &mut self,
        guest: &mut Guest,
        endpoint: Endpoint,
        stream: u16,
        data: &Buffer,
    ) -> Result<Transfer> {
        let (blocks, ends) = normal(data, endpoint.packet);
        let pipe = (context_index(endpoint), stream);
        self.send(guest, pipe, &blocks, &ends)
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Transfer, Ending)>> {
        self.collect(guest)?;
        Ok(std::mem::take(&mut self.ended))
    }

    fn recover(&mut self, guest: &mut Guest, endpoint: Endpoint) -> Result<()> {
        self.restart(guest, context_index(endpoint))
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        for ring in std::mem::take(&mut self.rings).into_values() {
            ring.free(guest);
        }
        self.running.clear();
        self.ended.clear();
        self.registers.reset(guest)?;
        self.commands.free(guest);
        self.events.free(guest);
        self.commands = Ring::new(guest)?;
        self.events = Events::new(guest)?;
        self.device.clear(guest)?;
        self.set_up(guest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_cross_64_kib() {
        let data = Buffer {
            pieces: vec![(0x1_f000, 0x2000), (0x4_0000, 512)],
        };
        let (blocks, ends) = normal(&data, 1024);
        assert_eq!(ends, [0x1000, 0x2000, 0x2200]);
        assert_eq!(blocks[1].parameter, 0x2_0000);
        assert_eq!(blocks[0].status, 0x1000 | 5 << 17);
        assert_eq!(blocks[2].status, 512);
        assert_eq!(blocks[2].control & flag::CHAIN, 0);
    }
}
