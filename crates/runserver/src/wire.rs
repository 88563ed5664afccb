//! The protocol between the controller and the server.
//!
//! Both are the same build on the same machine, so numbers are in native byte order. A
//! request is a [`Head`] and then `len` bytes of text: the working directory, the
//! arguments and the environment, each NUL-terminated. A reply is one [`Reply`].

/// The first word of every request.
pub const MAGIC: u32 = 0x4946_5235;

/// The most bytes of text in one request.
pub const MAX_TEXT: usize = 1 << 20;

/// The most arguments and variables of one request together.
pub const MAX_STRINGS: usize = 1 << 14;

/// The most bytes of an argument but the first, with the zero at its end, for a server that
/// forks late.
pub const LATE_WORD: usize = 1024;

/// No limit.
pub const UNLIMITED: u64 = u64::MAX;

/// Descriptors of a server, the same in every one when it starts.
pub mod fd {
    /// The socket to the controller.
    pub const CONTROL: i32 = 3;
    /// The standard input of requests that have one.
    pub const INPUT: i32 = 4;
    /// Standard output.
    pub const OUTPUT: i32 = 5;
    /// Standard error.
    pub const ERROR: i32 = 6;
    /// `/dev/null`, the standard input of other requests.
    pub const NULL: i32 = 7;
    /// How many these are.
    pub const COUNT: i32 = NULL - CONTROL + 1;
    /// The first descriptor that is not the server's.
    pub const FIRST_FREE: i32 = CONTROL + COUNT;
    /// The map of blocks, where a fork server is started with [`super::ENV_COVERAGE`].
    pub const COVERAGE: i32 = FIRST_FREE + 1;
    /// Beside it, the code that all servers of the program share; not always there.
    pub const TEXT: i32 = COVERAGE + 1;
}

/// The environment variable that makes the preloaded library serve: before `main`, or, with
/// the value [`ENV_LATE`], as [`crate::late::Late`].
pub const ENV: &str = "IMAGE_FUZZER_RUN_SERVER";

/// A value of [`ENV`].
pub const ENV_LATE: &str = "late";

/// The environment variable with which a fork server notes the blocks that are reached, in the
/// map that [`fd::COVERAGE`] is of.
pub const ENV_COVERAGE: &str = "IMAGE_FUZZER_COVERAGE";

const HEAD_LEN: usize = 52;
const REPLY_LEN: usize = 56;

/// The fixed part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of text that follow.
    pub len: u32,
    /// How many arguments.
    pub argc: u32,
    /// How many variables.
    pub envc: u32,
    /// Whether standard input is [`fd::INPUT`], not `/dev/null`.
    pub input: bool,
    /// Whether every block is to be noted that the map does not have as reached, those included
    /// that earlier runs reached.
    pub trace: bool,
    /// CPU time that each process may use, in seconds.
    pub cpu_seconds: u32,
    /// Length of the longest file that may be written, in bytes, or [`UNLIMITED`].
    pub file_size: u64,
    /// Address space of each process, in bytes, or [`UNLIMITED`].
    pub address_space: u64,
    /// Files that each process may have open at once, or [`UNLIMITED`].
    pub open_files: u64,
}

impl Head {
    /// Its encoded size, in bytes.
    pub const LEN: usize = HEAD_LEN;

    /// The encoded bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEAD_LEN] {
        let mut to = Writer::<HEAD_LEN>::default();
        for word in [
            MAGIC,
            self.len,
            self.argc,
            self.envc,
            u32::from(self.input),
            u32::from(self.trace),
            self.cpu_seconds,
        ] {
            to.put(&word.to_ne_bytes());
        }
        to.put(&self.file_size.to_ne_bytes());
        to.put(&self.address_space.to_ne_bytes());
        to.put(&self.open_files.to_ne_bytes());
        to.bytes
    }

    /// Decodes a head; `None` when it is malformed, or exceeds [`MAX_TEXT`] or [`MAX_STRINGS`].
    #[must_use]
    pub fn decode(bytes: &[u8; HEAD_LEN]) -> Option<Self> {
        let mut from = Reader(bytes);
        if from.u32()? != MAGIC {
            return None;
        }
        let head = Self {
            len: from.u32()?,
            argc: from.u32()?,
            envc: from.u32()?,
            input: from.u32()? != 0,
            trace: from.u32()? != 0,
            cpu_seconds: from.u32()?,
            file_size: from.u64()?,
            address_space: from.u64()?,
            open_files: from.u64()?,
        };
        let strings = (head.argc as usize).checked_add(head.envc as usize)?;
        (head.len as usize <= MAX_TEXT && strings <= MAX_STRINGS).then_some(head)
    }
}

/// What a reply is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The server is ready.
    Ready,
    /// The program has ended.
    Ended,
    /// The processes that the program left behind have ended too.
    Swept,
}

/// The step at which a run failed to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It did start.
    None,
    /// The new process could not be created.
    Fork,
    /// The working directory could not be entered.
    Chdir,
    /// Descriptors or limits could not be set.
    Prepare,
    /// The program could not be executed.
    Exec,
}

impl Step {
    const ALL: [Self; 5] = [
        Self::None,
        Self::Fork,
        Self::Chdir,
        Self::Prepare,
        Self::Exec,
    ];

