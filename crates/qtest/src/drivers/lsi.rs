//! The host adapters LSI 53C895A and 53C810: programs of SCRIPTS in the guest's memory.
//!
//! LSI53C895A PCI to Ultra2 SCSI Controller Technical Manual, chapters 4 (registers) and 5
//! (SCRIPTS); Symbios SYM53C810A Data Manual.

use crate::block::Tag;
use crate::drivers::scsi::{Command, Data, Outcome, ScsiDisk, ScsiTransport};
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;
use crate::pci::Pci;

const NAME: &str = "lsi53c8xx";
const LSI53C895A: (u16, u16) = (0x1000, 0x0012);
const LSI53C810: (u16, u16) = (0x1000, 0x0001);

/// Registers, from the start of the second BAR: chapter 4.
mod register {
    pub(super) const SCNTL0: u64 = 0x00;
    pub(super) const SCNTL1: u64 = 0x01;
    pub(super) const SCID: u64 = 0x04;
    pub(super) const DSTAT: u64 = 0x0c;
    pub(super) const ISTAT: u64 = 0x14;
    pub(super) const DSP: u64 = 0x2c;
    pub(super) const DSPS: u64 = 0x30;
    pub(super) const DCNTL: u64 = 0x3b;
    pub(super) const SIST0: u64 = 0x42;
    pub(super) const SIST1: u64 = 0x43;
    pub(super) const CCNTL0: u64 = 0x56;
    pub(super) const PMJAD1: u64 = 0xc0;
    pub(super) const PMJAD2: u64 = 0xc4;
}

/// Bits of registers.
mod bit {
    /// SCNTL0: full arbitration and selection.
    pub(super) const ARBITRATION: u64 = 0xc0;
    /// SCNTL1: resets the bus.
    pub(super) const RST: u64 = 0x08;
    /// DCNTL: no compatibility with the 53C700.
    pub(super) const COM: u64 = 0x01;
    /// ISTAT: an interrupt of the processor of SCRIPTS, and one of the bus.
    pub(super) const DIP: u64 = 0x01;
    pub(super) const SIP: u64 = 0x02;
    /// ISTAT: resets the adapter.
    pub(super) const SRST: u64 = 0x40;
    /// DSTAT: the instruction INT.
    pub(super) const SIR: u64 = 0x04;
    /// SIST0: the phase is another than the instruction has.
    pub(super) const MA: u64 = 0x80;
    /// SIST1: a target did not answer.
    pub(super) const STO: u64 = 0x04;
    /// CCNTL0: jumps where the phase is another one.
    pub(super) const ENPMJ: u64 = 0x80;
}

/// Phases of the bus: section 5.3 of the manual.
mod phase {
    pub(super) const DATA_OUT: u32 = 0;
    pub(super) const DATA_IN: u32 = 1;
    pub(super) const COMMAND: u32 = 2;
    pub(super) const STATUS: u32 = 3;
    pub(super) const MESSAGE_OUT: u32 = 6;
    pub(super) const MESSAGE_IN: u32 = 7;
}

/// Messages: SPI-4, chapter 16.
mod message {
    pub(super) const COMMAND_COMPLETE: u32 = 0;
    pub(super) const DISCONNECT: u32 = 4;
    /// For unit 0, with the right to disconnect.
    pub(super) const IDENTIFY: u8 = 0xc0;
}

/// What the instruction INT has as its argument.
mod interrupt {
    pub(super) const DONE: u32 = 0x100;
    pub(super) const BAD_PHASE: u32 = 0x101;
    pub(super) const RESELECTED: u32 = 0x102;
}

/// The memory of the adapter's command, in a page: what is read and written byte by byte, the
/// command, and the program.
mod place {
    pub(super) const STATUS: u32 = 0;
    pub(super) const MESSAGE: u32 = 1;
    pub(super) const IDENTIFY: u32 = 2;
    pub(super) const NOTHING: u32 = 16;
    pub(super) const CDB: u32 = 64;
    pub(super) const PROGRAM: u32 = 128;
}

/// In bytes, of the memory; so many pieces fit into the program.
const MEMORY: u64 = 4096;
const PIECES: usize = 256;

