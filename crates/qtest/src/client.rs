//! A connection to an emulator that was started with `-qtest`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use data_encoding::BASE64;

use crate::error::{Error, Result};
use crate::op::Op;
use crate::reset;

/// What the emulator answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// What a port, a register or the clock gave.
    Value(u64),
    /// A block of memory.
    Bytes(Vec<u8>),
    /// A word: the order of bytes.
    Word(String),
}

impl Answer {
    /// The value, 0 where there is none.
    #[must_use]
    pub const fn value(&self) -> u64 {
        match self {
            Self::Value(value) => *value,
            _ => 0,
        }
    }

    /// The bytes, none where there are none.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => Vec::new(),
        }
    }
}

/// The longest part of a line that errors show.
const SHOWN: usize = 100;

/// As many bytes of answers as may be on their way: a pipe holds 64 KiB, and the emulator does
/// not read while it waits to write.
const IN_FLIGHT: usize = 32 * 1024;

/// The longest answer that is read: that to the largest block.
const LONGEST: u64 = 256 << 20;

/// A connection to the QTest server of an emulator.
pub struct Client {
    reader: BufReader<Box<dyn Read + Send>>,
    writer: Box<dyn Write + Send>,
    lines: u64,
    /// The number of times that each interrupt was raised, and whether it is.
    interrupts: BTreeMap<u32, (u64, bool)>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("lines", &self.lines)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Talks over any two streams, such as the standard input and output of an emulator that
    /// was started with `-qtest stdio`.
    pub fn new(reader: impl Read + Send + 'static, writer: impl Write + Send + 'static) -> Self {
        let reader: Box<dyn Read + Send> = Box::new(reader);
        Self {
            reader: BufReader::with_capacity(IN_FLIGHT, reader),
            writer: Box::new(writer),
            lines: 0,
            interrupts: BTreeMap::new(),
        }
    }

    /// Talks over a socket. An answer that takes longer than `patience` is an error.
    ///
    /// # Errors
    ///
    /// Fails if the system cannot set the socket up.
    pub fn over_socket(socket: UnixStream, patience: Duration) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))?;
        Ok(Self::new(socket.try_clone()?, socket))
    }

    /// How many lines were answered.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// How often an intercepted interrupt was raised.
    #[must_use]
    pub fn raised(&self, irq: u32) -> u64 {
        self.interrupts.get(&irq).map_or(0, |(count, _)| *count)
    }

    /// Whether an intercepted interrupt is raised now.
    #[must_use]
    pub fn is_raised(&self, irq: u32) -> bool {
        self.interrupts.get(&irq).is_some_and(|(_, raised)| *raised)
    }

    /// Does one operation.
    ///
    /// # Errors
    ///
    /// Fails if the emulator refuses it, ends, or does not answer in time.
    pub fn run(&mut self, op: &Op) -> Result<Answer> {
        let line = op.to_string();
        self.send(&line, 1)?;
        self.answer(op, &line)
    }

    /// Does operations in their order without waiting for each.
    ///
    /// # Errors
    ///
    /// Fails at the first that the emulator refuses; those behind it may have been done.
    pub fn run_all(&mut self, ops: &[Op]) -> Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(ops.len());
        let mut rest = ops;
        while !rest.is_empty() {
            let mut awaited = 0;
            let count = rest
                .iter()
                .take_while(|op| {
                    awaited += answer_length(op);
                    awaited <= IN_FLIGHT
                })
                .count()
                .max(1);
            let (now, later) = rest.split_at(count);
            let lines: Vec<String> = now.iter().map(Op::to_string).collect();
            self.send(&lines.join("\n"), count as u64)?;
            for (op, line) in now.iter().zip(&lines) {
                answers.push(self.answer(op, line)?);
            }
            rest = later;
        }
        Ok(answers)
    }

    /// Lets the emulator come back to its main loop, where devices do what they put off.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub fn settle(&mut self) -> Result<()> {
        for _ in 0..reset::TURNS {
            self.send(&reset::long_line(), 1)?;
            self.answer(&Op::Endianness, "a long line")?;
        }
        Ok(())
    }

    /// Resets the machine, a PC, and waits until that is done.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub fn reset(&mut self) -> Result<()> {
        self.send(&reset::Lines.to_string(), 3)?;
        self.answer(&Op::Endianness, "the line before the reset")?;
        self.answer(&reset::CONTROL, "the reset of the machine")?;
        self.answer(&Op::Endianness, "the line behind the reset")?;
        Ok(())
    }

    fn send(&mut self, lines: &str, count: u64) -> Result<()> {
        let sent = self
            .writer
            .write_all(format!("{lines}\n").as_bytes())
            .and_then(|()| self.writer.flush());
        sent.map_err(|error| {
            let what = if count == 1 { lines } else { "several lines" };
            self.failed(what, error)
        })
    }

    fn failed(&self, line: &str, error: io::Error) -> Error {
        let (number, line) = (self.lines + 1, shown(line));
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::NoAnswer { number, line },
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => {
                Error::Closed { number, line }
            }
            _ => Error::Io {
                number,
                line,
                error,
            },
        }
    }

    fn answer(&mut self, op: &Op, line: &str) -> Result<Answer> {
        loop {
            let mut text = Vec::new();
            let read = (&mut self.reader)
                .take(LONGEST)
                .read_until(b'\n', &mut text);
            match read {
                Ok(_) if text.ends_with(b"\n") => {}
                Ok(_) => return Err(self.failed(line, ErrorKind::UnexpectedEof.into())),
                Err(error) => return Err(self.failed(line, error)),
            }
            let text = String::from_utf8_lossy(text.trim_ascii()).into_owned();
            if let Some(change) = text.strip_prefix("IRQ ") {
                self.interrupt(change);
                continue;
            }
            self.lines += 1;
            return answer(op, &text).ok_or_else(|| Error::Refused {
                number: self.lines,
                line: shown(line),
                answer: shown(&text),
            });
        }
    }

    /// `raise N` or `lower N`.
    fn interrupt(&mut self, change: &str) {
        if let Some((what, irq)) = change.split_once(' ')
            && let Ok(irq) = irq.trim().parse()
        {
            let state = self.interrupts.entry(irq).or_default();
            state.1 = what == "raise";
            state.0 += u64::from(state.1);
        }
    }
}

