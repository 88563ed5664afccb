//! Every mode of a quorum: the first child answers or all do, children come and
//! go while it is in use, and a write counts once enough children have it.
//!
//! group: rw auto quick io qmp blkdebug
//! supported_fmt: generic
//! unsupported_fmt: luks
//! supported_proto: file
//! needs: driver:quorum driver:blkdebug qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = MIB;

/// A daemon with three images, and a node `bad-NAME` above those whose requests
/// of one type fail.
async fn daemon(t: &Test, images: &[Image; 3], bad: &[(&str, &str)]) -> Result<Daemon> {
    let mut qsd = t.qsd("").await?;
    for (name, img) in ["a", "b", "c"].iter().zip(images) {
        qsd.add(img, name).await?;
    }
    for (name, kind) in bad {
        let error = json!([{"event": "none", "iotype": kind, "errno": 5}]);
        let node = json!({"driver": "blkdebug", "node-name": format!("bad-{name}"), "image": name, "inject-error": error});
        qsd.run("blockdev-add", node).await?;
    }
    Ok(qsd)
}

/// Adds the quorum `q` and exports it.
async fn quorum(qsd: &mut Daemon, children: &[&str], mut options: Value) -> Result<String> {
    options["driver"] = "quorum".into();
    options["node-name"] = "q".into();
    options["children"] = json!(children);
    qsd.qmp("blockdev-add", options).await?;
    qsd.export_nbd("q").await
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let images = [
        t.image("a").size(SIZE).await?,
        t.image("b").size(SIZE).await?,
        t.image("c").size(SIZE).await?,
    ];
    for (n, img) in (1..).zip(&images) {
        t.write(img, &[(n, 0, SIZE)]).await?;
    }
    let [a, b, c] = &images;

    t.section("fifo: the first child answers");
    let fifo = || json!({"vote-threshold": 1, "read-pattern": "fifo"});
    let mut qsd = daemon(t, &images, &[]).await?;
    let disk = quorum(&mut qsd, &["a", "b"], fifo()).await?;
    t.io(&disk, ["read -P 1 0 64k", "write -P 4 64k 64k", "read -P 4 64k 64k"]).await?;
    qsd.quit().await?;
    for img in [a, b] {
        t.verify(img, &[(4, 64 * KIB, 64 * KIB)]).await?;
    }

    t.section("fifo: the next one does where it fails, until there is none");
    let mut qsd = daemon(t, &images, &[("a", "read"), ("b", "read")]).await?;
    let disk = quorum(&mut qsd, &["bad-a", "b"], fifo()).await?;
    t.io(&disk, ["read -P 2 0 64k"]).await?;
    qsd.quit().await?;
    let mut qsd = daemon(t, &images, &[("a", "read"), ("b", "read")]).await?;
    let disk = quorum(&mut qsd, &["bad-a", "bad-b"], fifo()).await?;
    t.io(&disk, ["read 0 64k"]).fails().await?;
    qsd.quit().await?;

    t.section("a write that one of three fails, and that two fail");
    for img in &images {
        t.write(img, &[(5, 0, SIZE)]).await?;
    }
    let two = || json!({"vote-threshold": 2});
    let mut qsd = daemon(t, &images, &[("a", "write"), ("b", "write")]).await?;
    let disk = quorum(&mut qsd, &["bad-a", "b", "c"], two()).await?;
    t.io(&disk, ["write -P 6 0 64k", "read -P 6 0 64k"]).await?;
    let event = qsd.event_where("QUORUM_REPORT_BAD", |d| d["type"] == "write").await?;
    t.log(format!("reported: {}", event["data"]["node-name"]));
    qsd.quit().await?;
    t.verify(a, &[(5, 0, SIZE)]).await?;
    for img in [b, c] {
        t.verify(img, &[(6, 0, 64 * KIB)]).await?;
    }
    let mut qsd = daemon(t, &images, &[("a", "write"), ("b", "write")]).await?;
    let disk = quorum(&mut qsd, &["bad-a", "bad-b", "c"], two()).await?;
    t.io(&disk, ["write -P 7 128k 64k"]).fails().await?;
    qsd.event("QUORUM_FAILURE").await?;
    t.log("reported");
    qsd.quit().await?;

    t.section("children come and go");
    for img in &images {
        t.write(img, &[(8, 0, SIZE)]).await?;
    }
    let mut qsd = daemon(t, &images, &[]).await?;
    let disk = quorum(&mut qsd, &["a", "b"], two()).await?;
    t.io(&disk, ["write -P 9 0 4k"]).await?;
    let change = "x-blockdev-change";
    for wrong in [
        json!({"parent": "q", "child": "children.1"}),
        json!({"parent": "q", "child": "children.7"}),
        json!({"parent": "q", "node": "nowhere"}),
        json!({"parent": "q"}),
        json!({"parent": "a", "node": "c"}),
    ] {
        ensure!(qsd.ask(change, wrong.clone()).await?.is_err(), "{wrong} was done");
        t.log(format!("{wrong}: refused"));
    }
    qsd.qmp(change, json!({"parent": "q", "node": "c"})).await?;
    t.io(&disk, ["write -P 10 4k 4k", "read -P 10 4k 4k"]).await?;
    qsd.qmp(change, json!({"parent": "q", "child": "children.0"})).await?;
    t.io(&disk, ["write -P 11 8k 4k", "read -P 11 8k 4k", "read -P 10 4k 4k"]).await?;
    qsd.quit().await?;
    t.verify(a, &[(9, 0, 4096), (10, 4096, 4096), (8, 8192, 4096)]).await?;
    t.verify(b, &[(9, 0, 4096), (10, 4096, 4096), (11, 8192, 4096)]).await?;
    t.verify(c, &[(8, 0, 4096), (10, 4096, 4096), (11, 8192, 4096)]).await?;

    t.section("blkverify: two children, and no difference between them");
    t.write(a, &[(12, 0, SIZE)]).await?;
    t.write(b, &[(12, 0, SIZE)]).await?;
    let node = |votes: u32, children: &[&Image]| {
        let children: Vec<Value> =
            children.iter().zip(["a", "b", "c"]).map(|(img, name)| img.node(name)).collect();
        let node = json!({"driver": "quorum", "vote-threshold": votes, "blkverify": true, "children": children});
        format!("json:{node}")
    };
    t.io(node(2, &[a, b]), ["read -P 12 0 64k", "write -P 13 0 4k", "read -P 13 0 4k"])
        .quiet()
        .await?;
    t.log("they agree");
    t.write(b, &[(14, 512 * KIB, 512)]).await?;
    let output =
        t.io(node(2, &[a, b]), ["read 0 64k", "read 512k 512"]).fails().quiet().await?.text();
    t.log(format!(
        "they do not: the program ends, and reports it: {}",
        output.contains("mismatch")
    ));
    t.io(node(1, &[a, b]), ["read 0 512"]).fails().quiet().await?;
    t.io(node(2, &[a, b, c]), ["read 0 512"]).fails().quiet().await?;
    t.log("fewer votes, or more children: refused");
    Ok(())
}