/// The most that one instruction moves, in bytes.
const LONGEST_MOVE: u32 = 0x00ff_ffff;

/// An instruction of two words: section 5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction(u32, u32);

impl Instruction {
    /// MOVE count, address, WHEN phase.
    const fn transfer(phase: u32, address: u32, count: u32) -> Self {
        Self(0x0800_0000 | phase << 24 | count, address)
    }

    /// SELECT ATN target, and where to go on if the adapter is reselected first.
    const fn select(target: u32, reselected: u32) -> Self {
        Self(0x4100_0000 | target << 16, reselected)
    }

    /// WAIT DISCONNECT.
    const fn wait_disconnect() -> Self {
        Self(0x4800_0000, 0)
    }

    /// WAIT RESELECT, and where to go on if the processor signals.
    const fn wait_reselect(signalled: u32) -> Self {
        Self(0x5000_0000, signalled)
    }

    /// CLEAR ACK.
    const fn clear_ack() -> Self {
        Self(0x6000_0040, 0)
    }

    /// JUMP address.
    const fn jump(address: u32) -> Self {
        Self(0x8008_0000, address)
    }

    /// JUMP address, WHEN phase.
    const fn jump_when(phase: u32, address: u32) -> Self {
        Self(0x800b_0000 | phase << 24, address)
    }

    /// JUMP address, IF the first byte that was transferred last is this one.
    const fn jump_if(byte: u32, address: u32) -> Self {
        Self(0x800c_0000 | byte, address)
    }

    /// INT argument.
    const fn int(argument: u32) -> Self {
        Self(0x9808_0000, argument)
    }

    const LENGTH: u32 = 8;
}

/// A host adapter, as the way to its target 0.
#[derive(Debug)]
pub struct Lsi {
    base: u64,
    /// Whether it can jump where the phase is another one; if not, it interrupts.
    jumps: bool,
    memory: u64,
    /// Where the program looks for the next phase.
    dispatch: u32,
    running: Option<Tag>,
    next: u64,
}

impl Lsi {
    /// The disk of the first 53C895A on the PCI bus.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or as [`ScsiDisk::open`].
    pub fn lsi53c895a(guest: &mut Guest) -> Result<ScsiDisk<Self>> {
        Self::open(guest, LSI53C895A, true)
    }

    /// The disk of the first 53C810 on the PCI bus.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or as [`ScsiDisk::open`].
    pub fn lsi53c810(guest: &mut Guest) -> Result<ScsiDisk<Self>> {
        Self::open(guest, LSI53C810, false)
    }

    fn open(guest: &mut Guest, id: (u16, u16), jumps: bool) -> Result<ScsiDisk<Self>> {
        let pci = Pci::enumerate(guest)?;
        let base = pci.find(NAME, &[id])?.memory(NAME, 1)?;
        let mut adapter = Self {
            base,
            jumps,
            memory: guest.allocate(MEMORY, MEMORY)?,
            dispatch: 0,
            running: None,
            next: 0,
        };
        adapter.set_up(guest)?;
        ScsiDisk::open(guest, adapter)
    }

    fn set(&self, guest: &mut Guest, width: Width, register: u64, value: u64) -> Result<()> {
        guest.label("lsi register");
        guest.write(width, self.base + register, value)
    }

    fn get(&self, guest: &mut Guest, register: u64) -> Result<u64> {
        guest.read(Width::B, self.base + register)
    }

    fn set_up(&mut self, guest: &mut Guest) -> Result<()> {
        const OWN_ID: u64 = 7;
        self.running = None;
        self.set(guest, Width::B, register::ISTAT, bit::SRST)?;
        self.set(guest, Width::B, register::ISTAT, 0)?;
        self.set(guest, Width::B, register::SCNTL0, bit::ARBITRATION)?;
        self.set(guest, Width::B, register::SCID, OWN_ID)?;
        self.set(guest, Width::B, register::DCNTL, bit::COM)?;
        self.set(guest, Width::B, register::SCNTL1, bit::RST)?;
        self.set(guest, Width::B, register::SCNTL1, 0)?;
        self.get(guest, register::SIST0)?;
        self.get(guest, register::SIST1)?;
        self.get(guest, register::DSTAT)?;
        Ok(())
    }

