//! What a driver sees of the machine: ports, physical memory, and memory of its own.

use std::time::{Duration, Instant};

use crate::client::{Answer, Client};
use crate::error::{Error, Result};
use crate::memory::Allocator;
use crate::op::{Op, Width};

/// The first address that is given out. What is below belongs to the firmware.
const RAM_START: u64 = 1 << 20;

/// How long devices have for what they have to do, unless another time is set.
const PATIENCE: Duration = Duration::from_secs(60);

/// One operation of a driver, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// What was sent.
    pub op: Op,
    /// Which structure or register it is about, such as `nvme submission entry`.
    pub label: &'static str,
}

/// Part of the guest's memory that a driver or a request uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buffer {
    /// Address and length in bytes of each piece, in their order.
    pub pieces: Vec<(u64, u32)>,
}

impl Buffer {
    /// In bytes, of all pieces together.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|(_, n)| u64::from(*n)).sum()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces of the part from `start`, of `length` bytes.
    #[must_use]
    pub fn part(&self, start: u64, length: u64) -> Self {
        let (mut skip, mut left) = (start, length);
        let mut pieces = Vec::new();
        for &(address, n) in &self.pieces {
            let skipped = skip.min(n.into());
            skip -= skipped;
            let taken = left.min(u64::from(n) - skipped);
            if taken > 0 {
                let taken_u32 = u32::try_from(taken).unwrap_or(u32::MAX);
                pieces.push((address + skipped, taken_u32));
                left -= taken;
            }
        }
        Self { pieces }
    }
}

/// A machine as its drivers see it.
#[derive(Debug)]
pub struct Guest {
    client: Client,
    memory: Allocator,
    patience: Duration,
    label: &'static str,
    record: Option<Vec<Recorded>>,
    /// Writes that were not sent yet; none where each is sent at once.
    posted: Option<Vec<Op>>,
}

/// As many writes wait at most before they are sent.
const POSTED: usize = 64;

impl Guest {
    /// A machine with `ram` bytes of memory, at least 2 MiB, whose processor does nothing.
    #[must_use]
    pub fn new(client: Client, ram: u64) -> Self {
        Self {
            client,
            memory: Allocator::new(RAM_START, ram),
            patience: PATIENCE,
            label: "",
            record: None,
            posted: None,
        }
    }

    /// Sets how long devices have for what they have to do.
    pub const fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Goes on with another emulator, to which the machine has been migrated.
    pub fn move_to(&mut self, client: Client) {
        self.client = client;
    }

    /// Says whether writes may wait until something is read, as those of a processor do that are
    /// posted: they are sent together, in their order, which takes a fraction of the time. What
    /// the emulator refuses is the error of the next read then.
    ///
    /// # Errors
    ///
    /// As [`Self::flush`].
    pub fn set_posted(&mut self, posted: bool) -> Result<()> {
        self.flush()?;
        self.posted = posted.then(Vec::new);
        Ok(())
    }

    /// Sends the writes that wait.
    ///
    /// # Errors
    ///
    /// As [`Client::run_all`].
    pub fn flush(&mut self) -> Result<()> {
        let posted = self.posted.as_mut().map(std::mem::take);
        match posted {
            Some(ops) if !ops.is_empty() => self.client.run_all(&ops).map(drop),
            _ => Ok(()),
        }
    }

    /// The connection. It knows nothing of writes that wait: [`Self::flush`].
    pub const fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Says what the operations that come are about, for those who read a record.
    pub const fn label(&mut self, label: &'static str) {
        self.label = label;
    }

    /// Records operations from now on.
    pub fn start_record(&mut self) {
        self.record = Some(Vec::new());
    }

    /// Ends recording; what was recorded.
    pub fn end_record(&mut self) -> Vec<Recorded> {
        self.record.take().unwrap_or_default()
    }

    /// Does one operation.
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    pub fn run(&mut self, op: Op) -> Result<Answer> {
        let Some(posted) = &mut self.posted else {
            let answer = self.client.run(&op);
            self.note([op]);
            return answer;
        };
        let waits = op.is_write() && posted.len() < POSTED;
        posted.push(op.clone());
        self.note([op]);
        if waits {
            return Ok(Answer::Done);
        }
        let ops = self.posted.as_mut().map(std::mem::take);
        let answers = self.client.run_all(&ops.unwrap_or_default())?;
        Ok(answers.into_iter().next_back().unwrap_or(Answer::Done))
    }

    /// Does operations in their order without waiting for each.
    ///
    /// # Errors
    ///
    /// As [`Client::run_all`].
    pub fn run_all(&mut self, ops: Vec<Op>) -> Result<Vec<Answer>> {
        if self.posted.is_some() && ops.iter().all(Op::is_write) {
            let answers = ops.into_iter().map(|op| self.run(op));
            return answers.collect();
        }
        let posted = self.posted.as_mut().map(std::mem::take);
        let mut all = posted.unwrap_or_default();
        let before = all.len();
        all.extend_from_slice(&ops);
        self.note(ops);
        let mut answers = self.client.run_all(&all)?;
        Ok(answers.split_off(before))
    }

    fn note(&mut self, ops: impl IntoIterator<Item = Op>) {
        if let Some(record) = &mut self.record {
            let label = self.label;
            record.extend(ops.into_iter().map(|op| Recorded { op, label }));
        }
    }

    /// Reads a port; `width` is not [`Width::Q`].
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    #[expect(clippy::cast_possible_truncation, reason = "at most four bytes")]
    pub fn port_in(&mut self, width: Width, port: u16) -> Result<u32> {
        Ok(self.run(Op::In { width, port })?.value() as u32)
    }

    /// Writes a port; `width` is not [`Width::Q`].
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    pub fn port_out(&mut self, width: Width, port: u16, value: u32) -> Result<()> {
        self.run(Op::Out { width, port, value }).map(drop)
    }

