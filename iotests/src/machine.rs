//! What is special about a whole machine: its accelerator, its disks' I/O.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::daemon::Daemon;
use crate::test::Test;

/// Accelerators in the order in which they are taken where the one asked for is
/// not in the emulator.
const ACCELERATORS: [&str; 3] = ["qtest", "tcg", "kvm"];

impl Test {
    /// `QEMU_OPTIONS` with an accelerator that the emulator has: distributions
    /// build without qtest.
    pub(crate) fn machine_options(&self) -> Vec<String> {
        let env = &self.ctx.env;
        let mut options = env.qemu_options.clone();
        let has = |name: &str| match name {
            "kvm" => Path::new("/dev/kvm").exists() && self.ctx.probes.has_accel(env, name),
            _ => self.ctx.probes.has_accel(env, name),
        };
        let Some(at) = options.iter().position(|w| w == "-accel") else {
            return options;
        };
        if let Some(asked) = options.get_mut(at + 1)
            && ACCELERATORS.contains(&asked.as_str())
            && !has(asked)
            && let Some(there) = ACCELERATORS.into_iter().find(|a| has(a))
        {
            there.clone_into(asked);
        }
        options
    }
}

impl Daemon {
    /// Lets a disk of the machine do these writes, as its device would, by
    /// `qemu-io` commands; logged. `device` is the id of the disk: `disk0`.
    ///
    /// What a command says goes to the emulator's standard output; read what was
    /// written back through an export or after the end.
    ///
    /// # Errors
    /// Where the device is not there.
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
