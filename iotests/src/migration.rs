//! Machines that move from one process to another.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::test::Test;

impl Test {
    /// Starts a machine and another one that waits for it to come, both with these
    /// options. Both tell of the migration by events, and have these capabilities on.
    ///
    /// # Errors
    ///
    /// Fails if one does not come up.
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

    /// Lets a machine move to the other process, and logs for both how it ended and
    /// the state the machine came to rest in.
    ///
    /// # Errors
    ///
    /// Fails if it cannot begin, or does not end.
    pub async fn migrate(&self, source: &mut Daemon, destination: &mut Daemon) -> Result<()> {
        let socket = self.env().sock_dir.join("migrate");
        let uri = format!("unix:{}", socket.display());
        destination
            .run("migrate-incoming", json!({"uri": uri}))
            .await?;
        source.run("migrate", json!({"uri": uri})).await?;
        for (name, vm) in [("source", source), ("destination", destination)] {
            let end = vm.migration_end().await?;
            let state = vm.state_at_rest().await?;
            self.log(format!("{name}: {end}, {state}"));
        }
        Ok(())
    }
}

impl Daemon {
    /// Waits until a migration has ended, and says how: `completed` or `failed`.
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

    /// Lets a machine that is stopped go on, and waits until it does.
    ///
    /// # Errors
    ///
    /// Fails if it stays stopped.
    pub async fn resume(&mut self) -> Result<()> {
        self.run("cont", json!({})).await?;
        self.event("RESUME").await?;
        Ok(())
    }

    /// The state of the machine once it is no longer on its way: it leaves its last
    /// one on the way just after the event that tells of the end.
    async fn state_at_rest(&mut self) -> Result<String> {
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
    let text = value.as_str().context("a status is no text")?;
    Ok(text.to_owned())
}
