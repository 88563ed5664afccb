//! SD cards in a slot of a standard host controller.
//!
//! SD Host Controller Simplified Specification 3.00, SD Physical Layer Simplified Specification
//! 3.01. Data go by the processor, by SDMA and by ADMA2, in turn.

mod card;
mod host;

use crate::block::{Disk, Features, Request, Status, Tag};
use crate::error::{Error, Result};
use crate::guest::{Buffer, Guest};
use crate::op::Width;
use crate::pci::Pci;
use card::{Card, command};
use host::{Host, Response, interrupt, register};

const NAME: &str = "sdhci";

/// System peripherals, SD host controller, whatever the interface.
const CLASS: u32 = 0x08_05_00;
const CLASS_MASK: u32 = 0xff_ff_00;

/// The length of blocks in bytes.
const BLOCK: u64 = 512;

/// The most blocks of a transfer, a multiple of 8 for the sake of pages.
const MOST_BLOCKS: u64 = 0xfff8;

/// The most blocks that the processor transfers, where there is another way.
const MOST_BY_PROCESSOR: u64 = 16;

/// Capabilities (section 2.2.24).
const HAS_ADMA2: u64 = 1 << 19;
const HAS_SDMA: u64 = 1 << 22;

/// Present state: a card is there; it may be written.
const CARD_INSERTED: u64 = 1 << 16;
const WRITE_ENABLED: u64 = 1 << 19;

/// Transfer mode (section 2.2.5).
mod mode {
    pub(super) const DMA: u16 = 1;
    pub(super) const COUNTED: u16 = 1 << 1;
    pub(super) const AUTO_STOP: u16 = 1 << 2;
    pub(super) const READ: u16 = 1 << 4;
    pub(super) const SEVERAL: u16 = 1 << 5;
}

/// Host control 1 (section 2.2.10): four lines of data; ADMA2 with 32 bits.
const FOUR_LINES: u64 = 1 << 1;
const ADMA2: u64 = 2 << 3;

/// How far SDMA goes without the processor: 512 KiB, as the block size register says.
const SDMA_BOUNDARY: u64 = 512 << 10;
const SDMA_BOUNDARY_CODE: u64 = 7 << 12;

/// How data are transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Processor,
    Sdma,
    Adma2,
}

/// What is on its way.
#[derive(Debug)]
struct Current {
    tag: Tag,
    method: Method,
    write: bool,
    several: bool,
    data: Buffer,
    /// What the processor has transferred, in bytes.
    done: u64,
    /// A table that is given back at the end.
    table: Option<u64>,
}

/// A card in a slot.
#[derive(Debug)]
struct Sd {
    host: Host,
    card: Card,
    capabilities: u64,
    features: Features,
    next_tag: u64,
    current: Option<Current>,
    /// A command without data that has ended.
    ended: Option<(Tag, Status)>,
}

/// Finds a controller and wakes its card up.
///
/// # Errors
///
/// Fails if there is no controller with a card, or they do not answer.
pub fn open(guest: &mut Guest) -> Result<Box<dyn Disk>> {
    let pci = Pci::enumerate(guest)?;
    let registers = pci.find_class(NAME, CLASS, CLASS_MASK)?.memory(NAME, 0)?;
    let host = Host::new(registers);
    host.reset(guest)?;
    let state = host.read(guest, Width::L, register::PRESENT_STATE)?;
    if state & CARD_INSERTED == 0 {
        return Err(Error::device(NAME, "there is no card in the slot"));
    }
    let card = Card::wake(guest, &host)?;
    let capabilities = host.read(guest, Width::L, register::CAPABILITIES)?;
    let features = Features {
        discard: card.erase,
        scatter: true,
        depth: 1,
        queues: 1,
        longest: MOST_BLOCKS * BLOCK,
        read_only: state & WRITE_ENABLED == 0,
        ..Features::default()
    };
    Ok(Box::new(Sd {
        host,
        card,
        capabilities,
        features,
        next_tag: 0,
        current: None,
        ended: None,
    }))
}

impl Sd {
    /// The argument for a place on the card.
    fn place(&self, offset: u64) -> Result<u32> {
        let place = if self.card.by_block {
            offset / BLOCK
        } else {
            offset
        };
        u32::try_from(place).map_err(|_| Error::device(NAME, "no command expresses the offset"))
    }

    fn method(&self, data: &Buffer, blocks: u64) -> Method {
        let aligned = |multiple: u64| {
            let mut pieces = data.pieces.iter();
            pieces.all(|&(at, n)| at % multiple == 0 && u64::from(n) % multiple == 0)
        };
        let low = data
            .pieces
            .iter()
            .all(|&(at, n)| at + u64::from(n) <= 1 << 32);
        let adma = self.capabilities & HAS_ADMA2 != 0 && low && aligned(4);
        let one = match data.pieces[..] {
            [(at, n)] => at / SDMA_BOUNDARY == (at + u64::from(n) - 1) / SDMA_BOUNDARY,
            _ => false,
        };
        let sdma = self.capabilities & HAS_SDMA != 0 && low && one;
        match self.next_tag % 3 {
            1 if sdma => Method::Sdma,
            2 if blocks <= MOST_BY_PROCESSOR => Method::Processor,
            _ if adma => Method::Adma2,
            _ if sdma => Method::Sdma,
            _ => Method::Processor,
        }
    }

