//! A commit within a chain is seen by the name its filter was given, keeps
//! others out, writes the given name of the backing file, and undoes itself
//! where the base fails.
//!
//! group: rw auto quick commit jobs backing qmp blkdebug
//! supported_fmt: qcow2 qed
//! supported_proto: file
//! unsupported_imgopts: data_file cluster_size=2M
//! needs: rebase qemu-storage-daemon driver:blkdebug

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;
const SHOWN: [(u8, u64, u64); 5] = [
    (4, 0, 64 * KIB),
    (1, 64 * KIB, MIB - 64 * KIB),
    (2, MIB, MIB),
    (3, 2 * MIB, MIB),
    (1, 3 * MIB, MIB),
];

/// A chain of four, each with something of its own.
async fn chain(t: &Test) -> Result<[Image; 4]> {
    let base = t.image("base").size(SIZE).quiet().await?;
    t.io(&base, ["write -P 1 0 4M"]).quiet().await?;
    let mid = t.image("mid").backing(&base).quiet().await?;
    t.io(&mid, ["write -P 2 1M 1536k"]).quiet().await?;
    let low = t.image("low").backing(&mid).quiet().await?;
    t.io(&low, ["write -P 3 2M 1M"]).quiet().await?;
    let top = t.image("top").backing(&low).quiet().await?;
    t.io(&top, ["write -P 4 0 64k"]).quiet().await?;
    Ok([base, mid, low, top])
}

async fn shows(t: &Test, disk: &str) -> Result<()> {
    t.io(disk, SHOWN.map(|(p, at, n)| format!("read -P {p} {at} {n}"))).quiet().await?;
    t.log("the disk reads as before");
    Ok(())
}

/// Expects that a job is refused, and says of what class.
async fn refused(t: &Test, qsd: &mut Daemon, why: &str, args: Value) -> Result<()> {
    let answer = qsd.ask("block-commit", args).await?;
    ensure!(answer.is_err(), "{why}: taken");
    t.log(format!("{why}: refused"));
    Ok(())
}

async fn named(t: &Test) -> Result<()> {
    let [base, mid, low, top] = chain(t).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add_chain(&[(&base, "base"), (&mid, "mid"), (&low, "low"), (&top, "top")]).await?;
    let disk = qsd.export_nbd("top").await?;
    let args = |more: Value| {
        let mut args =
            json!({"job-id": "other", "device": "top", "top-node": "low", "base-node": "base"});
        for (key, value) in more.as_object().into_iter().flatten() {
            args[key] = value.clone();
        }
        args
    };

    t.section("refused");
    refused(
        t,
        &mut qsd,
        "the name of a node that is there",
        args(json!({"filter-node-name": "mid"})),
    )
    .await?;
    refused(t, &mut qsd, "no name", args(json!({"filter-node-name": "1 2"}))).await?;
    refused(t, &mut qsd, "a node and a file for one end", args(json!({"base": base.real()})))
        .await?;
    refused(
        t,
        &mut qsd,
        "another backing file for the topmost",
        args(json!({"top-node": "top", "backing-file": "x"})),
    )
    .await?;
    refused(t, &mut qsd, "a policy that there is not", args(json!({"on-error": "maybe"}))).await?;
    refused(t, &mut qsd, "an invalid speed", args(json!({"speed": -1}))).await?;
    shows(t, &disk).await?;

    t.section("under way");
    let wanted = "another/name.of.the.base";
    let args = json!({"device": "top", "top": low.real(), "base": base.real(), "speed": 1,
        "filter-node-name": "filter", "backing-file": wanted});
    let job = qsd.start_job("block-commit", args).await?;
    let filter = qsd.node("filter").await?.context("there is no filter")?;
    t.log(format!("the filter: {}, read-only: {}", filter["drv"], filter["ro"]));
    for node in ["low", "mid", "base"] {
        ensure!(
            qsd.ask("blockdev-del", json!({"node-name": node})).await?.is_err(),
            "{node} could be taken away"
        );
    }
    let both = json!({"job-id": "other", "device": "top", "top-node": "mid", "base-node": "base"});
    refused(t, &mut qsd, "another commit of the same images", both).await?;
    let args = json!({"job-id": "other", "device": "low", "base-node": "base"});
    ensure!(qsd.ask("block-stream", args).await?.is_err(), "a stream of the same images");
    t.log("a stream of the same images: refused");
    shows(t, &disk).await?;
    qsd.run("block-job-set-speed", json!({"device": job, "speed": 0})).await?;
    qsd.conclude(&job, AtReady::Pass).await?;
    t.log(format!("the filter is gone: {}", qsd.node("filter").await?.is_none()));
    shows(t, &disk).await?;
    for node in ["low", "mid"] {
        qsd.run("blockdev-del", json!({"node-name": node})).await?;
    }
    qsd.quit().await?;
    let written = t.img(format!("info --output=json -U {top}")).quiet().await?.json()?;
    t.log(format!("the file names {}", written["backing-filename"]));
    t.img(format!("rebase -u -b {base} -F IMGFMT {top}")).quiet().await?;
    t.verify_quietly(&top, &SHOWN).await?;
    t.check(&base).await
}

async fn base_fails(t: &Test, policy: &str) -> Result<()> {
    t.section(format!("the base has no room, on-error={policy}"));
    let [base, mid, low, top] = chain(t).await?;
    let mut qsd = t.qsd("").await?;
    let mut node = base.node("base");
    let rule = json!({"event": "none", "iotype": "write", "errno": 28, "once": true});
    node["file"] =
        json!({"driver": "blkdebug", "image": base.protocol_node("file"), "inject-error": [rule]});
    node["read-only"] = json!(true);
    qsd.run("blockdev-add", node).await?;
    qsd.add_with(&mid, "mid", json!({"read-only": true, "backing": "base"})).await?;
    qsd.add_with(&low, "low", json!({"read-only": true, "backing": "mid"})).await?;
    qsd.add_with(&top, "top", json!({"backing": "low"})).await?;
    let disk = qsd.export_nbd("top").await?;
    let args = json!({"device": "top", "top-node": "low", "base-node": "base", "on-error": policy,
        "filter-node-name": "filter"});
    let job = qsd.start_job("block-commit", args).await?;
    qsd.meet_error(&job, policy != "report").await?;
    shows(t, &disk).await?;
    qsd.conclude(&job, AtReady::Pass).await?;
    shows(t, &disk).await?;
    let reported = qsd.node("top").await?.context("there is no top")?;
    let on = reported["backing_file"].as_str().unwrap_or_default();
    t.log(format!(
        "the top is backed by {}",
        if on.contains("base.") { "the base" } else { "what it lay on" }
    ));
    for node in ["base", "low"] {
        let reported = qsd.node(node).await?;
        t.log(format!(
            "{node} is read-only: {}",
            reported.map_or(Value::Null, |n| n["ro"].clone())
        ));
    }
    t.log(format!("the filter is gone: {}", qsd.node("filter").await?.is_none()));
    qsd.quit().await?;
    t.verify_quietly(&top, &SHOWN).await?;
    for img in [&base, &mid, &low, &top] {
        t.check(img).await?;
    }
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    named(t).await?;
    for policy in ["report", "stop", "enospc"] {
        base_fails(t, policy).await?;
    }
    Ok(())
}
