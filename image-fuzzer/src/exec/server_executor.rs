//! The executor: sends requests to a run server, watches the run, and records what was seen.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use runserver::wire::{Head, Kind, MAX_STRINGS, MAX_TEXT, Reply, Step, UNLIMITED};

use super::canary::close_tcp_connections;
use super::program::{Program, ServerKind};
use super::server::Server;
use super::{
    BUSY_FACTOR, Canaries, End, ExecError, Executor, GAP, Limit, Limits, Observation, Request,
    TimeoutHandler, watch,
};

/// How often a run is checked against its limits. Most have ended before the first time.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How soon processes are looked for that were started while others were killed.
const RESCAN_INTERVAL: Duration = Duration::from_millis(5);

/// What processes may take to exit after SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// An executor over a run server, of either kind.
pub(super) struct ServerExecutor {
    program: Program,
    kind: ServerKind,
    server: Option<Server>,
    /// How many servers were started: each has its code at other addresses.
    servers: u64,
    input: File,
    output: File,
    error: File,
    notes: Vec<String>,
    sandbox: String,
    canaries: Canaries,
    /// Runs what the fork server cannot: see [`read_at_start`].
    fallback: Option<Box<ServerExecutor>>,
}

impl ServerExecutor {
    /// Starts a server for `program`.
    ///
    /// # Errors
    ///
    /// The server does not start: the program does not work with this kind.
    pub(super) fn start(
        program: Program,
        kind: ServerKind,
        notes: Vec<String>,
    ) -> Result<Self, ExecError> {
        let file = |name: &str| {
            memfd_create(name, MFdFlags::MFD_CLOEXEC)
                .map(File::from)
                .map_err(|e| ExecError::setup("create a memfd for a program's output", e.into()))
        };
        let mut executor = Self {
            program,
            kind,
            server: None,
            servers: 0,
            input: file("stdin")?,
            output: file("stdout")?,
            error: file("stderr")?,
            notes,
            sandbox: String::new(),
            canaries: Canaries::default(),
            fallback: None,
        };
        executor
            .start_server()
            .map_err(|e| ExecError::setup("start a run server", e))?;
        Ok(executor)
    }

    fn start_server(&mut self) -> io::Result<()> {
        self.server = None;
        let server = Server::start(
            &self.program,
            &self.kind,
            [&self.input, &self.output, &self.error],
        )?;
        if server.has_gap() && self.sandbox.is_empty() {
            let sandbox = server.sandbox();
            self.notes.push(format!("{GAP}{sandbox}"));
        }
        self.sandbox = server.sandbox().to_owned();
        self.canaries = self.program.canaries().names(server.tcp().is_some());
        self.server = Some(server);
        self.servers += 1;
        Ok(())
    }

