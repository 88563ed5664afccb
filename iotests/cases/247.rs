//! A storage daemon that becomes the client of its own NBD export answers, and goes on.
//!
//! group: nbd export qmp quick
//! supported_fmt: raw
//! supported_proto: file
//! needs: qemu-storage-daemon qemu>=10.2

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(MIB).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&img, "disk").await?;
    let url = qsd.export_nbd("disk").await?;
    let path = url.split_once("socket=").context("no socket in the URL")?.1;
    let path = path.replace("SOCK_DIR", &t.env().sock_dir.display().to_string());
    let server = json!({"type": "unix", "path": path});
    // Either answer will do: what matters is that there is one.
    let client = json!({"driver": "nbd", "node-name": "me", "server": server, "export": "disk"});
    let answer = qsd.ask("blockdev-add", client).await?;
    t.log("blockdev-add is answered");
    if answer.is_ok() {
        qsd.run("blockdev-del", json!({"node-name": "me"})).await?;
    }
    qsd.unexport("nbd-disk").await?;
    qsd.quit().await
}
