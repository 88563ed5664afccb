//! The block graph as QEMU reports it: nodes, their chains, their bitmaps.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::daemon::Daemon;

impl Daemon {
    /// What `query-named-block-nodes` returns for a node; `None` where there is none.
    ///
    /// # Errors
    ///
    /// Fails if the process ended.
    pub async fn node(&mut self, name: &str) -> Result<Option<Value>> {
        let nodes = self
            .run("query-named-block-nodes", json!({"flat": true}))
            .await?;
        let found = nodes
            .as_array()
            .and_then(|n| n.iter().find(|n| n["node-name"] == name));
        Ok(found.cloned())
    }

    /// What is reported for a dirty bitmap; `None` where there is none.
    ///
    /// # Errors
    ///
    /// Fails if the process ended or the node is not there.
    pub async fn bitmap(&mut self, node: &str, name: &str) -> Result<Option<Value>> {
        let bitmaps = self.bitmaps(node).await?;
        Ok(bitmaps.into_iter().find(|b| b["name"] == name))
    }

    async fn bitmaps(&mut self, node: &str) -> Result<Vec<Value>> {
        let found = self.node(node).await?;
        let mut found = found.with_context(|| format!("there is no node {node}"))?;
        let mut bitmaps = match found["dirty-bitmaps"].take() {
            Value::Array(bitmaps) => bitmaps,
            _ => Vec::new(),
        };
        bitmaps.sort_by_key(|b| b["name"].as_str().unwrap_or_default().to_owned());
        Ok(bitmaps)
    }

    /// Logs the named dirty bitmaps of a node, a line each: how much is dirty, and
    /// how they are (recording, persistent, busy, inconsistent).
    ///
    /// # Errors
    ///
    /// Fails if the process ended or the node is not there.
    pub async fn log_bitmaps(&mut self, node: &str) -> Result<()> {
        let bitmaps = self.bitmaps(node).await?;
        let mut some = false;
        for bitmap in bitmaps {
            // Those without a name belong to a job.
            let Some(name) = bitmap["name"].as_str() else {
                continue;
            };
            some = true;
            let words = ["recording", "persistent", "busy", "inconsistent"];
            let is: String = words
                .iter()
                .filter(|w| bitmap[**w] == true)
                .map(|w| format!(", {w}"))
                .collect();
            let count = &bitmap["count"];
            self.ctx
                .log(format!("bitmap {node}/{name}: {count} bytes dirty{is}"));
        }
        if !some {
            self.ctx.log(format!("bitmap {node}: none"));
        }
        Ok(())
    }

    /// Logs the backing file of a node, as the running process sees it.
    ///
    /// # Errors
    ///
    /// Fails if the process ended or the node is not there.
    pub async fn log_backing(&mut self, node: &str) -> Result<()> {
        let found = self.node(node).await?;
        let found = found.with_context(|| format!("there is no node {node}"))?;
        let file = found["backing_file"].as_str().unwrap_or("nothing");
        self.ctx.log(format!("{node} is backed by {file}"));
        Ok(())
    }
}
