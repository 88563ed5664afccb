//! Guests that go on in another emulator.

use anyhow::Result;
use serde_json::{Value, json};

use super::LinuxGuest;
use crate::job::AtReady;

impl LinuxGuest {
    /// Migrates the guest to the machine of `other`, which was started by
    /// [`Boot::incoming`](super::Boot::incoming) and is left stopped; logs how it ended.
    ///
    /// A mirror `job` that is ready ends when the guest has stopped and before the machine
    /// gives up its images, so that both have the same.
    ///
    /// # Errors
    ///
    /// Fails if it does not end.
    pub async fn migrate_to(&mut self, other: &mut Self, job: Option<&str>) -> Result<()> {
        let capabilities = |names: &[&str]| -> Value {
            let on = |name: &&str| json!({"capability": name, "state": true});
            json!({"capabilities": names.iter().map(on).collect::<Vec<_>>()})
        };
        let of_source: &[&str] = match job {
            Some(_) => &["events", "pause-before-switchover"],
            None => &["events"],
        };
        let set = "migrate-set-capabilities";
        self.vm.run(set, capabilities(of_source)).await?;
        other.vm.run(set, capabilities(&["events"])).await?;
        let socket = self.vm.ctx.env.sock_dir.join("migrate");
        let uri = json!({"uri": format!("unix:{}", socket.display())});
        other.vm.run("migrate-incoming", uri.clone()).await?;
        self.vm.run("migrate", uri).await?;
        if let Some(job) = job {
            let stopped = |d: &Value| d["status"] == "pre-switchover";
            self.vm.event_where("MIGRATION", stopped).await?;
            self.vm
                .run("block-job-cancel", json!({"device": job}))
                .await?;
            self.vm.conclude(job, AtReady::Pass).await?;
            let goes_on = json!({"state": "pre-switchover"});
            self.vm.run("migrate-continue", goes_on).await?;
        }
        let source = self.vm.migration_end().await?;
        let destination = other.vm.migration_end().await?;
        let line = format!("migration: source {source}, destination {destination}");
        self.vm.ctx.log(line);
        Ok(())
    }

    /// Ends the emulator that the guest has left, and returns the events that the guest
    /// reported before and nobody has waited for.
    ///
    /// # Errors
    ///
    /// Fails if the emulator does not end with status 0.
    pub async fn leave(self) -> Result<Vec<String>> {
        self.vm.quit().await?;
        Ok(super::events_left(self.events, self.lines).await)
    }
}
