//! Exports of a storage daemon come and go: names and ids are each taken once,
//! one that is in use stays or takes its clients with it, and the node is free then.
//!
//! group: rw auto quick nbd qmp export
//! supported_fmt: generic
//! supported_proto: file
//! needs: qemu-storage-daemon qemu-nbd

use iotests::prelude::*;

/// Logs the exports that are there: id and node.
async fn exports(t: &Test, qsd: &mut Daemon) -> Result<()> {
    let all = qsd.run("query-block-exports", json!({})).await?;
    let mut lines: Vec<String> = all
        .as_array()
        .into_iter()
        .flatten()
        .map(|e| {
            format!(
                "{} of {}{}",
                e["id"],
                e["node-name"],
                if e["shutting-down"] == true { ", closing" } else { "" }
            )
        })
        .collect();
    lines.sort();
    t.log(format!(
        "exports: {}",
        if lines.is_empty() { "none".to_owned() } else { lines.join("; ") }
    ));
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(4 * MIB).await?;
    t.write(&img, &[(7, 0, 2 * MIB)]).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&img, "disk").await?;
    qsd.add_with(&t.image("still").size(MIB).await?, "still", json!({"read-only": true})).await?;
    let early = json!({"type": "nbd", "id": "e", "node-name": "disk"});
    qsd.qmp_fails("block-export-add", early).await?;
    let disk = qsd.export_nbd("disk").await?;
    let url = |name: &str| disk.replace("///disk?", &format!("///{name}?"));

    t.section("names and ids");
    let export = |id: &str, node: &str, name: &str, writable: bool| json!({"type": "nbd", "id": id, "node-name": node, "name": name, "writable": writable, "description": "words"});
    qsd.qmp("block-export-add", export("second", "disk", "again", false)).await?;
    for wrong in [
        export("second", "disk", "third", false),
        export("third", "disk", "again", false),
        export("third", "nowhere", "third", false),
        export("third", "still", "third", true),
        export("third", "disk", &"x".repeat(5000), false),
    ] {
        ensure!(qsd.ask("block-export-add", wrong.clone()).await?.is_err(), "it was made: {wrong}");
    }
    t.log("what exists already or is invalid: refused");
    exports(t, &mut qsd).await?;
    let list = format!("--list -k {}", disk.split_once("socket=").map_or("", |(_, s)| s));
    let output = t.tool(Kind::Nbd, list).quiet().await?.text();
    let mut found: Vec<&str> = output
        .lines()
        .map(str::trim)
        .filter(|l| {
            ["exports available", "export:", "description:", "size:"]
                .iter()
                .any(|w| l.starts_with(w))
        })
        .collect();
    found.sort_unstable();
    found.iter().for_each(|line| t.log(line));

    t.section("both are the same disk, and one cannot be written");
    t.io(&disk, ["write -P 1 0 64k"]).await?;
    t.io(url("again"), ["read -P 1 0 64k"]).options(["-r"]).await?;
    t.io(url("again"), ["write -P 9 0 512"]).fails().quiet().await?;
    t.io(&disk, ["read -P 1 0 512"]).await?;

    t.section("one that is in use");
    let mut client = t.session_with(url("again"), &["-r"]).await?;
    client.run("read -P 1 0 512").await?;
    ensure!(
        qsd.ask("block-export-del", json!({"id": "second", "mode": "safe"})).await?.is_err(),
        "it went"
    );
    t.log("safely: refused");
    client.run("read -P 1 512 512").await?;
    qsd.qmp("block-export-del", json!({"id": "second", "mode": "hard"})).await?;
    qsd.event_where("BLOCK_EXPORT_DELETED", |d| d["id"] == "second").await?;
    client.quiet();
    let output = client.run("read 0 512").await?;
    t.log(format!("hard: its client is cut off: {}", output.contains("failed")));
    client.close_as(Expect::Failure).await?;
    exports(t, &mut qsd).await?;
    t.io(&disk, ["read -P 1 0 64k"]).await?;
    t.io(url("again"), ["read 0 512"]).fails().quiet().await?;

    t.section("the server stops, and starts again");
    ensure!(qsd.ask("blockdev-del", json!({"node-name": "disk"})).await?.is_err(), "the node went");
    t.log("the node is in use");
    qsd.qmp("nbd-server-stop", json!({})).await?;
    qsd.event_where("BLOCK_EXPORT_DELETED", |d| d["id"] == "nbd-disk").await?;
    exports(t, &mut qsd).await?;
    ensure!(qsd.ask("nbd-server-stop", json!({})).await?.is_err(), "it stopped twice");
    let path = t.env().sock_dir.join("other");
    let addr = json!({"type": "unix", "data": {"path": path}});
    qsd.run("nbd-server-start", json!({"addr": addr, "max-connections": 1})).await?;
    ensure!(
        qsd.ask("nbd-server-start", json!({"addr": addr})).await?.is_err(),
        "there are two servers"
    );
    qsd.qmp("block-export-add", export("last", "disk", "last", true)).await?;
    t.io("nbd+unix:///last?socket=SOCK_DIR/other", ["read -P 1 0 64k", "write -P 2 0 512"]).await?;
    qsd.unexport("last").await?;
    qsd.qmp("blockdev-del", json!({"node-name": "disk"})).await?;
    qsd.quit().await?;
    t.verify(&img, &[(2, 0, 512), (1, 512, 63 * KIB), (7, 64 * KIB, MIB)]).await?;
    t.check(&img).await
}