    /// The step with this number; an unknown one counts as [`Step::Prepare`].
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        Self::ALL
            .into_iter()
            .find(|&step| step as u32 == number)
            .unwrap_or(Self::Prepare)
    }
}

/// A reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// What it is about; the rest belongs to [`Kind::Ended`].
    pub kind: Kind,
    /// The status as wait(2) gives it.
    pub status: i32,
    /// The step that failed.
    pub failed: Step,
    /// The system's error number of that step.
    pub errno: i32,
    /// Whether processes were left behind. They must be killed, after which the server
    /// replies [`Kind::Swept`].
    pub left: bool,
    /// Time from start to end, in nanoseconds.
    pub wall_ns: u64,
    /// User and system time, in microseconds.
    pub cpu_us: u64,
    /// The largest resident set, in KiB.
    pub max_rss_kib: u64,
    /// The place of a crash, as a number that is the same in every server of a program; 0 where
    /// it is not known.
    pub crash: u64,
}

impl Reply {
    /// Its encoded size, in bytes.
    pub const LEN: usize = REPLY_LEN;

    /// A reply with nothing but its kind.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        Self {
            kind,
            status: 0,
            failed: Step::None,
            errno: 0,
            left: false,
            wall_ns: 0,
            cpu_us: 0,
            max_rss_kib: 0,
            crash: 0,
        }
    }

    /// The encoded bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; REPLY_LEN] {
        let mut to = Writer::<REPLY_LEN>::default();
        to.put(&MAGIC.to_ne_bytes());
        to.put(&(self.kind as u32).to_ne_bytes());
        to.put(&self.status.to_ne_bytes());
        to.put(&(self.failed as u32).to_ne_bytes());
        to.put(&self.errno.to_ne_bytes());
        to.put(&u32::from(self.left).to_ne_bytes());
        for long in [self.wall_ns, self.cpu_us, self.max_rss_kib, self.crash] {
            to.put(&long.to_ne_bytes());
        }
        to.bytes
    }

    /// Decodes a reply; `None` when it is malformed.
    #[must_use]
    pub fn decode(bytes: &[u8; REPLY_LEN]) -> Option<Self> {
        let mut from = Reader(bytes);
        if from.u32()? != MAGIC {
            return None;
        }
        let number = from.u32()?;
        Some(Self {
            kind: [Kind::Ready, Kind::Ended, Kind::Swept]
                .into_iter()
                .find(|&kind| kind as u32 == number)?,
            status: from.u32()?.cast_signed(),
            failed: Step::from_number(from.u32()?),
            errno: from.u32()?.cast_signed(),
            left: from.u32()? != 0,
            wall_ns: from.u64()?,
            cpu_us: from.u64()?,
            max_rss_kib: from.u64()?,
            crash: from.u64()?,
        })
    }
}

/// Fills a fixed array from the front.
struct Writer<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Default for Writer<N> {
    fn default() -> Self {
        Self {
            bytes: [0; N],
            at: 0,
        }
    }
}

impl<const N: usize> Writer<N> {
    fn put(&mut self, part: &[u8]) {
        let end = self.at + part.len();
        if let Some(place) = self.bytes.get_mut(self.at..end) {
            place.copy_from_slice(part);
        }
        self.at = end;
    }
}

/// Reads numbers from the front of some bytes.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_ne_bytes(*first))
    }

    fn u64(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_ne_bytes(*first))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_head_round_trips(
            len in 0..=(MAX_TEXT as u32),
            argc in 0..1000u32,
            envc in 0..1000u32,
            input: bool,
            trace: bool,
            cpu_seconds: u32,
            file_size: u64,
            address_space: u64,
            open_files: u64,
        ) {
            let head = Head {
                len, argc, envc, input, trace, cpu_seconds, file_size, address_space, open_files,
            };
            prop_assert_eq!(Head::decode(&head.encode()), Some(head));
        }

        #[test]
        fn a_reply_round_trips(
            status: i32, errno: i32, left: bool, kind in 0..3usize, failed in 0..5u32,
            wall_ns: u64, cpu_us: u64, max_rss_kib: u64, crash: u64,
        ) {
            let reply = Reply {
                kind: [Kind::Ready, Kind::Ended, Kind::Swept][kind],
                failed: Step::from_number(failed),
                status, errno, left, wall_ns, cpu_us, max_rss_kib, crash,
            };
            prop_assert_eq!(Reply::decode(&reply.encode()), Some(reply));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(head: [u8; 20], reply: [u8; 24]) {
            let mut bytes = [0; Head::LEN];
            bytes[..20].copy_from_slice(&head);
            let _ = Head::decode(&bytes);
            let mut bytes = [0; Reply::LEN];
            bytes[..24].copy_from_slice(&reply);
            let _ = Reply::decode(&bytes);
        }
    }

    #[test]
    fn a_request_past_the_bounds_is_rejected() {
        let head = Head {
            len: MAX_TEXT as u32 + 1,
            argc: 1,
            envc: 0,
            input: false,
            trace: false,
            cpu_seconds: 1,
            file_size: UNLIMITED,
            address_space: UNLIMITED,
            open_files: UNLIMITED,
        };
        assert_eq!(Head::decode(&head.encode()), None);
        let head = Head {
            len: 1,
            argc: u32::MAX,
            envc: u32::MAX,
            ..head
        };
        assert_eq!(Head::decode(&head.encode()), None);
    }
}