    /// Starts a transfer.
    fn transfer(
        &self,
        guest: &mut Guest,
        write: bool,
        offset: u64,
        data: &Buffer,
    ) -> Result<Current> {
        let length = data.len();
        let blocks = length / BLOCK;
        if !offset.is_multiple_of(BLOCK) || !length.is_multiple_of(BLOCK) || blocks == 0 {
            return Err(Error::device(NAME, "a command is for whole blocks"));
        }
        if blocks > MOST_BLOCKS {
            return Err(Error::device(NAME, "a command cannot express the length"));
        }
        let argument = self.place(offset)?;
        let method = self.method(data, blocks);
        let several = blocks > 1;
        let host = &self.host;
        let mut mode = if write { 0 } else { mode::READ };
        if several {
            mode |= mode::SEVERAL | mode::COUNTED | mode::AUTO_STOP;
        }
        let mut control = FOUR_LINES;
        let mut table = None;
        if method == Method::Adma2 {
            control |= ADMA2;
            table = Some(descriptors(guest, data)?);
        }
        host.write(
            guest,
            "sd host control",
            Width::B,
            register::HOST_CONTROL,
            control,
        )?;
        match (method, table) {
            (Method::Sdma, _) => {
                let address = data.pieces[0].0;
                let at = register::SDMA_ADDRESS;
                host.write(guest, "sd SDMA address", Width::L, at, address)?;
                mode |= mode::DMA;
            }
            (Method::Adma2, Some(table)) => {
                let at = register::ADMA_ADDRESS;
                host.write(guest, "sd ADMA address", Width::L, at, table)?;
                mode |= mode::DMA;
            }
            _ => {}
        }
        let size = BLOCK | SDMA_BOUNDARY_CODE;
        host.write(guest, "sd block size", Width::W, register::BLOCK_SIZE, size)?;
        host.write(
            guest,
            "sd block count",
            Width::W,
            register::BLOCK_COUNT,
            blocks,
        )?;
        let index = match (write, several) {
            (false, false) => command::READ_SINGLE_BLOCK,
            (false, true) => command::READ_MULTIPLE_BLOCK,
            (true, false) => command::WRITE_BLOCK,
            (true, true) => command::WRITE_MULTIPLE_BLOCK,
        };
        host.send(guest, index, argument, Response::R1, Some(mode))?;
        Ok(Current {
            tag: Tag(self.next_tag),
            method,
            write,
            several,
            data: data.clone(),
            done: 0,
            table,
        })
    }

    /// Erases blocks: three commands without data (Physical Layer, section 4.3.5).
    fn erase(&self, guest: &mut Guest, offset: u64, length: u64) -> Result<Status> {
        if !offset.is_multiple_of(BLOCK) || !length.is_multiple_of(BLOCK) || length == 0 {
            return Err(Error::device(NAME, "a command is for whole blocks"));
        }
        let end = offset.saturating_add(length - BLOCK);
        let commands = [
            (command::ERASE_START, self.place(offset)?, Response::R1),
            (command::ERASE_END, self.place(end)?, Response::R1),
            (command::ERASE, 0, Response::R1b),
        ];
        for (index, argument, response) in commands {
            self.host.send(guest, index, argument, response, None)?;
            if let Err(why) = self.host.await_response(guest)? {
                return Ok(Status::Failed { why });
            }
            if let Some(why) = card::errors(self.host.response(guest, 0)?) {
                return Ok(Status::Failed { why });
            }
        }
        self.verdict(guest)
    }

    /// What the card says after a command.
    fn verdict(&self, guest: &mut Guest) -> Result<Status> {
        let status = self.card.status(guest, &self.host)?;
        Ok(card::errors(status).map_or(Status::Done, |why| Status::Failed { why }))
    }

    /// Ends a transfer that failed (section 3.10): the card may still be in the middle of it.
    fn abandon(&self, guest: &mut Guest) -> Result<()> {
        self.host.reset_lines(guest)?;
        let status = self.card.status(guest, &self.host)?;
        if card::transfers(status) {
            let index = command::STOP_TRANSMISSION;
            self.host.command(guest, index, 0, Response::R1b)?;
        }
        Ok(())
    }

