//! Machines that migrate from one process to another.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::test::Test;

impl Test {
    /// Starts a machine and another one that waits for it to migrate, both with these
    /// options. Both report migration by events, and have these capabilities on.
    ///
    /// # Errors
    ///
    /// Fails if one does not start.
    pub async fn two_machines(
        &self,
        options: &str,
        capabilities: &[&str],
    ) -> Result<(Daemon, Daemon)> {
        let on: Vec<Value> = ["events"]
            .iter()
            .chain(capabilities)
            .map(|name| json!({"capability": name, "state": true}))
            .collect();
        let mut source = self.vm(options).await?;
        let mut destination = self.vm(format!("{options} -incoming defer")).await?;
        for vm in [&mut source, &mut destination] {
            vm.run("migrate-set-capabilities", json!({"capabilities": on}))
                .await?;
        }
        Ok((source, destination))
    }

    /// Migrates a machine to the other process, and logs for both how it ended and
    /// the state of the machine afterwards.
    ///
    /// # Errors
    ///
    /// Fails if it does not start, or does not end.
    pub async fn migrate(&self, source: &mut Daemon, destination: &mut Daemon) -> Result<()> {
        let socket = self.env().sock_dir.join("migrate");
        let uri = format!("unix:{}", socket.display());
        destination
            .run("migrate-incoming", json!({"uri": uri}))
            .await?;
        source.run("migrate", json!({"uri": uri})).await?;
        for (name, vm) in [("source", source), ("destination", destination)] {
            let end = vm.migration_end().await?;
            let state = vm.settled_state().await?;
            self.log(format!("{name}: {end}, {state}"));
        }
        Ok(())
    }
}

impl Daemon {
    /// Waits until a migration has ended, and returns how: `completed` or `failed`.
    ///
    /// # Errors
    ///
    /// Fails if it does not end.
    pub async fn migration_end(&mut self) -> Result<String> {
        let event = self
            .event_where("MIGRATION", |d| {
                matches!(d["status"].as_str(), Some("completed" | "failed"))
            })
            .await?;
        text(&event["data"]["status"])
    }

    /// Resumes a stopped machine, and waits until it runs.
    ///
    /// # Errors
    ///
    /// Fails if it stays stopped.
    pub async fn resume(&mut self) -> Result<()> {
        self.run("cont", json!({})).await?;
        self.event("RESUME").await?;
        Ok(())
    }

    /// The state of the machine after migration: it leaves the last migration state
    /// just after the event that reports the end.
    async fn settled_state(&mut self) -> Result<String> {
        loop {
            let answer = self.run("query-status", json!({})).await?;
            let state = text(&answer["status"])?;
            if state != "finish-migrate" && state != "inmigrate" {
                return Ok(state);
            }
        }
    }
}

fn text(value: &Value) -> Result<String> {
    let text = value.as_str().context("a status is not a string")?;
    Ok(text.to_owned())
}
