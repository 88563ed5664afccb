//! What is looked at again and again while a test runs, besides its bounds: what it
//! prints, and programs that a person wants in gdb.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use childproc::{Child, Keeper};

use super::Settings;
use super::debugger::Starts;
use super::gdbserver::Watcher;
use super::progress::Progress;
use super::stop::Stop;

/// How often.
const EVERY: Duration = Duration::from_millis(50);

/// The most that is read of the output at once, in bytes.
const PIECE: usize = 64 << 10;

/// Some of what a run may be asked for; often none.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// The output, and how far it has been told.
    output: Option<(File, u64)>,
    gdbservers: Option<Watcher>,
    starts: Option<Starts>,
    next: Option<Instant>,
}

impl Looks {
    /// What the settings ask for; `output` is told where they do.
    pub(super) fn new(settings: &Settings, starts: Option<Starts>, output: File) -> Self {
        let mut looks = Self {
            output: settings.stream.then_some((output, 0)),
            gdbservers: settings.watch_gdbservers.then(Watcher::default),
            starts,
            next: None,
        };
        looks.plan();
        looks
    }

    fn plan(&mut self) {
        let any = self.output.is_some() || self.gdbservers.is_some() || self.starts.is_some();
        self.next = any.then(|| Instant::now() + EVERY);
    }

    /// When to look next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Looks, where it is time to, and tells what is new; what a person should know of it
    /// with the result.
    ///
    /// # Errors
    ///
    /// The output cannot be read, or gdb not be started.
    pub(super) fn look(
        &mut self,
        keeper: &Keeper,
        stop: &Stop,
        child: &Child,
        tell: &dyn Fn(Progress),
    ) -> io::Result<Option<String>> {
        if self.next.is_none_or(|at| Instant::now() < at) {
            return Ok(None);
        }
        self.tell_output(tell)?;
        if let Some(watcher) = &mut self.gdbservers {
            watcher.look(&child.pids()).into_iter().for_each(tell);
        }
        let mut note = None;
        if let Some(starts) = &mut self.starts
            && let Some(chosen) = starts.chosen()
        {
            let program = chosen.command_line();
            tell(Progress::Debugging { program });
            note = starts.session(&chosen, keeper, stop)?;
        }
        self.plan();
        Ok(note)
    }

    /// The test has ended: tells the rest of its output, and what a person should know.
    ///
    /// # Errors
    ///
    /// The output cannot be read.
    pub(super) fn finish(&mut self, tell: &dyn Fn(Progress)) -> io::Result<Option<String>> {
        self.tell_output(tell)?;
        Ok(self.starts.as_ref().and_then(Starts::missed))
    }

    fn tell_output(&mut self, tell: &dyn Fn(Progress)) -> io::Result<()> {
        let Some((file, told)) = &mut self.output else {
            return Ok(());
        };
        loop {
            let mut piece = vec![0; PIECE];
            let len = file.read_at(&mut piece, *told)?;
            if len == 0 {
                return Ok(());
            }
            piece.truncate(len);
            *told += len as u64;
            tell(Progress::Output(piece));
        }
    }
}
