//! A controller: its registers (section 3), and the admin commands (section 5).

use super::data::Method;
use super::identify::{self, Identity, Namespace, cns};
use super::queue::{COMPLETION_SHIFT, Command, Completion, Queue, SUBMISSION_SHIFT};
use super::{NAME, status};
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::op::Width;
use crate::pci::Pci;

/// Mass storage, non-volatile memory, NVM Express.
const CLASS: u32 = 0x01_08_02;

/// Registers (section 3.1).
mod register {
    pub(super) const CAP: u64 = 0x00;
    pub(super) const CC: u64 = 0x14;
    pub(super) const CSTS: u64 = 0x1c;
    pub(super) const AQA: u64 = 0x24;
    pub(super) const ASQ: u64 = 0x28;
    pub(super) const ACQ: u64 = 0x30;
    pub(super) const DOORBELLS: u64 = 0x1000;
}

/// CC: enabled, with entries of these lengths.
const ENABLE: u32 = 1 | SUBMISSION_SHIFT << 16 | COMPLETION_SHIFT << 20;

/// CSTS: ready; a fatal error.
const READY: u64 = 1;
const FATAL: u64 = 2;

/// Admin commands (figure 139).
mod opcode {
    pub(super) const CREATE_SUBMISSION_QUEUE: u8 = 0x01;
    pub(super) const CREATE_COMPLETION_QUEUE: u8 = 0x05;
    pub(super) const IDENTIFY: u8 = 0x06;
    pub(super) const ABORT: u8 = 0x08;
    pub(super) const SET_FEATURES: u8 = 0x09;
}

/// The feature Number of Queues (section 5.21.1.7).
const NUMBER_OF_QUEUES: u32 = 7;

/// How many pairs of I/O queues are wanted, and how long they are in entries.
const WANTED_QUEUES: u16 = 4;
const WANTED_LENGTH: u16 = 64;
const ADMIN_LENGTH: u16 = 16;

/// A controller that is ready, with I/O queues.
#[derive(Debug)]
pub(super) struct Controller {
    registers: u64,
    /// The length of a page in bytes.
    pub(super) page: u64,
    pub(super) identity: Identity,
    admin: Queue,
    io: Vec<Queue>,
    /// Memory for what Identify gives.
    scratch: u64,
}

impl Controller {
    /// Finds one, resets it and gives it queues.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or it does not answer.
    pub(super) fn open(guest: &mut Guest) -> Result<Self> {
        let pci = Pci::enumerate(guest)?;
        let registers = pci.find_class(NAME, CLASS, 0xff_ff_ff)?.memory(NAME, 0)?;
        let capabilities = guest.read(Width::Q, registers + register::CAP)?;
        let stride = 4 << (capabilities >> 32 & 15);
        // CAP.MQES is one less than the longest queue.
        let longest = u16::try_from((capabilities & 0xffff) + 1).unwrap_or(u16::MAX);
        let page = 4096 << (capabilities >> 48 & 15);
        let doorbells = registers + register::DOORBELLS;
        let admin = Queue::new(guest, 0, ADMIN_LENGTH.min(longest), doorbells, stride)?;
        let mut controller = Self {
            registers,
            page,
            identity: Identity::default(),
            admin,
            io: Vec::new(),
            scratch: guest.allocate(identify::LENGTH, page)?,
        };
        controller.enable(guest)?;
        let identity = controller.identify(guest, cns::CONTROLLER, 0)?;
        controller.identity = Identity::parse(&identity, page);
        let count = controller.ask_queues(guest)?;
        for number in 1..=count {
            let length = WANTED_LENGTH.min(longest);
            let queue = Queue::new(guest, number, length, doorbells, stride)?;
            controller.io.push(queue);
        }
        controller.create_queues(guest)?;
        Ok(controller)
    }

    /// Disables the controller, and enables it with the admin queues (section 7.6.1).
    fn enable(&mut self, guest: &mut Guest) -> Result<()> {
        self.configure(guest, 0)?;
        self.await_ready(guest, false)?;
        self.admin.clear(guest)?;
        let last = u64::from(self.admin.length - 1);
        guest.label("nvme admin queue attributes");
        guest.write(Width::L, self.registers + register::AQA, last | last << 16)?;
        guest.label("nvme admin submission queue base");
        guest.write(
            Width::Q,
            self.registers + register::ASQ,
            self.admin.submission,
        )?;
        guest.label("nvme admin completion queue base");
        guest.write(
            Width::Q,
            self.registers + register::ACQ,
            self.admin.completion,
        )?;
        let page = self.page.trailing_zeros() - 12;
        self.configure(guest, ENABLE | page << 7)?;
        self.await_ready(guest, true)
    }

    fn configure(&self, guest: &mut Guest, value: u32) -> Result<()> {
        guest.label("nvme controller configuration");
        guest.write(Width::L, self.registers + register::CC, value.into())
    }

    fn await_ready(&self, guest: &mut Guest, wanted: bool) -> Result<()> {
        let at = self.registers + register::CSTS;
        guest.wait(NAME, "CSTS.RDY", |guest| {
            let state = guest.read(Width::L, at)?;
            if state & FATAL != 0 && wanted {
                return Err(Error::device(NAME, "a fatal status (CSTS.CFS)"));
            }
            Ok((state & READY != 0).eq(&wanted).then_some(()))
        })
    }

