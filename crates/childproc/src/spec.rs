//! What to start, and the events of its run.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::end::{How, LeftBehind};
use crate::sys::Status;
use crate::wire::{Reader, Writer};

/// The most processes that [`Done`] names one by one.
const LEFT_NAMED: usize = 100;

/// The most bytes of mount points that [`Done`] names.
const MOUNTS_BYTES: usize = 32 << 10;

/// What a message to a supervisor begins with: an order to start a program.
const ORDER: u64 = 1;

/// What a message to a supervisor begins with: the command to end everything.
const END: u64 = 2;

/// A limit on a resource, as setrlimit(2) takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Which resource.
    pub resource: nix::sys::resource::Resource,
    /// The limit; `None` is as much as the hard limit allows.
    pub soft: Option<u64>,
    /// Whether the hard limit becomes the same, so that the program cannot raise
    /// it again.
    pub hard: bool,
}

/// A program to start.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The program; without a `/` it is looked up in the `PATH` of `env`.
    pub program: OsString,
    /// Its arguments, without its own name.
    pub args: Vec<OsString>,
    /// Its whole environment: nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// The directory it runs in.
    pub cwd: PathBuf,
    /// Limits on its resources, inherited by all it starts.
    pub limits: Vec<Limit>,
    /// FUSE mounts below these directories are unmounted in the end. The paths
    /// have no symbolic links in them.
    pub mounts_below: Vec<PathBuf>,
    /// How long processes may go on after the program itself has ended, before
    /// they count as left behind: those it has asked to end may need a moment.
    pub settle: Duration,
    /// How processes that are left behind are ended.
    pub ending: How,
    /// The program gets the terminal that stdin is: it becomes its foreground
    /// process group until it ends. Else it runs in a session of its own.
    pub terminal: bool,
}

impl Spec {
    /// A program with its environment and directory, without limits: what it
    /// leaves behind has 200 ms to end and a second after SIGTERM.
    #[must_use]
    pub fn new(program: OsString, env: Vec<(OsString, OsString)>, cwd: PathBuf) -> Self {
        Self {
            program,
            args: Vec::new(),
            env,
            cwd,
            limits: Vec::new(),
            mounts_below: Vec::new(),
            settle: Duration::from_millis(200),
            ending: How::Term(Duration::from_secs(1)),
            terminal: false,
        }
    }
}

/// A [`Spec`] as the supervisor has it: limits by their numbers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) program: OsString,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<OsString>,
    pub(crate) cwd: PathBuf,
    /// Resource, bound (all ones: as much as the hard limit allows), hard too.
    pub(crate) limits: Vec<(i32, u64, bool)>,
    pub(crate) mounts_below: Vec<PathBuf>,
    pub(crate) settle: Duration,
    pub(crate) ending: How,
    pub(crate) terminal: bool,
    /// Whether a descriptor for stdin comes with it, else it is `/dev/null`.
    pub(crate) stdin: bool,
}

/// Writes `spec`, with the program as the path `program`.
pub(crate) fn write_order(spec: &Spec, program: &OsString, stdin: bool) -> Vec<u8> {
    let mut w = Writer::default();
    w.number(ORDER)
        .text(program)
        .list(&spec.args, |w, arg| {
            w.text(arg);
        })
        .list(&spec.env, |w, (name, value)| {
            let mut variable = name.clone();
            variable.push("=");
            variable.push(value);
            w.text(&variable);
        })
        .text(&spec.cwd)
        .list(&spec.limits, |w, limit| {
            w.number(limit.resource as u64)
                .number(limit.soft.unwrap_or(u64::MAX))
                .number(u64::from(limit.hard));
        })
        .list(&spec.mounts_below, |w, dir| {
            w.text(dir);
        })
        .time(spec.settle);
    write_how(&mut w, spec.ending);
    w.number(u64::from(spec.terminal)).number(u64::from(stdin));
    w.done()
}

/// Reads what [`write_order`] wrote.
pub(crate) fn read_order(message: &[u8]) -> Option<Order> {
    let mut r = Reader(message);
    if r.number()? != ORDER {
        return None;
    }
    Some(Order {
        program: r.text()?,
        args: r.list(Reader::text)?,
        env: r.list(Reader::text)?,
        cwd: r.path()?,
        limits: r.list(|r| {
            let resource = i32::try_from(r.number()?).ok()?;
            Some((resource, r.number()?, r.number()? != 0))
        })?,
        mounts_below: r.list(Reader::path)?,
        settle: r.time()?,
        ending: read_how(&mut r)?,
        terminal: r.number()? != 0,
        stdin: r.number()? != 0,
    })
}

