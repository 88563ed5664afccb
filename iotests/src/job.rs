//! Block jobs: from their start to their conclusion.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::daemon::Daemon;
use crate::tool::{NO_CPU_TIME, TRIES};

/// What happens when a job can be completed or finalized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtReady {
    /// `job-complete`.
    Complete,
    /// `block-job-cancel`, not forced: a mirror ends without switching the guest over,
    /// and its target is a copy of that moment.
    Cancel,
    /// Nothing: the caller gets the job back.
    Return,
    /// Nothing: it has been completed or cancelled already, and is followed to its end.
    Pass,
}

/// How a job went.
#[derive(Debug, Clone, Default)]
pub struct Conclusion {
    /// The states it went through, each once, in order. Pauses are left out:
    /// QEMU also pauses jobs by itself.
    pub states: Vec<String>,
    /// Its error, where it failed.
    pub error: Option<String>,
}

impl Daemon {
    /// Starts a job and follows it to its conclusion: completes it when it is
    /// ready, finalizes it when it is pending, dismisses it when it is concluded.
    /// `arguments` get `job-id` `job0` and `auto-dismiss` false where they have
    /// none. Logs the command, the states and the error.
    ///
    /// # Errors
    ///
    /// Fails if the command fails, or the job does not end. A job that fails is no
    /// error: look at the conclusion.
    pub async fn job(&mut self, command: &str, arguments: Value) -> Result<Conclusion> {
        let id = self.start_job(command, arguments).await?;
        self.conclude(&id, AtReady::Complete).await
    }

    /// Starts a job, logged, and gives its id.
    ///
    /// # Errors
    ///
    /// Fails if the command fails.
    pub async fn start_job(&mut self, command: &str, mut arguments: Value) -> Result<String> {
        if arguments.get("job-id").is_none() {
            arguments["job-id"] = "job0".into();
        }
        let always_kept = ["blockdev-create", "snapshot-"];
        let always_kept = always_kept.iter().any(|start| command.starts_with(start));
        if arguments.get("auto-dismiss").is_none() && !always_kept {
            arguments["auto-dismiss"] = false.into();
        }
        let id = arguments["job-id"].as_str().unwrap_or_default().to_owned();
        self.qmp(command, arguments).await?;
        Ok(id)
    }

    /// Follows a job to its conclusion and logs the states it went through.
    ///
    /// # Errors
    ///
    /// Fails if it does not end.
    pub async fn conclude(&mut self, id: &str, at_ready: AtReady) -> Result<Conclusion> {
        let conclusion = self.follow(id, at_ready).await?;
        self.log_conclusion(id, &conclusion);
        Ok(conclusion)
    }

    fn log_conclusion(&self, id: &str, conclusion: &Conclusion) {
        let error = conclusion.error.as_ref();
        let error = error.map(|e| format!(" ({e})")).unwrap_or_default();
        let states = conclusion.states.join(" -> ");
        self.ctx.log(format!("{id}: {states}{error}"));
    }

    /// Makes an image by `blockdev-create`, and logs the states of that job, `create`. Once
    /// more where QEMU could not measure how fast the machine derives keys.
    ///
    /// # Errors
    ///
    /// Fails if the command fails, or the job does not end. A job that fails is no error:
    /// look at the conclusion.
    pub async fn create(&mut self, options: Value) -> Result<Conclusion> {
        let arguments = json!({"job-id": "create", "options": options});
        let mut tries = 1;
        loop {
            self.run("blockdev-create", arguments.clone()).await?;
            let conclusion = self.conclude_quietly("create").await?;
            let unmeasured = conclusion.error.as_ref();
            if tries == TRIES || unmeasured.is_none_or(|e| !e.contains(NO_CPU_TIME)) {
                self.log_conclusion("create", &conclusion);
                return Ok(conclusion);
            }
            tries += 1;
        }
    }

    /// Follows a job to its conclusion, and logs nothing.
    ///
    /// # Errors
    ///
    /// Fails if it does not end.
    pub async fn conclude_quietly(&mut self, id: &str) -> Result<Conclusion> {
        self.follow(id, AtReady::Complete).await
    }

    /// As [`Daemon::conclude_quietly`], for a job that has been completed or
    /// cancelled already.
    ///
    /// # Errors
    ///
    /// Fails if it does not end.
    pub async fn conclude_as_told(&mut self, id: &str) -> Result<Conclusion> {
        self.follow(id, AtReady::Pass).await
    }