    /// Sends a request to the server, which is started again where it has ended.
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        if let Some(server) = &mut self.server
            && server.control().write_all(message).is_ok()
        {
            return Ok(());
        }
        self.start_server()?;
        match &mut self.server {
            Some(server) => server.control().write_all(message),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn try_run(
        &mut self,
        request: &Request,
        handler: TimeoutHandler<'_>,
    ) -> io::Result<Observation> {
        let message = encode(request, &self.program.environment(request))?;
        self.prepare_files(request)?;
        // Accesses to canaries between the runs are not the program's.
        self.program.canaries().touched();
        let before = self.program.allocated(&request.cwd);
        self.send(&message)?;
        let Some(server) = &mut self.server else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let mut run = ActiveRun {
            server,
            program: &self.program,
            files: [&self.output, &self.error],
            limits: &request.limits,
            cwd: &request.cwd,
            before,
            touched: BTreeSet::new(),
            killed_for: None,
        };
        let reply = run.until_ended(handler)?;
        run.close_connections();
        let left_behind = if reply.left { run.sweep()? } else { Vec::new() };
        let ActiveRun {
            mut touched,
            killed_for,
            ..
        } = run;
        touched.append(&mut self.program.canaries().touched());
        let bound = request.limits.output;
        let (stdout, too_much_out) = take(&mut self.output, bound)?;
        let (stderr, too_much_err) = take(&mut self.error, bound)?;
        let after = self.program.allocated(&request.cwd);
        let mut seen = Observation {
            crash: self.crash_id(&reply),
            end: killed_for.unwrap_or_else(|| end_of(&reply, request)),
            sanitizer: self.program.reports().take(&stderr, bound),
            stdout,
            stderr,
            wall: Duration::from_nanos(reply.wall_ns),
            cpu: Duration::from_micros(reply.cpu_us),
            max_rss: reply.max_rss_kib << 10,
            disk_growth: signed(after).saturating_sub(signed(before)),
            touched: touched.into_iter().collect(),
            left_behind,
        };
        if let End::Exit(_) = seen.end
            && let Some(limit) = exceeded(&seen, &request.limits, too_much_out || too_much_err)
        {
            seen.end = End::OverLimit(limit);
        }
        Ok(seen)
    }

    /// The number of the place of a crash, see [`Observation::crash`].
    fn crash_id(&self, reply: &Reply) -> Option<u64> {
        let spread = self.servers.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (reply.crash != 0).then_some(reply.crash ^ spread)
    }

    fn prepare_files(&mut self, request: &Request) -> io::Result<()> {
        // Only a run whose server failed leaves output here.
        take(&mut self.output, 0)?;
        take(&mut self.error, 0)?;
        if let Some(text) = &request.stdin {
            self.input.set_len(0)?;
            self.input.write_all_at(text, 0)?;
            self.input.rewind()?;
        }
        Ok(())
    }

    /// The executor for requests whose environment a program reads before it is forked.
    pub(super) fn spawn_fallback(&mut self) -> Result<&mut Self, ExecError> {
        let fallback = match self.fallback.take() {
            Some(fallback) => fallback,
            None => Box::new(Self::start(
                self.program.sibling()?,
                ServerKind::Spawn,
                Vec::new(),
            )?),
        };
        Ok(self.fallback.insert(fallback))
    }
}

impl Executor for ServerExecutor {
    fn run_with(&mut self, request: &Request, handler: TimeoutHandler<'_>) -> Observation {
        if self.kind != ServerKind::Spawn && request.env.iter().any(|(name, _)| read_at_start(name))
        {
            return match self.spawn_fallback() {
                Ok(fallback) => fallback.run_with(request, handler),
                Err(error) => Observation::not_started(error.to_string()),
            };
        }
        self.try_run(request, handler).unwrap_or_else(|error| {
            // The next run starts a new one.
            self.server = None;
            Observation::not_started(format!("the run server failed: {error}"))
        })
    }

    fn name(&self) -> &str {
        match self.kind {
            ServerKind::Fork { .. } => "fork server",
            ServerKind::Spawn => "spawn",
        }
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn sandbox(&self) -> &str {
        &self.sandbox
    }

    fn canaries(&self) -> &Canaries {
        &self.canaries
    }
}

/// A run in progress.
struct ActiveRun<'a> {
    server: &'a mut Server,
    program: &'a Program,
    files: [&'a File; 2],
    limits: &'a Limits,
    cwd: &'a Path,
    /// Bytes allocated before it began.
    before: u64,
    touched: BTreeSet<PathBuf>,
    /// Why it was killed, where we did it.
    killed_for: Option<End>,
}

impl ActiveRun<'_> {
    /// Waits until the program has ended, and kills it when it goes over a limit.
    fn until_ended(&mut self, mut handler: TimeoutHandler<'_>) -> io::Result<Reply> {
        let began = Instant::now();
        let mut deadline = began + self.limits.wall;
        let mut early = handler.inspect_early.map(|early| began + early);
        while !self.wait(deadline.min(Instant::now() + POLL_INTERVAL))? {
            let now = Instant::now();
            if handler.excuse_starvation && now >= deadline {
                let latest = began + self.limits.wall * BUSY_FACTOR;
                deadline = latest.min(began + self.limits.wall + self.starved()?);
            }
            self.killed_for = self.kill_cause(now >= deadline)?;
            if self.killed_for == Some(End::TimedOut) {
                self.inspect(&mut handler)?;
            } else if self.killed_for.is_none() && early.is_some_and(|early| now >= early) {
                early = None;
                if self.inspect(&mut handler)? {
                    self.killed_for = Some(End::TimedOut);
                }
                deadline += now.elapsed();
            }
            if self.killed_for.is_some() {
                self.kill()?;
                break;
            }
        }
        self.server.reply(Kind::Ended)
    }

