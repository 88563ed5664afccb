//! An NBD client with a reconnect delay comes back when the server does, with
//! no request lost; one without fails at once.
//!
//! group: rw auto quick nbd qmp
//! supported_fmt: generic
//! supported_proto: file
//! needs: qemu-storage-daemon

use iotests::prelude::*;

/// Starts the server of a daemon and exports `disk`.
async fn serve(qsd: &mut Daemon, path: &std::path::Path) -> Result<()> {
    let addr = json!({"type": "unix", "data": {"path": path}});
    qsd.run("nbd-server-start", json!({"addr": addr})).await?;
    let export = json!({"type": "nbd", "id": "e", "node-name": "disk", "writable": true});
    qsd.run("block-export-add", export).await.map(drop)
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(4 * MIB).await?;
    t.write(&img, &[(1, 0, MIB)]).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&img, "disk").await?;
    let path = t.env().sock_dir.join("restarted");
    let by = |delay: u32| {
        format!(
            r#"json:{{"driver": "nbd", "server": {{"type": "unix", "path": "SOCK_DIR/restarted"}}, "export": "disk", "reconnect-delay": {delay}}}"#
        )
    };

    t.section("it waits");
    serve(&mut qsd, &path).await?;
    let mut client = t.session(by(600)).await?;
    client.run("read -P 1 0 64k").await?;
    qsd.run("nbd-server-stop", json!({})).await?;
    // Asked for while there is no server.
    client.run("aio_write -P 2 64k 64k").await?;
    client.quiet();
    serve(&mut qsd, &path).await?;
    client.run("aio_flush").await?;
    let read = client.run("read -P 2 64k 64k").await?;
    t.log(format!("the write came through: {}", !read.contains("failed")));
    let read = client.run("read -P 1 128k 64k").await?;
    t.log(format!("the rest is as it was: {}", !read.contains("failed")));
    client.close().await?;

    t.section("it does not");
    let mut client = t.session(by(0)).await?;
    client.run("read -P 2 64k 512").await?;
    qsd.run("nbd-server-stop", json!({})).await?;
    client.quiet();
    let write = client.run("write -P 3 0 512").await?;
    t.log(format!("the write failed: {}", write.contains("failed")));
    client.close_as(Expect::Failure).await?;
    qsd.quit().await?;
    let _ = std::fs::remove_file(path);
    t.verify(&img, &[(1, 0, 64 * KIB), (2, 64 * KIB, 64 * KIB), (1, 128 * KIB, 64 * KIB)]).await?;
    t.check(&img).await
}
