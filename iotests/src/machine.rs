//! A whole machine: what its disks do.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::daemon::Daemon;

impl Daemon {
    /// Lets a disk of the machine do these writes, as its device would, by
    /// `qemu-io` commands; logged. `device` is the id of the disk: `disk0`.
    ///
    /// What a command says goes to the emulator's standard output; read what was
    /// written back through an export or after the end.
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
            let said = answer.as_str().unwrap_or_default().trim();
            ensure!(said.is_empty(), "{command} on {device}: {said}");
            self.ctx.log(format!("{device}> {command}"));
        }
        Ok(())
    }
}