    /// The program for a command, and where in it the next phase is looked for.
    fn program(memory: u32, command: &Command) -> (Vec<Instruction>, u32) {
        type I = Instruction;
        let cdb_length = u32::try_from(command.cdb.len()).unwrap_or(0);
        let at = |index: u32| memory + place::PROGRAM + I::LENGTH * index;
        // The parts of the program, by the index of their first instruction.
        let (dispatch, message_in, disconnect) = (3, 8, 13);
        let (status, complete, reselected, data) = (17, 19, 22, 23);
        let mut program = vec![
            I::select(0, at(reselected)),
            I::transfer(phase::MESSAGE_OUT, memory + place::IDENTIFY, 1),
            I::transfer(phase::COMMAND, memory + place::CDB, cdb_length),
            // The next phase.
            I::jump_when(phase::MESSAGE_IN, at(message_in)),
            I::jump_when(phase::DATA_IN, at(data)),
            I::jump_when(phase::DATA_OUT, at(data)),
            I::jump_when(phase::STATUS, at(status)),
            I::int(interrupt::BAD_PHASE),
            // A message.
            I::transfer(phase::MESSAGE_IN, memory + place::MESSAGE, 1),
            I::jump_if(message::COMMAND_COMPLETE, at(complete)),
            I::jump_if(message::DISCONNECT, at(disconnect)),
            I::clear_ack(),
            I::jump(at(dispatch)),
            // The target goes away, and comes back.
            I::clear_ack(),
            I::wait_disconnect(),
            I::wait_reselect(at(reselected)),
            I::jump(at(dispatch)),
            // The status.
            I::transfer(phase::STATUS, memory + place::STATUS, 1),
            I::jump(at(dispatch)),
            // The end.
            I::clear_ack(),
            I::wait_disconnect(),
            I::int(interrupt::DONE),
            I::int(interrupt::RESELECTED),
        ];
        let out = matches!(command.data, Data::Out(_));
        let direction = if out { phase::DATA_OUT } else { phase::DATA_IN };
        // A command without data has a phase for them where the target is not done at once; it
        // ends without a byte.
        let nothing = [(u64::from(memory + place::NOTHING), 8)];
        let pieces = if command.data.pieces().is_empty() {
            &nothing
        } else {
            command.data.pieces()
        };
        for &(address, count) in pieces {
            #[expect(clippy::cast_possible_truncation, reason = "the memory is below 4 GiB")]
            program.push(I::transfer(direction, address as u32, count));
        }
        program.push(I::jump(at(dispatch)));
        (program, at(dispatch))
    }

    fn run(&mut self, guest: &mut Guest, command: &Command) -> Result<()> {
        const NO_STATUS: u8 = 0xff;
        let pieces = command.data.pieces();
        let longest = pieces.iter().map(|(_, n)| *n).max().unwrap_or(0);
        let cdb = command.cdb.len();
        if pieces.len() > PIECES || longest > LONGEST_MOVE || cdb > 16 {
            let pieces = pieces.len();
            let what = format!("a command of {cdb} bytes with {pieces} pieces up to {longest}");
            return Err(Error::device(NAME, what));
        }
        let memory = u32::try_from(self.memory).unwrap_or(0);
        let (program, dispatch) = Self::program(memory, command);
        self.dispatch = dispatch;
        guest.label("lsi message bytes");
        guest.write_block(self.memory, &[NO_STATUS, 0xff, message::IDENTIFY])?;
        guest.label("scsi command block");
        guest.write_block(self.memory + u64::from(place::CDB), &command.cdb)?;
        let words = program.iter().flat_map(|i| [i.0, i.1]);
        let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        guest.label("lsi script");
        guest.write_block(self.memory + u64::from(place::PROGRAM), &bytes)?;
        if self.jumps {
            self.set(guest, Width::L, register::PMJAD1, dispatch.into())?;
            self.set(guest, Width::L, register::PMJAD2, dispatch.into())?;
            self.set(guest, Width::B, register::CCNTL0, bit::ENPMJ)?;
        }
        let start = self.memory + u64::from(place::PROGRAM);
        self.set(guest, Width::L, register::DSP, start)
    }

