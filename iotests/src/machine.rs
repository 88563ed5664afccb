//! A whole machine: what its disks do.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::daemon::Daemon;

/// The machine that guests are booted in.
pub(crate) const MACHINE: &str = "q35";

impl Daemon {
    /// Runs `qemu-io` commands on a disk of the machine, as its device would;
    /// logged. `device` is the id of the disk: `disk0`.
    ///
    /// A command's output goes to the emulator's standard output; read what was
    /// written through an export, or after the emulator has ended.
    ///
    /// # Errors
    ///
    /// Fails if the device is not there.
    pub async fn guest<S: AsRef<str>>(
        &mut self,
        device: &str,
        commands: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        for command in commands {
            let command = command.as_ref();
            let line = format!("qemu-io -d {device} \"{command}\"");
            let answer = self
                .run("human-monitor-command", json!({"command-line": line}))
                .await?;
            let output = answer.as_str().unwrap_or_default().trim();
            ensure!(output.is_empty(), "{command} on {device}: {output}");
            self.ctx.log(format!("{device}> {command}"));
        }
        Ok(())
    }
}
