//! The executor: sends requests to a run server, watches the run, and records what was seen.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use runserver::wire::{Reply, Step};

use super::active_run::ActiveRun;
use super::blocks::{BlockId, Reached};
use super::encode::encode;
use super::late::{self, LateServers};
use super::program::{Program, ServerKind};
use super::server::{Server, Start};
use super::{
    Canaries, End, ExecError, Executor, GAP, Limit, Limits, Observation, Request, TimeoutHandler,
};

/// An executor over a run server, of either kind.
pub(super) struct ServerExecutor {
    program: Program,
    kind: ServerKind,
    server: Option<Server>,
    /// Those that fork late; `None` where the program cannot be forked late.
    late: Option<LateServers>,
    input: File,
    output: File,
    error: File,
    notes: Vec<String>,
    /// How many of the notes were taken.
    told: usize,
    sandbox: String,
    canaries: Canaries,
    /// The blocks that were reached to find out how to run it, for the next run to give.
    pub(super) unclaimed: Vec<BlockId>,
    /// Runs what the fork server cannot: see [`read_at_start`].
    fallback: Option<Box<ServerExecutor>>,
    /// Has the guarding allocator loaded into its server.
    guarded: Option<Box<ServerExecutor>>,
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
        let can_be_late = matches!(kind, ServerKind::Fork { guarded: false, .. });
        let after = program.late_fork().filter(|_| can_be_late);
        let mut executor = Self {
            program,
            kind,
            server: None,
            late: after.map(LateServers::new),
            input: file("stdin")?,
            output: file("stdout")?,
            error: file("stderr")?,
            notes,
            told: 0,
            sandbox: String::new(),
            canaries: Canaries::default(),
            unclaimed: Vec::new(),
            fallback: None,
            guarded: None,
        };
        if executor.kind != ServerKind::Spawn {
            executor.notes.extend(executor.program.block_notes());
        }
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
            Start::Early,
        )?;
        if server.has_gap() && self.sandbox.is_empty() {
            let sandbox = server.sandbox();
            self.notes.push(format!("{GAP}{sandbox}"));
        }
        self.sandbox = server.sandbox().to_owned();
        self.canaries = self.program.canaries().names(server.tcp().is_some());
        self.server = Some(server);
        Ok(())
    }

    /// Sends a request to the server, which is started again where it has ended, and gives it.
    fn send(&mut self, message: &[u8], trace: bool) -> io::Result<Server> {
        if let Some(mut server) = self.server.take()
            && server.begin(message, trace).is_ok()
        {
            return Ok(server);
        }
        self.start_server()?;
        let mut server = self.server.take().ok_or(io::ErrorKind::NotConnected)?;
        server.begin(message, trace)?;
        Ok(server)
    }

    /// Has no blocks noted any more where the program cannot have that, and says so.
    fn look_at_obstacle(&mut self, server: &mut Server) {
        let Some(obstacle) = server.reached().and_then(|reached| reached.obstacle()) else {
            return;
        };
        server.forget_blocks();
        if let Some(note) = self.program.leave_alone(obstacle) {
            self.notes.push(note);
        }
    }

    /// Takes the server that forks late for a request, where it is to have one.
    fn take_late_server(&mut self, request: &Request, message: &[u8]) -> Option<Server> {
        let servers = self.late.as_mut()?;
        let place = servers.place(request)?;
        if let Some(server) = place.take() {
            return Some(server);
        }
        let is_checked = servers.is_checked;
        let server = if is_checked || self.late_is_like_early().unwrap_or(false) {
            self.start_late_server(message).ok()
        } else {
            None
        };
        match (&server, &mut self.late) {
            (Some(_), Some(servers)) => servers.is_checked = true,
            // It would be the same for other requests.
            _ => self.late = None,
        }
        server
    }

    fn start_late_server(&self, message: &[u8]) -> io::Result<Server> {
        let files = [&self.input, &self.output, &self.error];
        let server = late::start(&self.program, &self.kind, files, message)?;
        if server.sandbox() == self.sandbox {
            Ok(server)
        } else {
            Err(io::Error::other("its sandbox is another"))
        }
    }

    /// Whether the program, asked for its version, does the same under a server that forks
    /// late as under the other.
    fn late_is_like_early(&mut self) -> io::Result<bool> {
        let request = self.program.version_request();
        let message = self.encode(&request)?;
        let late = Some(self.start_late_server(&message)?);
        let (late, _) = self.run_in(late, &message, &request, TimeoutHandler::default())?;
        let (early, server) = self.run_in(None, &message, &request, TimeoutHandler::default())?;
        self.server = Some(server);
        let is_like = late.is_like(&early);
        self.unclaimed.extend([late.blocks, early.blocks].concat());
        Ok(is_like)
    }

    fn encode(&self, request: &Request) -> io::Result<Vec<u8>> {
        encode(request, &self.program.environment(request, &self.kind))
    }

    fn try_run(
        &mut self,
        request: &Request,
        handler: TimeoutHandler<'_>,
    ) -> io::Result<Observation> {
        let message = self.encode(request)?;
        let late = self.take_late_server(request, &message);
        let is_late = late.is_some();
        let (mut seen, server) = self.run_in(late, &message, request, handler)?;
        if !request.trace {
            seen.blocks.append(&mut self.unclaimed);
        }
        match &mut self.late {
            Some(servers) if is_late => servers.put_back(server),
            _ => self.server = Some(server),
        }
        Ok(seen)
    }

    /// Runs a request in a server that forks late, or without one in the other, and gives the
    /// server back.
    fn run_in(
        &mut self,
        late: Option<Server>,
        message: &[u8],
        request: &Request,
        handler: TimeoutHandler<'_>,
    ) -> io::Result<(Observation, Server)> {
        self.prepare_files(request)?;
        // Accesses to canaries between the runs are not the program's.
        self.program.canaries().touched();
        let before = self.program.allocated(&request.cwd);
        let mut server = match late {
            Some(mut late) => {
                late.begin(message, request.trace)?;
                late
            }
            None => self.send(message, request.trace)?,
        };
        let seen = self.watch(&mut server, before, request, handler)?;
        self.look_at_obstacle(&mut server);
        Ok((seen, server))
    }

    /// Waits for the end of the run that `server` was sent.
    fn watch(
        &mut self,
        server: &mut Server,
        before: u64,
        request: &Request,
        handler: TimeoutHandler<'_>,
    ) -> io::Result<Observation> {
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
            crash: (reply.crash != 0).then_some(reply.crash),
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
            blocks: server.reached().map_or_else(Vec::new, Reached::take),
        };
        if let End::Exit(_) = seen.end
            && let Some(limit) = exceeded(&seen, &request.limits, too_much_out || too_much_err)
        {
            seen.end = End::OverLimit(limit);
        }
        Ok(seen)
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

    /// The executor for requests with a guard, where this one's server has none and the
    /// program can have one.
    fn guarded_server(&mut self) -> Result<Option<&mut Self>, ExecError> {
        let ServerKind::Fork {
            library,
            guarded: false,
        } = &self.kind
        else {
            return Ok(None);
        };
        if self.program.guard().is_none() {
            return Ok(None);
        }
        let guarded = match self.guarded.take() {
            Some(guarded) => guarded,
            None => {
                let kind = ServerKind::Fork {
                    library: library.clone(),
                    guarded: true,
                };
                Box::new(Self::start(self.program.sibling()?, kind, Vec::new())?)
            }
        };
        Ok(Some(self.guarded.insert(guarded)))
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
        if request.guard.is_some() {
            match self.guarded_server() {
                Ok(Some(guarded)) => return guarded.run_with(request, handler),
                Ok(None) => {}
                Err(error) => return Observation::not_started(error.to_string()),
            }
        }
        // A server that fails is ended; the next run starts a new one.
        self.try_run(request, handler).unwrap_or_else(|error| {
            Observation::not_started(format!("the run server failed: {error}"))
        })
    }

    fn name(&self) -> &str {
        match self.kind {
            ServerKind::Fork { .. } => "fork server",
            ServerKind::Spawn => "spawn",
        }
    }

    fn take_notes(&mut self) -> Vec<String> {
        let told = std::mem::replace(&mut self.told, self.notes.len());
        self.notes.get(told..).unwrap_or_default().to_vec()
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
