//! A program under test in gdb (`--debugger`).
//!
//! The variables that tell a test where the programs are name small scripts instead. Each
//! start goes through the runner's own program ([`start`]), which counts it and becomes the
//! program; at the chosen one it first waits until gdb has attached. So the program has the
//! process id, the parent, the streams and the exit status that it has without a debugger,
//! and gdb has the terminal.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use childproc::{Child, Event, How, Keeper, Spec, Streams};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};
use nix::unistd::Pid;

use super::stop::{Stop, Urgency};
use crate::args::DEBUGGEES;
use crate::words::{command_line, quoted};

/// The word that has this program start a program under test.
pub const START: &str = "--start-debuggee";

/// How often it is looked whether gdb is there, or is to be ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The file with commands for gdb.
const SCRIPT: &str = "before-quit.gdb";

/// How long gdb may put the terminal in order when the run is to stop.
const GRACE: Duration = Duration::from_secs(1);

/// What gdb does before it quits, or reaches the end of its input: it would let go of what
/// it has attached to, while who quits in the middle wants no more of it.
const BEFORE_QUIT: &str = "define hook-quit\nif $_thread\nset confirm off\nkill\nend\nend\n";

/// Which start of which program is debugged, and by what.
#[derive(Debug, Clone)]
pub struct Debugged {
    /// The program, one of [`DEBUGGEES`]; `None` for whichever is started.
    pub program: Option<&'static str>,
    /// Which of its starts, from 1.
    pub nth: u32,
    /// This program's own file, which the scripts start.
    pub runner: PathBuf,
    /// The debugger.
    pub gdb: OsString,
}

/// The starts of programs in one test.
#[derive(Debug)]
pub(super) struct Starts {
    debugged: Debugged,
    /// Holds the scripts, the list of starts and what was chosen.
    dir: tempfile::TempDir,
    /// Whether the chosen start has come.
    done: bool,
}

/// The start that is debugged.
#[derive(Debug)]
pub(super) struct Chosen {
    pid: i32,
    program: PathBuf,
    /// Its command line.
    words: Vec<Vec<u8>>,
}

impl Chosen {
    /// Its command line, as a shell takes it.
    pub(super) fn command_line(&self) -> String {
        command_line(&self.words)
    }
}

impl Starts {
    /// Puts scripts in the place of the programs in the environment `env` of a test.
    pub(super) fn new(debugged: &Debugged, env: &mut [(OsString, OsString)]) -> io::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("check-debugger-")
            .tempdir()?;
        fs::write(dir.path().join(SCRIPT), BEFORE_QUIT)?;
        for (name, variable) in DEBUGGEES {
            if debugged.program.is_some_and(|program| program != name) {
                continue;
            }
            let Some((_, value)) = env.iter_mut().find(|(n, _)| n == variable) else {
                continue;
            };
            let program = PathBuf::from(&*value);
            let script = dir.path().join(name);
            fs::create_dir(&script)?;
            // Messages of programs begin with the name of their file.
            let script = script.join(program.file_name().unwrap_or(OsStr::new(name)));
            fs::write(&script, script_of(debugged, dir.path(), &program))?;
            fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
            *value = script.into();
        }
        Ok(Self {
            debugged: debugged.clone(),
            dir,
            done: false,
        })
    }

    /// The chosen start, once it waits for gdb.
    pub(super) fn chosen(&mut self) -> Option<Chosen> {
        if self.done {
            return None;
        }
        let text = fs::read(self.dir.path().join("chosen")).ok()?;
        self.done = true;
        let mut words = text.split(|b| *b == 0).map(<[u8]>::to_vec);
        let pid = str::from_utf8(&words.next()?).ok()?.parse().ok()?;
        let program = PathBuf::from(OsString::from_vec(words.next()?));
        Some(Chosen {
            pid,
            program,
            words: words.collect(),
        })
    }

    /// Runs gdb on `chosen`, on the terminal, until it has ended; what a person should know.
    ///
    /// # Errors
    ///
    /// gdb cannot be started or followed.
    pub(super) fn session(
        &self,
        chosen: &Chosen,
        keeper: &Keeper,
        stop: &Stop,
    ) -> io::Result<Option<String>> {
        let cwd = fs::read_link(format!("/proc/{}/cwd", chosen.pid)).unwrap_or_else(|_| "/".into());
        let mut spec = Spec::new(
            self.debugged.gdb.clone(),
            std::env::vars_os().collect(),
            cwd,
        );
        spec.args = gdb_args(chosen.pid, &self.dir.path().join(SCRIPT));
        spec.terminal = true;
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let streams = Streams {
            stdin: Some(stdin.as_fd()),
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
        };
        let terminal = tcgetattr(&stdin).ok();
        let gdb = keeper.spawn(&spec, streams)?;
        let followed = follow(gdb, stop);
        // One that was killed leaves it as it was for its prompt.
        if let Some(settings) = terminal {
            let _ = tcsetattr(&stdin, SetArg::TCSADRAIN, &settings);
        }
        followed?;
        // Where gdb could not attach, it is still the runner, and waits.
        let exe = fs::read_link(format!("/proc/{}/exe", chosen.pid)).ok();
        if exe.is_none() || exe != fs::read_link("/proc/self/exe").ok() {
            return Ok(None);
        }
        let _ = kill(Pid::from_raw(chosen.pid), Signal::SIGKILL);
        let program = chosen.program.display();
        Ok(Some(format!(
            "gdb ended before {program} ran, which was killed"
        )))
    }

    /// What a person should know where the chosen start has never come.
    pub(super) fn missed(&self) -> Option<String> {
        if self.done {
            return None;
        }
        let starts = fs::read(self.dir.path().join("starts")).unwrap_or_default();
        let count = starts.split(|b| *b == b'\n').count() - 1;
        let what = self.debugged.program.unwrap_or("a program under test");
        let times = match count {
            1 => "once".to_owned(),
            n => format!("{n} times"),
        };
        Some(format!(
            "nothing was debugged: the test started {what} {times}, not {}",
            self.debugged.nth
        ))
    }
}

