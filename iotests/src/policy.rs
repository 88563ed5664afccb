//! Jobs that meet an error, and their error policies.

use anyhow::{Result, bail, ensure};
use serde_json::json;

use crate::daemon::Daemon;
use crate::image::Image;
use crate::job::AtReady;
use crate::test::Test;

/// A side of a copying job that can fail, and what it does there.
const SIDES: [(&str, &str); 2] = [("source", "read"), ("target", "write")];
/// A policy, the error number it meets, and whether the job stops for it.
const POLICIES: [(&str, i32, bool); 5] = [
    ("report", 5, false),
    ("ignore", 5, false),
    ("stop", 5, true),
    ("enospc", 28, true),
    ("enospc", 5, false),
];
/// What the source holds, and what the target held before.
const OLD: (u8, u8) = (7, 9);

impl Test {
    /// Makes a copying job (`blockdev-mirror`, `blockdev-backup`) from the node `src`
    /// onto `dst` meet one error on either side under every policy, each time onto a
    /// target that held something else. Logs what the job does, and expects that
    /// `dst` holds the pattern of the source, 7 all over, where the job succeeds.
    ///
    /// # Errors
    ///
    /// Fails if a job does not end, stops or continues against its policy, or copies
    /// wrongly.
    pub async fn copy_under_policies(
        &self,
        daemon: &mut Daemon,
        command: &str,
        dst: &Image,
        at_ready: AtReady,
    ) -> Result<()> {
        let size = self.virtual_size(dst).await?;
        for (side, iotype) in SIDES {
            for (policy, errno, stops) in POLICIES {
                self.section(format!("on-{side}-error={policy}, errno {errno}"));
                self.io(dst, [format!("write -P {} 0 {size}", OLD.1)])
                    .quiet()
                    .await?;
                daemon.add(dst, "dst").await?;
                let (below, from, to) = if side == "source" {
                    ("src", "bad", "dst")
                } else {
                    ("dst", "src", "bad")
                };
                daemon.add_failing_once("bad", below, iotype, errno).await?;
                let mut args = json!({"device": from, "target": to, "sync": "full"});
                args[format!("on-{side}-error")] = policy.into();
                let job = daemon.start_job(command, args).await?;
                daemon.meet_error(&job, stops).await?;
                let end = daemon.conclude(&job, at_ready).await?;
                for node in ["bad", "dst"] {
                    daemon
                        .run("blockdev-del", json!({"node-name": node}))
                        .await?;
                }
                if end.error.is_none() {
                    self.verify(dst, &[(OLD.0, 0, size)]).await?;
                }
                self.check(dst).await?;
            }
        }
        Ok(())
    }
}

impl Daemon {
    /// Adds a node `name` above the node `below` through which one request of this
    /// type (`read`, `write`) fails with this error number. Not logged.
    ///
    /// # Errors
    ///
    /// Fails if QEMU rejects it.
    pub async fn add_failing_once(
        &mut self,
        name: &str,
        below: &str,
        iotype: &str,
        errno: i32,
    ) -> Result<()> {
        let fault = json!([{"event": "none", "iotype": iotype, "errno": errno, "once": true}]);
        let node = json!({"driver": "blkdebug", "node-name": name, "image": below,
            "inject-error": fault});
        self.run("blockdev-add", node).await?;
        Ok(())
    }

    /// Waits until a job meets an error, and logs the event. Where the job should
    /// stop for it, waits until it has and resumes it; logged.
    ///
    /// # Errors
    ///
    /// Fails if there is no error, or the job stops though it should not, or the reverse.
    pub async fn meet_error(&mut self, id: &str, stops: bool) -> Result<()> {
        let event = self
            .event_where("BLOCK_JOB_ERROR", |d| d["device"] == id)
            .await?;
        self.log_event(&event);
        let action = &event["data"]["action"];
        ensure!(
            (action == "stop") == stops,
            "{id} should{} stop, and its action is {action}",
            if stops { "" } else { " not" }
        );
        if !stops {
            return Ok(());
        }
        self.await_paused(id).await?;
        let jobs = self.run("query-block-jobs", json!({})).await?;
        let job = jobs
            .as_array()
            .and_then(|jobs| jobs.iter().find(|j| j["device"] == id));
        let Some(job) = job else {
            bail!("there is no job {id}")
        };
        self.ctx.log(format!(
            "io-status {}, status {}",
            job["io-status"], job["status"]
        ));
        self.qmp("block-job-resume", json!({"device": id})).await?;
        Ok(())
    }
}