/// How a program and all it started ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// CPU time of everything it started.
    pub cpu: Duration,
    /// Processes that had to be ended, the first hundred of them.
    pub left_behind: Vec<LeftBehind>,
    /// How many had to be ended.
    pub left_count: usize,
    /// FUSE mounts that were still there when the program had ended.
    pub mounts: Vec<PathBuf>,
    /// Processes that could not be ended: another user's, or hanging in the
    /// kernel.
    pub alive: Vec<LeftBehind>,
}

/// What happens to a started program, in order: `Started`, `Exited`, `Done`; or
/// `NotStarted` alone; or, where the supervisor itself was killed, `Lost` and
/// `Done` at any point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The program runs.
    Started {
        /// Its process id.
        pid: i32,
        /// The process id of its supervisor, which all it starts is below.
        supervisor: i32,
    },
    /// It could not be started: why.
    NotStarted(String),
    /// The program itself has ended; what it left behind may still be there.
    Exited {
        /// How it ended.
        status: Status,
        /// How long it ran.
        wall: Duration,
    },
    /// The process that supervised it was ended by this signal, and everything
    /// below it with it. How the program would have ended is not known.
    Lost {
        /// The signal.
        signal: i32,
    },
    /// Everything has ended.
    Done(Done),
}

impl Event {
    /// Whether nothing comes after this one.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, Self::NotStarted(_) | Self::Done(_))
    }

    /// Whether a supervisor whose last event this is has nothing of its program
    /// left and can take another; `terminal` is whether that had the terminal.
    pub(crate) fn leaves_room(&self, terminal: bool) -> bool {
        match self {
            Self::NotStarted(_) => !terminal,
            Self::Done(done) => !terminal && done.alive.is_empty(),
            _ => false,
        }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut w = Writer::default();
        match self {
            Self::Started { pid, supervisor } => {
                w.number(1).signed(*pid).signed(*supervisor);
            }
            Self::NotStarted(why) => {
                w.number(2).text(why);
            }
            Self::Exited { status, wall } => {
                let (kind, value) = match *status {
                    Status::Exited(code) => (0, code),
                    Status::Signaled { signal, core } => (1 + u64::from(core), signal),
                };
                w.number(3).number(kind).signed(value).time(*wall);
            }
            Self::Lost { signal } => {
                w.number(4).signed(*signal);
            }
            Self::Done(done) => write_done(&mut w, done),
        }
        w.done()
    }

    pub(crate) fn read(message: &[u8]) -> Option<Self> {
        let mut r = Reader(message);
        Some(match r.number()? {
            1 => Self::Started {
                pid: r.signed()?,
                supervisor: r.signed()?,
            },
            2 => Self::NotStarted(r.text()?.to_string_lossy().into_owned()),
            3 => {
                let (kind, value) = (r.number()?, r.signed()?);
                let status = match kind {
                    0 => Status::Exited(value),
                    core => Status::Signaled {
                        signal: value,
                        core: core == 2,
                    },
                };
                let wall = r.time()?;
                Self::Exited { status, wall }
            }
            4 => Self::Lost {
                signal: r.signed()?,
            },
            5 => Self::Done(Done {
                cpu: r.time()?,
                left_behind: r.list(read_left)?,
                left_count: usize::try_from(r.number()?).ok()?,
                mounts: r.list(Reader::path)?,
                alive: r.list(read_left)?,
            }),
            _ => return None,
        })
    }
}

/// Writes the last event, shortened so that it fits in one packet.
fn write_done(w: &mut Writer, done: &Done) {
    let named = |list: &[LeftBehind]| list.len().min(LEFT_NAMED);
    w.number(5)
        .time(done.cpu)
        .list(&done.left_behind[..named(&done.left_behind)], write_left)
        .number(done.left_count as u64);
    let mut room = MOUNTS_BYTES;
    let fitting = done
        .mounts
        .iter()
        .take_while(|path| {
            let len = path.as_os_str().len() + 8;
            let fits = len <= room;
            room = room.saturating_sub(len);
            fits
        })
        .count();
    w.list(&done.mounts[..fitting], |w, path| {
        w.text(path);
    })
    .list(&done.alive[..named(&done.alive)], write_left);
    debug_assert!(w.len() < PACKET);
}

/// More bytes than any packet between a caller and a supervisor has.
pub(crate) const PACKET: usize = 64 << 10;

/// The first number of the message with the supervisor's process id; those of
/// events are smaller.
const READY: u64 = 100;