/// The script in the place of `program`.
fn script_of(debugged: &Debugged, dir: &Path, program: &Path) -> Vec<u8> {
    let quoted = |path: &Path| quoted(&path.to_string_lossy());
    let text = format!(
        "#!/bin/sh\nexec {} {START} {} {} {} \"$0\" \"$@\"\n",
        quoted(&debugged.runner),
        quoted(dir),
        debugged.nth,
        quoted(program)
    );
    text.into_bytes()
}

/// Becomes the program that `words` name, as a script of `Starts` asks: the directory, the
/// number of the start that is chosen, the program, the name that it is called by, its
/// arguments.
///
/// # Errors
///
/// The program cannot be started, or the directory is gone.
pub fn start(words: &[OsString]) -> anyhow::Result<Infallible> {
    let [dir, nth, program, name, args @ ..] = words else {
        bail!("{START} is for programs under a debugger; see --debugger");
    };
    let dir = Path::new(dir);
    let nth: usize = nth.to_str().and_then(|n| n.parse().ok()).unwrap_or(0);
    if !only_asks(args) && count(dir).context("cannot count the start of a program")? == nth {
        childproc::allow_tracing();
        offer(dir, program, args).context("cannot offer a program to gdb")?;
        while tracer(std::process::id().try_into().unwrap_or(0)).unwrap_or(0) == 0 {
            thread::sleep(LOOK_EVERY);
        }
    }
    let error = Command::new(program).arg0(name).args(args).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// Whether a program is asked for help or its version and nothing else.
fn only_asks(args: &[OsString]) -> bool {
    args.iter().any(|arg| {
        let arg = arg.as_bytes();
        let words: [&[u8]; 6] = [
            b"-h",
            b"--help",
            b"-help",
            b"help",
            b"--version",
            b"-version",
        ];
        let value = arg.rsplit(|b| matches!(b, b',' | b'=')).next();
        words.contains(&arg) || matches!(value, Some(b"help" | b"?"))
    })
}

/// Counts this start; its number, from 1.
fn count(dir: &Path) -> io::Result<usize> {
    let path = dir.join("starts");
    let own = std::process::id().to_string();
    let mut file = File::options().create(true).append(true).open(&path)?;
    file.write_all(format!("{own}\n").as_bytes())?;
    // Others may have been added since.
    let all = fs::read_to_string(&path)?;
    let at = all
        .lines()
        .enumerate()
        .filter(|(_, line)| *line == own)
        .last();
    Ok(at.map_or(0, |(at, _)| at + 1))
}

/// Tells the runner that this process is to be debugged.
fn offer(dir: &Path, program: &OsStr, args: &[OsString]) -> io::Result<()> {
    let pid = std::process::id().to_string();
    let mut text = [pid.as_bytes(), program.as_bytes(), program.as_bytes()].join(&0);
    for arg in args {
        text.push(0);
        text.extend_from_slice(arg.as_bytes());
    }
    atomic_write::write(&dir.join("chosen"), |out| out.write_all(&text))
}

/// The process that traces `pid`; 0 for none, `None` where `pid` has ended.
fn tracer(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name| {
        status
            .lines()
            .find_map(|l| l.strip_prefix(name))
            .map(str::trim)
    };
    let ended = field("State:")?.starts_with(['Z', 'X']);
    field("TracerPid:")?.parse().ok().filter(|_| !ended)
}

/// The arguments of gdb. It is not told the program, which it would place where the runner
/// is that it attaches to, and put breakpoints of its own there; it finds the program when
/// that has become it.
fn gdb_args(pid: i32, script: &Path) -> Vec<OsString> {
    let source = format!("source {}", script.display());
    let settings = [
        "set auto-solib-add off",
        "set print symbol-loading off",
        &source,
    ];
    let commands = [
        "set auto-solib-add on",
        "set print symbol-loading full",
        "tcatch exec",
        "continue",
    ];
    let mut args: Vec<OsString> = vec!["-q".into()];
    args.extend(settings.iter().flat_map(|s| ["-iex".into(), s.into()]));
    args.extend(commands.iter().flat_map(|c| ["-ex".into(), c.into()]));
    args.extend(["-p".into(), pid.to_string().into()]);
    args
}

/// Waits for gdb to end, and ends it where the run is to stop.
fn follow(mut gdb: Child, stop: &Stop) -> io::Result<()> {
    let mut told = Urgency::None;
    loop {
        let urgency = stop.urgency();
        if urgency > told {
            told = urgency;
            // Where this fails its supervisor is gone, and the next wait says so.
            let how = match urgency {
                Urgency::Now => How::Kill,
                _ => How::Term(GRACE),
            };
            let _ = gdb.end(how);
        }
        match gdb.wait_event(Some(Instant::now() + LOOK_EVERY))? {
            Some(Event::NotStarted(why)) => return Err(io::Error::other(why)),
            Some(Event::Done(_)) => return Ok(()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_asks_is_known() {
        let asks = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            only_asks(&words)
        };
        for line in [
            "--version",
            "-M none -device help",
            "create -f qcow2 -o help",
        ] {
            assert!(asks(line), "{line}");
        }
        for line in ["create -f qcow2 -o size=1 helper", "info --image-opts a=b"] {
            assert!(!asks(line), "{line}");
        }
    }

    #[test]
    fn starts_are_counted_and_offered() {
        let debugged = Debugged {
            program: Some("qemu-img"),
            nth: 2,
            runner: "/r/che ck".into(),
            gdb: "gdb".into(),
        };
        let mut env: Vec<(OsString, OsString)> = vec![
            ("QEMU_IMG_PROG".into(), "/b/my-img".into()),
            ("QEMU_IO_PROG".into(), "/b/qemu-io".into()),
        ];
        let mut starts = Starts::new(&debugged, &mut env).unwrap();
        let dir = starts.dir.path().to_owned();
        assert_eq!(env[1].1, "/b/qemu-io");
        let script = PathBuf::from(&env[0].1);
        assert_eq!(script.file_name(), Some(OsStr::new("my-img")));
        let text = fs::read_to_string(script).unwrap();
        let wanted = format!(
            "#!/bin/sh\nexec '/r/che ck' {START} {} 2 /b/my-img \"$0\" \"$@\"\n",
            dir.display()
        );
        assert_eq!(text, wanted);

        assert_eq!(count(&dir).unwrap(), 1);
        assert!(starts.chosen().is_none());
        let missed = starts.missed().unwrap();
        assert!(missed.contains("started qemu-img once, not 2"), "{missed}");
        assert_eq!(count(&dir).unwrap(), 2);
        offer(
            &dir,
            OsStr::new("/b/my-img"),
            &["info".into(), "a b".into()],
        )
        .unwrap();
        let chosen = starts.chosen().unwrap();
        assert_eq!(chosen.pid, i32::try_from(std::process::id()).unwrap());
        assert_eq!(chosen.command_line(), "/b/my-img info 'a b'");
        assert!(starts.chosen().is_none() && starts.missed().is_none());
    }
}
