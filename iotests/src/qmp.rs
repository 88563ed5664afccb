//! The QEMU machine protocol over a unix socket: commands, answers, events.
//!
//! Commands are any name with JSON arguments, and events are JSON: tests also ask for what
//! a schema of another version lacks, and for what no schema allows.

use std::collections::VecDeque;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// An error that QEMU answered a command with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{class}: {desc}")]
pub struct QmpError {
    /// Its class, such as `GenericError`.
    pub class: String,
    /// Its text.
    pub desc: String,
}

/// A connection to a monitor, capabilities negotiated.
#[derive(Debug)]
pub struct Qmp {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    /// Events that have not been waited for yet.
    events: VecDeque<Value>,
    next_id: u64,
    /// The version of the greeting: major and minor.
    version: (u64, u64),
}

impl Qmp {
    /// Reads the greeting and leaves negotiation mode.
    ///
    /// # Errors
    ///
    /// Fails if the other side ends or does not speak QMP.
    pub async fn new(socket: UnixStream) -> Result<Self> {
        let (read, write) = socket.into_split();
        let mut qmp = Self {
            read: BufReader::new(read),
            write,
            events: VecDeque::new(),
            next_id: 0,
            version: (0, 0),
        };
        let greeting = qmp
            .message()
            .await?
            .context("no QMP greeting: the process ended")?;
        let part = |name: &str| {
            greeting
                .pointer(&format!("/QMP/version/qemu/{name}"))
                .and_then(Value::as_u64)
        };
        let (Some(major), Some(minor)) = (part("major"), part("minor")) else {
            bail!("not a QMP greeting: {greeting}");
        };
        qmp.version = (major, minor);
        qmp.execute("qmp_capabilities", json!({})).await??;
        Ok(qmp)
    }

    /// QEMU's version: major and minor.
    #[must_use]
    pub fn version(&self) -> (u64, u64) {
        self.version
    }

    /// Runs a command. The outer error is a broken connection, the inner one
    /// QEMU's answer.
    ///
    /// # Errors
    ///
    /// Fails if the connection ends.
    pub async fn execute(
        &mut self,
        name: &str,
        arguments: Value,
    ) -> Result<std::result::Result<Value, QmpError>> {
        self.next_id += 1;
        let id = self.next_id;
        let mut message = json!({"execute": name, "id": id});
        if arguments.as_object().is_none_or(|o| !o.is_empty()) {
            message["arguments"] = arguments;
        }
        let mut line = message.to_string();
        line.push('\n');
        // Where the other side has ended, reading gives the better error.
        let written = self.write.write_all(line.as_bytes()).await;
        loop {
            let Some(mut answer) = self.message().await? else {
                written.with_context(|| format!("the monitor ended at {name}"))?;
                bail!("the monitor ended at {name}");
            };
            if answer.get("event").is_some() {
                self.events.push_back(answer);
            } else if let Some(error) = answer.get("error") {
                let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
                return Ok(Err(QmpError {
                    class: text("class"),
                    desc: text("desc"),
                }));
            } else if answer.get("id") == Some(&json!(id)) {
                return Ok(Ok(answer["return"].take()));
            } else {
                bail!("unexpected QMP message: {answer}");
            }
        }
    }

    /// The first event, kept or yet to come, for which `wanted` holds; others are
    /// kept.
    ///
    /// # Errors
    ///
    /// Fails if the connection ends first.
    pub async fn event(&mut self, mut wanted: impl FnMut(&Value) -> bool) -> Result<Value> {
        if let Some(at) = self.events.iter().position(&mut wanted)
            && let Some(event) = self.events.remove(at)
        {
            return Ok(event);
        }
        loop {
            let Some(message) = self.message().await? else {
                bail!("the monitor ended while an event was awaited");
            };
            if message.get("event").is_none() {
                bail!("unexpected QMP message: {message}");
            }
            if wanted(&message) {
                return Ok(message);
            }
            self.events.push_back(message);
        }
    }

    /// Events that came and were not asked for, taken out.
    pub fn take_events(&mut self) -> Vec<Value> {
        self.events.drain(..).collect()
    }

    /// The next message, or `None` where the other side has ended.
    async fn message(&mut self) -> Result<Option<Value>> {
        let mut line = Vec::new();
        match self.read.read_until(b'\n', &mut line).await {
            Ok(0) => return Ok(None),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
            result => result.context("failed to read from the monitor")?,
        };
        let message = serde_json::from_slice(&line)
            .with_context(|| format!("not QMP: {}", String::from_utf8_lossy(&line).trim_end()))?;
        Ok(Some(message))
    }
}