    async fn follow(&mut self, id: &str, at_ready: AtReady) -> Result<Conclusion> {
        let mut conclusion = Conclusion::default();
        loop {
            let state = self.next_state(id).await?;
            let known = conclusion.states.contains(&state);
            if matches!(state.as_str(), "paused" | "standby") || known {
                continue;
            }
            conclusion.states.push(state.clone());
            match state.as_str() {
                "ready" => match at_ready {
                    AtReady::Complete => self
                        .run("job-complete", json!({"id": id}))
                        .await
                        .map(drop)?,
                    AtReady::Cancel => self
                        .run("block-job-cancel", json!({"device": id}))
                        .await
                        .map(drop)?,
                    AtReady::Return => return Ok(conclusion),
                    AtReady::Pass => {}
                },
                "pending" => self.finalize(id).await?,
                "concluded" => {
                    conclusion.error = self.job_error(id).await?;
                    self.ask("job-dismiss", json!({"id": id})).await?.ok();
                }
                "null" => return Ok(conclusion),
                _ => {}
            }
        }
    }

    /// Finalizes a job that waits for it; one that finalizes itself is left.
    async fn finalize(&mut self, id: &str) -> Result<()> {
        let jobs = self.run("query-jobs", json!({})).await?;
        let waits = find(&jobs, id).is_some_and(|j| j["status"] == "pending");
        if waits {
            // It may continue by itself before this arrives.
            self.ask("job-finalize", json!({"id": id})).await?.ok();
        }
        Ok(())
    }

    async fn job_error(&mut self, id: &str) -> Result<Option<String>> {
        let jobs = self.run("query-jobs", json!({})).await?;
        let error = find(&jobs, id).and_then(|j| j["error"].as_str().map(str::to_owned));
        Ok(error)
    }

    /// The next state that a job enters.
    ///
    /// # Errors
    ///
    /// Fails if none comes.
    pub async fn next_state(&mut self, id: &str) -> Result<String> {
        let event = self
            .event_where("JOB_STATUS_CHANGE", |d| d["id"] == id)
            .await?;
        Ok(event["data"]["status"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    /// Waits until a job enters this state.
    ///
    /// # Errors
    ///
    /// Fails if it ends without it.
    pub async fn await_state(&mut self, id: &str, state: &str) -> Result<()> {
        loop {
            let next = self.next_state(id).await?;
            if next == state {
                return Ok(());
            }
            if matches!(next.as_str(), "concluded" | "null") {
                let error = self.job_error(id).await?.unwrap_or_default();
                bail!("{id} ended without being {state}: {error}");
            }
        }
    }

    /// What `query-jobs` returns for a job; `None` where it does not exist.
    ///
    /// # Errors
    ///
    /// Fails if the process ended.
    pub async fn query_job(&mut self, id: &str) -> Result<Option<Value>> {
        let jobs = self.run("query-jobs", json!({})).await?;
        Ok(find(&jobs, id).cloned())
    }

    /// Pauses a job and waits until it is paused. Logged.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be paused.
    pub async fn pause_job(&mut self, id: &str) -> Result<()> {
        self.qmp("job-pause", json!({"id": id})).await?;
        self.await_paused(id).await
    }

    /// Waits until a job that was asked to pause, or stopped at an error, is paused.
    /// The states it went through before stay for [`Daemon::conclude`] to log.
    ///
    /// # Errors
    ///
    /// Fails if it ends instead.
    pub async fn await_paused(&mut self, id: &str) -> Result<()> {
        loop {
            let Some(job) = self.query_job(id).await? else {
                bail!("there is no job {id}")
            };
            if matches!(job["status"].as_str(), Some("paused" | "standby")) {
                return Ok(());
            }
            // An earlier event may be about a pause by QEMU itself.
            let event = self
                .event_where("JOB_STATUS_CHANGE", |d| {
                    d["id"] == id
                        && matches!(d["status"].as_str(), Some("paused" | "standby" | "null"))
                })
                .await?;
            if event["data"]["status"] == "null" {
                bail!("{id} ended without being paused");
            }
        }
    }
}

fn find<'a>(jobs: &'a Value, id: &str) -> Option<&'a Value> {
    jobs.as_array()?.iter().find(|j| j["id"] == id)
}