/// Writes the first message of a new supervisor: its process id. A program may stop
/// it at once, and the caller must know which process to end.
pub(crate) fn write_ready(supervisor: i32) -> Vec<u8> {
    let mut w = Writer::default();
    w.number(READY).signed(supervisor);
    w.done()
}

/// Reads what [`write_ready`] wrote; `None` for an event.
pub(crate) fn read_ready(message: &[u8]) -> Option<i32> {
    let mut r = Reader(message);
    (r.number()? == READY).then(|| r.signed()).flatten()
}

fn write_left(w: &mut Writer, left: &LeftBehind) {
    w.signed(left.pid).text(&left.name);
}

fn read_left(r: &mut Reader<'_>) -> Option<LeftBehind> {
    let pid = r.signed()?;
    let name = r.text()?.to_string_lossy().into_owned();
    Some(LeftBehind { name, pid })
}

fn write_how(w: &mut Writer, how: How) {
    match how {
        How::Kill => w.number(0).time(Duration::ZERO),
        How::Term(grace) => w.number(1).time(grace),
    };
}

fn read_how(r: &mut Reader<'_>) -> Option<How> {
    let (term, grace) = (r.number()? != 0, r.time()?);
    Some(if term { How::Term(grace) } else { How::Kill })
}

/// Writes the command that ends everything.
pub(crate) fn write_end(how: How) -> Vec<u8> {
    let mut w = Writer::default();
    w.number(END);
    write_how(&mut w, how);
    w.done()
}

/// Reads the command that ends everything. Anything else, such as an end of
/// file, means at once.
pub(crate) fn read_end(message: &[u8]) -> How {
    let mut r = Reader(message);
    match r.number() {
        Some(END) => read_how(&mut r).unwrap_or(How::Kill),
        _ => How::Kill,
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::resource::Resource;

    use super::*;

    #[test]
    fn an_order_is_read_as_written() {
        let mut spec = Spec::new("prog".into(), vec![("A".into(), "b=c".into())], "/x".into());
        spec.args = vec!["-a".into(), "".into()];
        spec.mounts_below = vec!["/m".into()];
        spec.limits = vec![Limit {
            resource: Resource::RLIMIT_CORE,
            soft: None,
            hard: false,
        }];
        let message = write_order(&spec, &"/bin/prog".into(), true);
        let order = read_order(&message).unwrap();
        assert_eq!(order.program, "/bin/prog");
        assert_eq!(order.args, ["-a", ""]);
        assert_eq!(order.env, ["A=b=c"]);
        assert_eq!(order.limits, [(libc::RLIMIT_CORE as i32, u64::MAX, false)]);
        assert_eq!(order.ending, spec.ending);
        assert!(order.stdin && !order.terminal);
        for end in 0..message.len() {
            assert_eq!(read_order(&message[..end]), None);
        }
    }

    #[test]
    fn events_are_read_as_written() {
        let left = |n: usize| LeftBehind {
            name: "sleep".into(),
            pid: i32::try_from(n).unwrap(),
        };
        let done = Done {
            cpu: Duration::from_millis(3),
            left_behind: (0..5).map(left).collect(),
            left_count: 5,
            mounts: vec!["/a b".into()],
            alive: vec![left(9)],
        };
        for event in [
            Event::Started {
                pid: 7,
                supervisor: 6,
            },
            Event::NotStarted("no".into()),
            Event::Exited {
                status: Status::Exited(3),
                wall: Duration::from_secs(2),
            },
            Event::Exited {
                status: Status::Signaled {
                    signal: 34,
                    core: true,
                },
                wall: Duration::ZERO,
            },
            Event::Lost { signal: 9 },
            Event::Done(done),
        ] {
            assert_eq!(Event::read(&event.write()), Some(event));
        }
    }

    #[test]
    fn the_last_event_fits_in_a_packet_whatever_was_left() {
        let done = Done {
            cpu: Duration::ZERO,
            left_behind: vec![
                LeftBehind {
                    name: "x".repeat(crate::proc::WHOLE_NAME_MAX),
                    pid: i32::MAX
                };
                9000
            ],
            left_count: 9000,
            mounts: vec![PathBuf::from("m".repeat(4000)); 100],
            alive: vec![
                LeftBehind {
                    name: "x".repeat(crate::proc::WHOLE_NAME_MAX),
                    pid: i32::MAX
                };
                9000
            ],
        };
        let message = Event::Done(done).write();
        assert!(message.len() < PACKET);
        let Some(Event::Done(read)) = Event::read(&message) else {
            panic!("not read");
        };
        assert_eq!((read.left_behind.len(), read.left_count), (100, 9000));
        assert_eq!(read.mounts.len(), 8);
    }
}