fn shown(line: &str) -> String {
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

/// How long the answer is at most, with an interrupt or two before it.
fn answer_length(op: &Op) -> usize {
    match op {
        Op::ReadBlock { length, .. } => usize::try_from(*length)
            .ok()
            .and_then(|length| length.checked_mul(2))
            .unwrap_or(usize::MAX / 4)
            .min(usize::MAX / 4),
        _ => 64,
    }
}

/// What an answer to an operation means; nothing if it was refused or makes no sense.
fn answer(op: &Op, text: &str) -> Option<Answer> {
    let rest = text.strip_prefix("OK")?.trim_start();
    let hexadecimal = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    Some(match op {
        Op::In { .. } | Op::Read { .. } => Answer::Value(hexadecimal(rest)?),
        Op::ClockStep { .. } => Answer::Value(rest.parse().ok()?),
        Op::ReadBlock { .. } => Answer::Bytes(BASE64.decode(rest.as_bytes()).ok()?),
        Op::Endianness => Answer::Word(rest.to_owned()),
        _ => Answer::Done,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Width;
    use std::io::Cursor;

    /// A client whose emulator answers these lines, whatever it is asked.
    fn client(answers: &'static str) -> Client {
        Client::new(Cursor::new(answers), io::sink())
    }

    const READ: Op = Op::Read {
        width: Width::L,
        address: 0x1000,
    };

    #[test]
    fn answers_are_read_in_order_with_interrupts_between() {
        let mut client = client("OK 0x000000000000002a\nIRQ raise 4\nIRQ lower 4\nOK AQI=\nOK\n");
        let block = Op::ReadBlock {
            address: 0,
            length: 2,
        };
        let intercept = Op::InterceptIn {
            path: "ioapic".to_owned(),
        };
        let answers = client.run_all(&[READ, block, intercept]).unwrap();
        assert_eq!(
            answers,
            [Answer::Value(42), Answer::Bytes(vec![1, 2]), Answer::Done]
        );
        assert_eq!((client.raised(4), client.is_raised(4)), (1, false));
    }

    #[test]
    fn an_error_says_which_line() {
        let mut client = client("OK 0x1\nFAIL Unknown command 'clock_step'\n");
        client.run(&READ).unwrap();
        let step = Op::ClockStep { nanoseconds: None };
        let refused = client.run(&step).unwrap_err().to_string();
        assert_eq!(
            refused,
            "line 2: clock_step: FAIL Unknown command 'clock_step'"
        );
        let closed = client.run(&READ).unwrap_err();
        assert!(closed.is_closed());
        assert_eq!(
            closed.to_string(),
            "the emulator closed the connection at line 3: readl 0x1000"
        );
    }

    #[test]
    fn a_socket_that_says_nothing_is_an_error() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut client = Client::over_socket(ours, Duration::from_millis(20)).unwrap();
        let error = client.run(&READ).unwrap_err().to_string();
        assert_eq!(error, "no answer in time to line 1: readl 0x1000");
    }
}
