//! The end of an export.

use anyhow::Result;
use serde_json::json;

use crate::daemon::Daemon;

impl Daemon {
    /// Takes away the NBD export of a node that [`Daemon::export_nbd`] made, and
    /// waits until it has gone. Not logged.
    ///
    /// The other side of a connection that was closed may not have been told yet; by
    /// itself QEMU then says that the export is in use. So clients are hung up on.
    ///
    /// # Errors
    /// Where there is no such export, or it does not go.
    pub async fn remove_export(&mut self, node: &str) -> Result<()> {
        let id = format!("nbd-{node}");
        self.run("block-export-del", json!({"id": id, "mode": "hard"}))
            .await?;
        self.event_where("BLOCK_EXPORT_DELETED", |d| d["id"] == id.as_str())
            .await?;
        Ok(())
    }
}