    /// What an interrupt of the processor of SCRIPTS means.
    fn stopped(&self, guest: &mut Guest) -> Result<Outcome> {
        let dstat = self.get(guest, register::DSTAT)?;
        if dstat & bit::SIR == 0 {
            let why = format!("DSTAT {dstat:#04x}");
            return Ok(Outcome::Lost { why });
        }
        let argument = guest.read(Width::L, self.base + register::DSPS)?;
        let why = match u32::try_from(argument).unwrap_or(0) {
            interrupt::DONE => {
                let at = self.memory + u64::from(place::STATUS);
                #[expect(clippy::cast_possible_truncation, reason = "one byte")]
                return Ok(Outcome::status(guest.read(Width::B, at)? as u8));
            }
            interrupt::BAD_PHASE => "an unexpected phase of the bus".to_owned(),
            interrupt::RESELECTED => "an unexpected reselection".to_owned(),
            other => format!("the program ended at {other:#x}"),
        };
        Ok(Outcome::Lost { why })
    }

    /// What an interrupt of the bus means; nothing where the program goes on.
    fn bus(&self, guest: &mut Guest) -> Result<Option<Outcome>> {
        let sist0 = self.get(guest, register::SIST0)?;
        let sist1 = self.get(guest, register::SIST1)?;
        if sist1 & bit::STO != 0 {
            let why = "selection timeout".to_owned();
            return Ok(Some(Outcome::Lost { why }));
        }
        if sist0 == bit::MA && sist1 == 0 {
            // A transfer is shorter than the buffer.
            self.set(guest, Width::L, register::DSP, self.dispatch.into())?;
            return Ok(None);
        }
        let why = format!("SIST0 {sist0:#04x}, SIST1 {sist1:#04x}");
        Ok(Some(Outcome::Lost { why }))
    }
}

impl ScsiTransport for Lsi {
    fn name(&self) -> &'static str {
        NAME
    }

    fn longest(&self) -> u64 {
        8 << 20
    }

    fn start(&mut self, guest: &mut Guest, _queue: usize, command: &Command) -> Result<Tag> {
        if self.running.is_some() {
            return Err(Error::device(NAME, "a command is on its way"));
        }
        self.run(guest, command)?;
        let tag = Tag(self.next);
        self.next += 1;
        self.running = Some(tag);
        Ok(tag)
    }

    fn poll(&mut self, guest: &mut Guest) -> Result<Vec<(Tag, Outcome)>> {
        let Some(tag) = self.running else {
            return Ok(Vec::new());
        };
        let istat = self.get(guest, register::ISTAT)?;
        let outcome = if istat & bit::SIP != 0 {
            self.bus(guest)?
        } else if istat & bit::DIP != 0 {
            Some(self.stopped(guest)?)
        } else {
            None
        };
        let Some(outcome) = outcome else {
            return Ok(Vec::new());
        };
        self.running = None;
        Ok(vec![(tag, outcome)])
    }

    fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        self.set_up(guest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_the_program_are_where_it_jumps() {
        let command = Command {
            cdb: vec![0; 6],
            data: Data::None,
        };
        let (program, dispatch) = Lsi::program(0x1000, &command);
        let part = |address: u32| {
            let index = (address - 0x1000 - place::PROGRAM) / Instruction::LENGTH;
            program[index as usize]
        };
        assert_eq!(part(dispatch).0, 0x870b_0000);
        assert_eq!(part(program[3].1).0, 0x0f00_0001, "message in");
        assert_eq!(part(program[4].1).0, 0x0900_0008, "data");
        assert_eq!(part(program[6].1).0, 0x0b00_0001, "status");
        assert_eq!(part(program[9].1), Instruction::clear_ack(), "complete");
        assert_eq!(part(program[9].1 + 16), Instruction::int(interrupt::DONE));
        assert_eq!(part(program[10].1 + 8), Instruction::wait_disconnect());
        assert_eq!(part(program[0].1), Instruction::int(interrupt::RESELECTED));
    }
}
