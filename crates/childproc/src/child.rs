//! A program that was started, as its caller sees it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::unistd::Pid;

use crate::end::{How, timeout};
use crate::idle::Idle;
use crate::mounts::unmount_below;
use crate::proc::descendants;
use crate::spec::{Event, PACKET, Spec, read_ready, write_end};

/// A program under supervision. Dropping it ends everything the program started.
///
/// Its descriptor ([`AsFd`]) becomes readable when an event is there.
#[derive(Debug)]
pub struct Child {
    control: OwnedFd,
    /// The supervisor's process id, known once it has sent it.
    supervisor: Option<i32>,
    terminal: bool,
    mounts_below: Vec<PathBuf>,
    /// Whether its supervisor was killed.
    lost: bool,
    /// Whether its supervisor can take another program.
    free: bool,
    idle: Arc<Idle>,
}

impl Child {
    /// A child that `supervisor` watches, where that is known already.
    pub(crate) fn new(
        control: OwnedFd,
        supervisor: Option<i32>,
        spec: &Spec,
        idle: Arc<Idle>,
    ) -> Self {
        Self {
            control,
            supervisor,
            terminal: spec.terminal,
            mounts_below: spec.mounts_below.clone(),
            lost: false,
            free: false,
            idle,
        }
    }

    /// Waits for the next event; `None` where `deadline` comes first. Without a
    /// deadline it waits without a limit.
    ///
    /// # Errors
    ///
    /// Fails if the keeper and the supervisor have both ended.
    pub fn wait_event(&mut self, deadline: Option<Instant>) -> io::Result<Option<Event>> {
        loop {
            let wait = deadline.map_or(PollTimeout::NONE, |deadline| {
                timeout(deadline.saturating_duration_since(Instant::now()))
            });
            let mut fds = [PollFd::new(self.control.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, wait) {
                Ok(0) if deadline.is_some_and(|d| Instant::now() >= d) => return Ok(None),
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {
                    if let Some(event) = self.receive()? {
                        return Ok(Some(event));
                    }
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Receives a message; `None` where it is not for the caller.
    fn receive(&mut self) -> io::Result<Option<Event>> {
        let mut message = vec![0; PACKET];
        let fd = self.control.as_raw_fd();
        let len = match recv(fd, &mut message, MsgFlags::empty()) {
            // The other end was closed with a command of ours unread. That error comes
            // before the messages that are still there, and only once.
            Err(Errno::ECONNRESET) => recv(fd, &mut message, MsgFlags::empty())?,
            len => len?,
        };
        let message = message.get(..len).unwrap_or_default();
        if let Some(supervisor) = read_ready(message) {
            self.supervisor = Some(supervisor);
            return Ok(None);
        }
        let mut event = Event::read(message).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "its supervisor and the keeper have ended",
            )
        })?;
        match &mut event {
            Event::Lost { .. } => self.lost = true,
            Event::Done(done) if self.lost => {
                // The keeper knows the mounts of a supervisor's first program
                // only.
                done.mounts.extend(unmount_below(&self.mounts_below));
            }
            _ => {}
        }
        self.free = !self.lost && event.leaves_room(self.terminal);
        Ok(Some(event))
    }

    /// Ends the program and everything it started; `Exited` and `Done` follow.
    /// Called again meanwhile, it kills them at once.
    ///
    /// # Errors
    ///
    /// Fails if the supervisor has ended, and with it everything below it.
    pub fn end(&self, how: How) -> io::Result<()> {
        send(
            self.control.as_raw_fd(),
            &write_end(how),
            MsgFlags::MSG_NOSIGNAL,
        )?;
        Ok(())
    }

    /// Ends the supervisor itself, for when it does not answer (a test has
    /// stopped it): the keeper ends what is below it, and `Lost` and `Done`
    /// follow.
    pub fn end_supervisor(&self) {
        if let Some(supervisor) = self.supervisor {
            let _ = kill(Pid::from_raw(supervisor), Signal::SIGKILL);
        }
    }

    /// Every process of the program that lives at this moment, parents first.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let Some(supervisor) = self.supervisor else {
            return Vec::new();
        };
        descendants(supervisor)
            .unwrap_or_default()
            .iter()
            .filter(|p| !p.has_ended())
            .map(|p| p.pid)
            .collect()
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.free
            && let Some(supervisor) = self.supervisor
            && let Ok(control) = self.control.try_clone()
        {
            self.idle.put(control, supervisor);
        }
    }
}
