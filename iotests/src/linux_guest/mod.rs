//! A Linux guest that boots, uses disks and runs commands, as any machine would.
//!
//! `scripts/guest` makes kernel and initramfs. The guest's first program
//! (`iotests/guest/init`) takes commands through a virtio port; the console is kept in a
//! file of `TEST_DIR` and shown where a command fails.

mod boot;
mod bus;
mod disk;
mod migrate;
mod sequence;

use std::collections::VecDeque;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use data_encoding::BASE64;
use serde_json::json;
use tokio::io::{AsyncWriteExt as _, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::daemon::Daemon;
use crate::tool::{DEADLINE, framed};

pub use boot::Boot;
pub use bus::Bus;
pub use sequence::Sequence;

/// What the guest says first; the number is raised when lines mean something else.
const READY: &str = "ready 1";

/// How much of the console is shown with an error, in bytes.
const CONSOLE_SHOWN: usize = 4000;

/// A guest that runs, and its machine.
pub struct LinuxGuest {
    /// The emulator, for QMP.
    pub vm: Daemon,
    lines: Lines<BufReader<OwnedReadHalf>>,
    input: OwnedWriteHalf,
    /// The number of the last command.
    commands: u64,
    /// Events that nobody has waited for.
    events: VecDeque<String>,
    console: PathBuf,
}

/// A line from the guest.
enum Line {
    /// Some output of the command that runs.
    Output(Vec<u8>),
    /// A command has ended: its number and status.
    Ended(u64, i32),
    /// Any program of the guest reports something.
    Event(String),
}

impl Line {
    fn parse(line: &str) -> Result<Self> {
        let parsed = match line.split_at_checked(2) {
            Some(("= ", text)) => BASE64.decode(text.as_bytes()).ok().map(Self::Output),
            Some(("! ", text)) => Some(Self::Event(text.to_owned())),
            Some(("$ ", text)) => text
                .split_once(' ')
                .and_then(|(n, status)| Some(Self::Ended(n.parse().ok()?, status.parse().ok()?))),
            _ => None,
        };
        parsed.with_context(|| format!("the guest sent '{line}', which means nothing"))
    }
}

impl LinuxGuest {
    /// Waits until the guest takes commands, and finds its disks by their ids.
    ///
    /// # Errors
    ///
    /// Fails if it does not boot, or was made for other tests than these.
    pub(crate) async fn await_ready(&mut self, disks: &[String]) -> Result<()> {
        let first = self.event(|_| true).await?;
        ensure!(
            first == READY,
            "the guest is not the one of these tests (it says '{first}', not '{READY}'); make it \
             again with: make guest"
        );
        for id in disks {
            self.await_disk(id).await?;
        }
        Ok(())
    }

    /// Waits until the disk of this id is there; it is `/dev/ID` then, and `/ID` is its
    /// folder of `/sys/block`. Not logged.
    ///
    /// # Errors
    ///
    /// Fails if it does not come.
    pub async fn await_disk(&mut self, id: &str) -> Result<()> {
        self.quiet(bus::find(id)).await?;
        Ok(())
    }

    /// Waits until the disk of this id is gone. Not logged.
    ///
    /// # Errors
    ///
    /// Fails if it stays.
    pub async fn await_gone(&mut self, id: &str) -> Result<()> {
        let wait = format!("while [ -e /{id}/size ]; do usleep 20000; done; rm /{id} /dev/{id}");
        self.quiet(wait).await?;
        Ok(())
    }

    /// Runs commands of a shell in the guest, which have to succeed; logged with what they
    /// print.
    ///
    /// # Errors
    ///
    /// Fails with what they printed and the end of the console if their status is not 0.
    pub async fn run(&mut self, command: impl AsRef<str>) -> Result<String> {
        let command = command.as_ref();
        self.vm.ctx.log(format!("guest> {command}"));
        let output = self.quiet(command).await?;
        self.vm.ctx.log_output(output.as_bytes());
        Ok(output)
    }

    /// As [`LinuxGuest::run`], and logs nothing.
    ///
    /// # Errors
    ///
    /// Fails as [`LinuxGuest::run`] does.
    pub async fn quiet(&mut self, command: impl AsRef<str>) -> Result<String> {
        let command = command.as_ref();
        let (status, output) = self.status_of(command).await?;
        if status != 0 {
            bail!(
                "status {status} of the guest's command: {command}\noutput:\n{}\nconsole:\n{}",
                framed(output.as_bytes()),
                self.console()
            );
        }
        Ok(output)
    }

    /// The status of commands and what they print; nothing is logged.
    ///
    /// # Errors
    ///
    /// Fails if they do not end, or the guest is gone.
    pub async fn status_of(&mut self, command: impl AsRef<str>) -> Result<(i32, String)> {
        let command = command.as_ref();
        self.send(command).await?;
        let mut output = Vec::new();
        loop {
            match self
                .line()
                .await
                .map_err(|e| e.context(command.to_owned()))?
            {
                Line::Output(bytes) => output.extend(bytes),
                Line::Event(text) => self.events.push_back(text),
                Line::Ended(number, status) if number == self.commands => {
                    return Ok((status, String::from_utf8_lossy(&output).into_owned()));
                }
                Line::Ended(number, _) => bail!("command {number} ended, which was not running"),
            }
        }
    }

    async fn send(&mut self, command: &str) -> Result<()> {
        self.commands += 1;
        let line = format!("{} {}\n", self.commands, BASE64.encode(command.as_bytes()));
        let sent = self.input.write_all(line.as_bytes()).await;
        sent.context("failed to send the guest a command")
    }

    /// The next event that fits, kept or yet to come; those before it are dropped.
    ///
    /// # Errors
    ///
    /// Fails if none comes in time.
    pub async fn event(&mut self, mut fits: impl FnMut(&str) -> bool) -> Result<String> {
        loop {
            while let Some(event) = self.events.pop_front() {
                if fits(&event) {
                    return Ok(event);
                }
            }
            match self.line().await? {
                Line::Event(text) => self.events.push_back(text),
                _ => bail!("the guest answers, and was asked nothing"),
            }
        }
    }

    async fn line(&mut self) -> Result<Line> {
        let next = self.vm.ctx.bounded(DEADLINE, self.lines.next_line()).await;
        match next {
            Some(Ok(Some(line))) => Line::parse(&line),
            Some(_) => bail!(
                "the guest is gone; stderr:\n{}\nconsole:\n{}",
                framed(self.vm.stderr().as_bytes()),
                self.console()
            ),
            None => bail!(
                "nothing from the guest within {} s; console:\n{}",
                DEADLINE.as_secs(),
                self.console()
            ),
        }
    }

    /// The end of what the guest printed on its console.
    fn console(&self) -> String {
        let text = std::fs::read(&self.console).unwrap_or_default();
        framed(&text[text.len().saturating_sub(CONSOLE_SHOWN)..])
    }

    /// Shuts the guest down, which ends its machine. File systems have to be unmounted.
    ///
    /// # Errors
    ///
    /// Fails if the machine does not end with status 0.
    pub async fn shut_down(mut self) -> Result<()> {
        self.vm.ctx.log("guest> poweroff");
        self.send("poweroff -f").await?;
        self.vm.wait().await
    }

    /// Ends the emulator by SIGKILL, as a crash would, and returns the events that the guest
    /// had reported by then and nobody has waited for.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be waited for.
    pub async fn kill(self) -> Result<Vec<String>> {
        self.vm.ctx.log("guest: killed");
        self.vm.kill().await?;
        Ok(events_left(self.events, self.lines).await)
    }

    /// Lets the guest go on after its machine was started stopped, or has stopped.
    ///
    /// # Errors
    ///
    /// Fails if the machine does not take the command.
    pub async fn go_on(&mut self) -> Result<()> {
        self.vm.run("cont", json!({})).await?;
        Ok(())
    }
}

/// The events that were kept, and those that the guest has still sent.
async fn events_left(
    kept: VecDeque<String>,
    mut lines: Lines<BufReader<OwnedReadHalf>>,
) -> Vec<String> {
    let mut events: Vec<String> = kept.into();
    while let Ok(Some(line)) = lines.next_line().await {
        // The last line may be truncated.
        if let Ok(Line::Event(text)) = Line::parse(&line) {
            events.push(text);
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_output_ends_and_events() {
        let parsed = |line: &str| match Line::parse(line) {
            Ok(Line::Output(bytes)) => format!("output {}", String::from_utf8_lossy(&bytes)),
            Ok(Line::Ended(n, status)) => format!("{n} ended with {status}"),
            Ok(Line::Event(text)) => format!("event {text}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(parsed("= aGk="), "output hi");
        assert_eq!(parsed("$ 3 127"), "3 ended with 127");
        assert_eq!(parsed("! synced 5"), "event synced 5");
        for wrong in ["", "=", "= a", "$ 3", "$ x 0", "? x", "é"] {
            assert!(parsed(wrong).ends_with("which means nothing"), "{wrong}");
        }
    }
}