    /// Why the program is to be killed now.
    fn kill_cause(&self, late: bool) -> io::Result<Option<End>> {
        if self.program.is_stopped() {
            return Ok(Some(End::Stopped));
        }
        if late {
            return Ok(Some(End::TimedOut));
        }
        Ok(self.over_limit()?.map(End::OverLimit))
    }

    /// Has the program inspected; whether it need not be waited for.
    fn inspect(&self, handler: &mut TimeoutHandler<'_>) -> io::Result<bool> {
        let Some(inspect) = &mut handler.inspect else {
            return Ok(false);
        };
        Ok(watch::first_below(self.server.pid())?.is_some_and(inspect))
    }

    /// How long the program was ready to run without a processor so far.
    fn starved(&self) -> io::Result<Duration> {
        let first = watch::first_below(self.server.pid())?;
        Ok(first.map_or(Duration::ZERO, watch::starved))
    }

    /// Kills the program with all its descendants, and waits until it has ended.
    fn kill(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + KILL_TIMEOUT;
        loop {
            // Again each time: a process that was just being started may have been missed.
            watch::kill_below(self.server.pid())?;
            if self.wait(Instant::now() + POLL_INTERVAL)? {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("the program did not exit after SIGKILL"));
            }
        }
    }

    /// Waits for a reply until a time; whether there is one. Connections to canaries are closed.
    fn wait(&mut self, until: Instant) -> io::Result<bool> {
        let left = until.saturating_duration_since(Instant::now());
        let mut fds = vec![PollFd::new(self.server.control_fd(), PollFlags::POLLIN)];
        let canaries = self.program.canaries().socket().into_iter();
        let canaries = canaries.chain(self.server.tcp().map(AsFd::as_fd));
        fds.extend(canaries.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut fds, timeout(left)) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let ready = fds.first().and_then(PollFd::any) == Some(true);
        if fds.iter().skip(1).any(|fd| fd.any() == Some(true)) {
            self.close_connections();
        }
        Ok(ready)
    }

    fn close_connections(&mut self) {
        self.program.canaries().close_connections(&mut self.touched);
        if let Some(tcp) = self.server.tcp() {
            close_tcp_connections(tcp, &mut self.touched);
        }
    }

    /// The limit that the run is over now.
    fn over_limit(&self) -> io::Result<Option<Limit>> {
        for file in self.files {
            if file.metadata()?.len() > self.limits.output as u64 {
                return Ok(Some(Limit::Output));
            }
        }
        let usage = watch::usage(self.server.pid())?;
        let growth = self.program.allocated(self.cwd).saturating_sub(self.before);
        Ok(if usage.memory > self.limits.memory {
            Some(Limit::Memory)
        } else if usage.processes > self.limits.processes {
            Some(Limit::Processes)
        } else if growth > self.limits.disk_growth {
            Some(Limit::DiskGrowth)
        } else {
            None
        })
    }

    /// Kills the processes that the program left behind, and gives their names.
    fn sweep(&mut self) -> io::Result<Vec<String>> {
        let deadline = Instant::now() + KILL_TIMEOUT;
        let mut names = Vec::new();
        loop {
            let killed = watch::kill_below(self.server.pid())?;
            if names.is_empty() {
                names = killed;
            }
            // A process that was forked meanwhile is found in the next round.
            if self.wait(Instant::now() + RESCAN_INTERVAL)? {
                self.server.reply(Kind::Swept)?;
                // A run that we killed had no chance to end its children.
                let ours = self.killed_for.is_some();
                return Ok(if ours { Vec::new() } else { names });
            }
            if Instant::now() > deadline {
                return Err(io::Error::other("a process did not exit after SIGKILL"));
            }
        }
    }
}

