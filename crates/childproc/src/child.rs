//! A program that was started, as its caller sees it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::unistd::Pid;

use crate::end::{How, timeout};
use crate::proc::descendants;
use crate::spec::{Event, PACKET, write_end};

/// A program under supervision. Dropping it ends everything the program started.
///
/// Its descriptor ([`AsFd`]) becomes readable when an event is there.
#[derive(Debug)]
pub struct Child {
    control: OwnedFd,
    /// The supervisor's process id, known once it has spoken.
    supervisor: Option<i32>,
}

impl Child {
    pub(crate) fn new(control: OwnedFd) -> Self {
        Self {
            control,
            supervisor: None,
        }
    }

    /// Waits for the next event; `None` where `deadline` comes first. Without a
    /// deadline it waits for as long as it takes.
    ///
    /// # Errors
    ///
    /// The keeper and the supervisor are both gone.
    pub fn wait_event(&mut self, deadline: Option<Instant>) -> io::Result<Option<Event>> {
        loop {
            let wait = deadline.map_or(PollTimeout::NONE, |deadline| {
                timeout(deadline.saturating_duration_since(Instant::now()))
            });
            let mut fds = [PollFd::new(self.control.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, wait) {
                Ok(0) if deadline.is_some_and(|d| Instant::now() >= d) => return Ok(None),
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => return self.receive().map(Some),
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn receive(&mut self) -> io::Result<Event> {
        let mut message = vec![0; PACKET];
        let len = recv(self.control.as_raw_fd(), &mut message, MsgFlags::empty())?;
        let event = message.get(..len).and_then(Event::read).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the processes that supervised it are gone",
            )
        })?;
        if let Event::Started { supervisor, .. } = event {
            self.supervisor = Some(supervisor);
        }
        Ok(event)
    }

    /// Ends the program and everything it started; `Exited` and `Done` follow.
    /// Asked again while it is under way, it ends them at once.
    ///
    /// # Errors
    ///
    /// The supervisor is gone, and with it everything below it.
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