    /// Reads memory or a register.
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    pub fn read(&mut self, width: Width, address: u64) -> Result<u64> {
        Ok(self.run(Op::Read { width, address })?.value())
    }

    /// Writes memory or a register.
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    pub fn write(&mut self, width: Width, address: u64, value: u64) -> Result<()> {
        let op = Op::Write {
            width,
            address,
            value,
        };
        self.run(op).map(drop)
    }

    /// Reads a block of memory.
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    pub fn read_block(&mut self, address: u64, length: u64) -> Result<Vec<u8>> {
        if length == 0 {
            return Ok(Vec::new());
        }
        Ok(self.run(Op::ReadBlock { address, length })?.into_bytes())
    }

    /// Writes a block of memory.
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    pub fn write_block(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let bytes = bytes.to_vec();
        self.run(Op::WriteBlock { address, bytes }).map(drop)
    }

    /// Fills a block of memory.
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    pub fn fill(&mut self, address: u64, length: u64, byte: u8) -> Result<()> {
        if length == 0 {
            return Ok(());
        }
        let op = Op::Fill {
            address,
            length,
            byte,
        };
        self.run(op).map(drop)
    }

    /// Takes memory, filled with zeroes; its address is a multiple of `align`, a power of two.
    ///
    /// # Errors
    ///
    /// Fails if there is no such part, or as [`Client::run`].
    pub fn allocate(&mut self, length: u64, align: u64) -> Result<u64> {
        let address = self.memory.take(length, align)?;
        self.fill(address, length, 0)?;
        Ok(address)
    }

    /// Gives memory back.
    pub fn free(&mut self, address: u64) {
        self.memory.give_back(address);
    }

    /// Gives all memory back, as after a reset of the machine.
    pub fn free_all(&mut self) {
        self.memory.clear();
    }

    /// A buffer of pieces of these lengths, each aligned to `align`.
    ///
    /// # Errors
    ///
    /// As [`Self::allocate`].
    pub fn buffer(&mut self, lengths: &[u32], align: u64) -> Result<Buffer> {
        let pieces = lengths
            .iter()
            .map(|&n| Ok((self.allocate(n.into(), align)?, n)))
            .collect::<Result<_>>()?;
        Ok(Buffer { pieces })
    }

    /// Gives back the memory of a buffer that [`Self::buffer`] made.
    pub fn free_buffer(&mut self, buffer: &Buffer) {
        for &(address, _) in &buffer.pieces {
            self.free(address);
        }
    }

    /// Writes bytes into a buffer, as many as fit.
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    pub fn fill_buffer(&mut self, buffer: &Buffer, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        for &(address, n) in &buffer.pieces {
            let (now, later) = rest.split_at(rest.len().min(n as usize));
            self.write_block(address, now)?;
            rest = later;
        }
        Ok(())
    }

    /// The bytes of a buffer.
    ///
    /// # Errors
    ///
    /// As [`Client::run`].
    pub fn buffer_bytes(&mut self, buffer: &Buffer) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for &(address, n) in &buffer.pieces {
            bytes.extend(self.read_block(address, n.into())?);
        }
        Ok(bytes)
    }

    /// Asks until there is an answer.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] if there is none in time, and what `ask` fails with.
    pub fn wait<T>(
        &mut self,
        device: &'static str,
        what: &str,
        mut ask: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(answer) = ask(self)? {
                return Ok(answer);
            }
            if start.elapsed() > self.patience {
                return Err(Error::timeout(device, what));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io;
    use std::sync::mpsc;

    /// A connection whose emulator answers these lines, and says what was sent at a time.
    fn connection(answers: &'static str) -> (Client, mpsc::Receiver<String>) {
        struct Sent(mpsc::Sender<String>);
        impl io::Write for Sent {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.send(String::from_utf8_lossy(bytes).into()).unwrap();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (sender, receiver) = mpsc::channel();
        let client = Client::new(io::Cursor::new(answers), Sent(sender));
        (client, receiver)
    }

    #[test]
    fn posted_writes_are_sent_with_the_next_read_in_their_order() {
        let (client, sent) = connection("OK\nOK\nOK 0x7\nOK\nFAIL no\n");
        let mut guest = Guest::new(client, 4 << 20);
        guest.set_posted(true).unwrap();
        guest.start_record();
        guest.port_out(Width::B, 1, 2).unwrap();
        guest.write(Width::L, 3, 4).unwrap();
        assert!(sent.try_recv().is_err(), "a write did not wait");
        assert_eq!(guest.read(Width::L, 5).unwrap(), 7);
        let lines = sent.try_recv().unwrap();
        assert_eq!(lines, "outb 0x1 0x2\nwritel 0x3 0x4\nreadl 0x5\n");
        guest.write(Width::B, 6, 1).unwrap();
        guest.flush().unwrap();
        assert_eq!(sent.try_recv().unwrap(), "writeb 0x6 0x1\n");
        guest.write(Width::B, 7, 1).unwrap();
        let refused = guest.read(Width::B, 8).unwrap_err().to_string();
        assert_eq!(refused, "line 5: writeb 0x7 0x1: FAIL no");
        assert_eq!(guest.end_record().len(), 6);
    }

    #[test]
    fn a_part_of_a_buffer_goes_over_its_pieces() {
        let buffer = Buffer {
            pieces: vec![(0x1000, 16), (0x3000, 16), (0x5000, 16)],
        };
        assert_eq!(buffer.len(), 48);
        assert_eq!(
            buffer.part(8, 32).pieces,
            [(0x1008, 8), (0x3000, 16), (0x5000, 8)]
        );
        assert!(buffer.part(48, 8).is_empty());
    }
}