/// How a run ended that we did not kill.
fn end_of(reply: &Reply, request: &Request) -> End {
    let error = || io::Error::from_raw_os_error(reply.errno);
    match reply.failed {
        Step::None => {}
        Step::Fork => return End::NotStarted(format!("cannot fork: {}", error())),
        Step::Chdir => {
            let cwd = request.cwd.display();
            return End::NotStarted(format!("cannot enter {cwd}: {}", error()));
        }
        Step::Prepare => return End::NotStarted(format!("cannot set limits: {}", error())),
        Step::Exec => return End::NotStarted(format!("cannot execute the program: {}", error())),
    }
    if libc::WIFEXITED(reply.status) {
        return End::Exit(libc::WEXITSTATUS(reply.status));
    }
    match libc::WTERMSIG(reply.status) {
        libc::SIGXCPU => End::OverLimit(Limit::Cpu),
        // A second past the limit the kernel kills a program that ignores the first signal.
        libc::SIGKILL if Duration::from_micros(reply.cpu_us) >= request.limits.cpu => {
            End::OverLimit(Limit::Cpu)
        }
        signal => End::Signal(signal),
    }
}

/// The limit that a run turns out to have exceeded after it has ended.
fn exceeded(seen: &Observation, limits: &Limits, output: bool) -> Option<Limit> {
    if seen.max_rss > limits.memory {
        Some(Limit::Memory)
    } else if seen.disk_growth > signed(limits.disk_growth) {
        Some(Limit::DiskGrowth)
    } else {
        output.then_some(Limit::Output)
    }
}

/// Whether a variable is read by the loader, an allocator or another library before a fork
/// server forks, so that setting it in the child would be too late.
fn read_at_start(name: &OsString) -> bool {
    const PREFIXES: [&[u8]; 8] = [
        b"LD_", b"MALLOC_", b"GLIBC_", b"G_", b"GNUTLS_", b"ASAN_", b"UBSAN_", b"GCOV_",
    ];
    PREFIXES.iter().any(|p| name.as_bytes().starts_with(p))
}

/// A request in the server's format.
fn encode(request: &Request, env: &[(OsString, OsString)]) -> io::Result<Vec<u8>> {
    let mut message = vec![0; Head::LEN];
    push(&mut message, &[request.cwd.as_os_str().as_bytes()])?;
    for argument in &request.argv {
        push(&mut message, &[argument.as_bytes()])?;
    }
    for (name, value) in env {
        push(&mut message, &[name.as_bytes(), b"=", value.as_bytes()])?;
    }
    let too_long = || {
        io::Error::new(
            io::ErrorKind::ArgumentListTooLong,
            "the command line is too long",
        )
    };
    let text = message.len() - Head::LEN;
    if text > MAX_TEXT || request.argv.len() + env.len() > MAX_STRINGS {
        return Err(too_long());
    }
    let number = |n: usize| u32::try_from(n).map_err(|_| too_long());
    let head = Head {
        len: number(text)?,
        argc: number(request.argv.len())?,
        envc: number(env.len())?,
        input: request.stdin.is_some(),
        cpu_seconds: cpu_seconds(request.limits.cpu),
        file_size: request.limits.file_size,
        address_space: request.limits.address_space.unwrap_or(UNLIMITED),
    };
    if let Some(place) = message.first_chunk_mut() {
        *place = head.encode();
    }
    Ok(message)
}

/// Appends a string and a NUL byte.
fn push(message: &mut Vec<u8>, parts: &[&[u8]]) -> io::Result<()> {
    for part in parts {
        if part.contains(&0) {
            let text = "a NUL byte in an argument or environment variable";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        message.extend_from_slice(part);
    }
    message.push(0);
    Ok(())
}

fn cpu_seconds(limit: Duration) -> u32 {
    let whole = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
    u32::try_from(whole.max(1)).unwrap_or(u32::MAX)
}

/// Takes at most `bound` bytes of what was written; and whether there was more.
fn take(file: &mut File, bound: usize) -> io::Result<(Vec<u8>, bool)> {
    let len = file.metadata()?.len();
    if len == 0 {
        return Ok((Vec::new(), false));
    }
    file.rewind()?;
    let mut bytes = Vec::new();
    Read::take(&*file, bound as u64).read_to_end(&mut bytes)?;
    file.set_len(0)?;
    file.rewind()?;
    Ok((bytes, len > bound as u64))
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A timeout for poll(2), rounded up so that it never spins.
fn timeout(left: Duration) -> PollTimeout {
    PollTimeout::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
}