    /// Carries an admin command out; its result.
    fn admin(&mut self, guest: &mut Guest, command: &Command) -> Result<u32> {
        let id = self.admin.submit(guest, command)?;
        let admin = &mut self.admin;
        let ended = guest.wait(NAME, "the end of an admin command", |guest| {
            let ended = admin.completions(guest)?;
            Ok(ended.into_iter().find(|c| c.id == id))
        })?;
        match status::words(ended.status) {
            None => Ok(ended.result),
            Some(why) => {
                let what = format!("admin command {:#04x}: {why}", command.opcode);
                Err(Error::device(NAME, what))
            }
        }
    }

    fn identify(&mut self, guest: &mut Guest, what: u32, namespace: u32) -> Result<Vec<u8>> {
        let mut command = Command::new(opcode::IDENTIFY, namespace);
        command.data = Some((Method::Prp, [self.scratch, 0]));
        command.dwords[0] = what;
        self.admin(guest, &command)?;
        guest.read_block(self.scratch, identify::LENGTH)
    }

    /// The first active namespace.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or its blocks are not for this driver.
    pub(super) fn namespace(&mut self, guest: &mut Guest) -> Result<Namespace> {
        let active = self.identify(guest, cns::ACTIVE_NAMESPACES, 0)?;
        let id = u32::from_le_bytes(active[..4].try_into().unwrap_or_default());
        if id == 0 {
            return Err(Error::device(NAME, "no namespace is active"));
        }
        Namespace::parse(id, &self.identify(guest, cns::NAMESPACE, id)?)
    }

    /// Asks for I/O queues; how many pairs there may be.
    fn ask_queues(&mut self, guest: &mut Guest) -> Result<u16> {
        let wanted = u32::from(WANTED_QUEUES - 1);
        let mut command = Command::new(opcode::SET_FEATURES, 0);
        command.dwords[..2].copy_from_slice(&[NUMBER_OF_QUEUES, wanted | wanted << 16]);
        let given = self.admin(guest, &command)?;
        let least = (given & 0xffff).min(given >> 16);
        Ok(u16::try_from(least + 1)
            .unwrap_or(u16::MAX)
            .min(WANTED_QUEUES))
    }

    /// Creates the I/O queues (sections 5.3 and 5.4).
    fn create_queues(&mut self, guest: &mut Guest) -> Result<()> {
        const CONTIGUOUS: u32 = 1;
        const INTERRUPTS: u32 = 2;
        for (number, queue) in (1u32..).zip(self.io.clone()) {
            let size = number | u32::from(queue.length - 1) << 16;
            let mut command = Command::new(opcode::CREATE_COMPLETION_QUEUE, 0);
            command.data = Some((Method::Prp, [queue.completion, 0]));
            command.dwords[..2].copy_from_slice(&[size, CONTIGUOUS | INTERRUPTS]);
            self.admin(guest, &command)?;
            let mut command = Command::new(opcode::CREATE_SUBMISSION_QUEUE, 0);
            command.data = Some((Method::Prp, [queue.submission, 0]));
            command.dwords[..2].copy_from_slice(&[size, CONTIGUOUS | number << 16]);
            self.admin(guest, &command)?;
        }
        Ok(())
    }

    /// Resets the controller and gives it the same queues.
    ///
    /// # Errors
    ///
    /// Fails if it does not come back.
    pub(super) fn reset(&mut self, guest: &mut Guest) -> Result<()> {
        self.enable(guest)?;
        for queue in &mut self.io {
            queue.clear(guest)?;
        }
        let count = self.ask_queues(guest)?;
        self.io.truncate(count.into());
        self.create_queues(guest)
    }

    /// How many pairs of I/O queues there are.
    pub(super) const fn queues(&self) -> usize {
        self.io.len()
    }

    /// How many commands can be on their way on each I/O queue: one entry stays empty, since a
    /// queue that is full looks like an empty one (section 4.1).
    pub(super) fn depth(&self) -> usize {
        self.io.first().map_or(1, |q| usize::from(q.length - 1))
    }

    /// Sends a command on an I/O queue, from 0; its identifier.
    ///
    /// # Errors
    ///
    /// Fails if there is no such queue, or it is full.
    pub(super) fn submit(
        &mut self,
        guest: &mut Guest,
        queue: usize,
        command: &Command,
    ) -> Result<u16> {
        let none = || Error::device(NAME, format!("there is no queue {queue}"));
        let queue = self.io.get_mut(queue).ok_or_else(none)?;
        queue.submit(guest, command)
    }

    /// What ended on an I/O queue, from 0.
    ///
    /// # Errors
    ///
    /// As [`Guest::run`].
    pub(super) fn completions(
        &mut self,
        guest: &mut Guest,
        queue: usize,
    ) -> Result<Vec<Completion>> {
        match self.io.get_mut(queue) {
            Some(queue) => queue.completions(guest),
            None => Ok(Vec::new()),
        }
    }

    /// Asks to abort a command (section 5.1); whether it was aborted.
    ///
    /// # Errors
    ///
    /// Fails if the controller refuses.
    pub(super) fn abort(&mut self, guest: &mut Guest, queue: usize, id: u16) -> Result<bool> {
        let number = u32::try_from(queue + 1).unwrap_or(u32::MAX);
        let mut command = Command::new(opcode::ABORT, 0);
        command.dwords[0] = number | u32::from(id) << 16;
        // Bit 0 of the result: the command was not aborted.
        Ok(self.admin(guest, &command)? & 1 == 0)
    }
}