    /// Goes on with a transfer: its end, if it has ended.
    fn progress(&self, guest: &mut Guest, current: &mut Current) -> Result<Option<Status>> {
        let host = &self.host;
        let came = host.interrupts(guest)?;
        if came & interrupt::ERRORS != 0 {
            self.abandon(guest)?;
            let why = host::words(came);
            return Ok(Some(Status::Failed { why }));
        }
        if current.done == 0 && current.method == Method::Processor
            || came & interrupt::TRANSFER_COMPLETE != 0
        {
            // The response has come before data go.
            if let Some(why) = card::errors(host.response(guest, 0)?) {
                self.abandon(guest)?;
                return Ok(Some(Status::Failed { why }));
            }
        }
        if current.method == Method::Processor && current.done < current.data.len() {
            let block = current.data.part(current.done, BLOCK);
            if host.transfer(guest, current.write, &block)? {
                current.done += BLOCK;
            }
            return Ok(None);
        }
        if came & interrupt::TRANSFER_COMPLETE == 0 {
            return Ok(None);
        }
        if current.several {
            // The response to the command that ended it (section 1.11).
            if let Some(why) = card::errors(host.response(guest, 3)?) {
                return Ok(Some(Status::Failed { why }));
            }
        }
        self.verdict(guest).map(Some)
    }
}

/// Writes a table for ADMA2 (section 1.13); its address.
fn descriptors(guest: &mut Guest, data: &Buffer) -> Result<u64> {
    let table = entries(data);
    let address = guest.allocate(table.len() as u64, 8)?;
    guest.label("sd ADMA2 descriptors");
    guest.write_block(address, &table)?;
    Ok(address)
}

fn entries(data: &Buffer) -> Vec<u8> {
    const VALID: u16 = 1;
    const END: u16 = 1 << 1;
    const TRANSFER: u16 = 1 << 5;
    const LONGEST: u32 = 32 << 10;
    let mut entries: Vec<(u16, u16, u32)> = Vec::new();
    for &(start, length) in &data.pieces {
        let mut done = 0;
        while done < length {
            let now = (length - done).min(LONGEST);
            let at = u32::try_from(start + u64::from(done)).unwrap_or(u32::MAX);
            entries.push((VALID | TRANSFER, u16::try_from(now).unwrap_or(0), at));
            done += now;
        }
    }
    if let Some(last) = entries.last_mut() {
        last.0 |= END;
    }
    let mut bytes = Vec::with_capacity(8 * entries.len());
    for (attributes, length, address) in entries {
        bytes.extend(attributes.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(address.to_le_bytes());
    }
    bytes
}

impl Disk for Sd {
    fn name(&self) -> &'static str {
        NAME
    }

    fn block_size(&self) -> u32 {
        512
    }

    fn size(&self) -> u64 {
        self.card.size
    }

    fn features(&self) -> &Features {
        &self.features
    }

    fn submit(&mut self, guest: &mut Guest, _queue: usize, request: &Request) -> Result<Tag> {
        if self.current.is_some() || self.ended.is_some() {
            return Err(Error::device(NAME, "one request at a time"));
        }
        let tag = Tag(self.next_tag);
        match request {
            Request::Read { offset, buffer } => {
                self.current = Some(self.transfer(guest, false, *offset, buffer)?);
            }
            Request::Write {
                offset,
                buffer,
                fua: false,
            } => self.current = Some(self.transfer(guest, true, *offset, buffer)?),
            Request::Discard { offset, length } => {
                self.ended = Some((tag, self.erase(guest, *offset, *length)?));
            }
            _ => return Err(Error::device(NAME, "cards are read, written and erased")),
        }
        self.next_tag += 1;
        Ok(tag)
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Status)>> {
        let mut ended: Vec<_> = self.ended.take().into_iter().collect();
        if let Some(mut current) = self.current.take() {
            if let Some(status) = self.progress(guest, &mut current)? {
                current
                    .table
                    .into_iter()
                    .for_each(|table| guest.free(table));
                ended.push((current.tag, status));
            } else {
                self.current = Some(current);
            }
        }
        Ok(ended)
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        if let Some(table) = self.current.take().and_then(|current| current.table) {
            guest.free(table);
        }
        self.ended = None;
        self.host.reset(guest)?;
        self.card = Card::wake(guest, &self.host)?;
        Ok(())
    }

    /// A card says it while it is woken up, so the whole controller is reset.
    fn refresh_size(&mut self, guest: &mut Guest) -> Result<u64> {
        self.reset(guest)?;
        Ok(self.card.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_pieces_take_several_entries() {
        let data = Buffer {
            pieces: vec![(0x1000, 512), (0x4000, 0x8200)],
        };
        let bytes = entries(&data);
        assert_eq!(bytes[..8], [0x21, 0, 0, 2, 0, 0x10, 0, 0]);
        assert_eq!(bytes[8..16], [0x21, 0, 0, 0x80, 0, 0x40, 0, 0]);
        assert_eq!(bytes[16..], [0x23, 0, 0, 2, 0, 0xc0, 0, 0]);
    }
}
