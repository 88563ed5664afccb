//! An NBD client waits for a server that is not running yet, and survives one
//! that is killed with many requests in flight: each is done once there is a
//! new one.
//!
//! group: rw auto quick nbd qmp throttle
//! supported_fmt: generic
//! supported_proto: file
//! needs: driver:throttle qemu-storage-daemon qemu>=7.0

use std::path::Path;

use iotests::prelude::*;
use tokio::net::UnixListener;

const SIZE: u64 = 4 * MIB;
const REQUESTS: u64 = 14;

/// A daemon that serves the image; one that is slow lets one byte a second through.
async fn server(t: &Test, img: &Image, path: &Path, slow: bool) -> Result<Daemon> {
    let mut qsd = t.qsd("").await?;
    qsd.add(img, "disk").await?;
    let mut node = "disk";
    if slow {
        node = "slow";
        let group =
            json!({"qom-type": "throttle-group", "id": "group", "limits": {"bps-total": 1}});
        qsd.run("object-add", group).await?;
        let filter = json!({"driver": "throttle", "node-name": node, "throttle-group": "group", "file": "disk"});
        qsd.run("blockdev-add", filter).await?;
    }
    let addr = json!({"type": "unix", "data": {"path": path}});
    qsd.run("nbd-server-start", json!({"addr": addr})).await?;
    let export =
        json!({"type": "nbd", "id": "e", "node-name": node, "name": "disk", "writable": true});
    qsd.run("block-export-add", export).await?;
    Ok(qsd)
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    t.write(&img, &[(1, 0, SIZE)]).await?;
    let path = t.env().sock_dir.join("late");
    let by = |option: &str| {
        format!(
            r#"json:{{"driver": "nbd", "server": {{"type": "unix", "path": "SOCK_DIR/late"}}, "export": "disk", {option}}}"#
        )
    };

    t.section("no server listens");
    t.io(by(r#""open-timeout": 0"#), ["read 0 512"]).fails().quiet().await?;
    t.io(by(r#""open-timeout": 1"#), ["read 0 512"]).fails().quiet().await?;
    t.log("it gives up");

    t.section("one that hangs up is there first, then the real one");
    let listener = UnixListener::bind(&path).context("failed to listen")?;
    let late = async {
        // The client has tried, and tries again.
        drop(listener.accept().await.context("no client connected")?);
        drop(listener);
        std::fs::remove_file(&path)?;
        server(t, &img, &path, true).await
    };
    let (client, slow) =
        tokio::join!(t.session(by(r#""open-timeout": 600, "reconnect-delay": 600"#)), late);
    let (mut client, slow) = (client?, slow?);
    t.log("it is served");

    t.section("which is killed with requests in flight");
    client.quiet();
    for n in 0..REQUESTS {
        client.run(format!("aio_write -P {} {} 64k", n + 2, n * 2 * 64 * KIB)).await?;
    }
    slow.kill().await?;
    t.after_crash(&img).await?;
    let quick = server(t, &img, &path, false).await?;
    let output = client.run("aio_flush").await?;
    ensure!(!output.contains("failed"), "{output}");
    let mut reads = Vec::new();
    for n in 0..REQUESTS {
        reads.push(format!("read -P {} {} 64k", n + 2, n * 2 * 64 * KIB));
        reads.push(format!("read -P 1 {} 64k", (n * 2 + 1) * 64 * KIB));
    }
    for read in &reads {
        let output = client.run(read).await?;
        ensure!(!output.contains("failed"), "{read}: {output}");
    }
    t.log("all are done, and nothing else");
    client.close().await?;
    quick.quit().await?;
    t.io(&img, &reads).quiet().await?;
    // What the first server had not flushed may be leaked.
    t.img(format!("check -r leaks {img}")).any_status().quiet().await?;
    t.check(&img).await
}
