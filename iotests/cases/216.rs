//! A copy-before-write filter keeps a snapshot: what snapshot-access shows
//! stays as it was, whatever the guest writes meanwhile, and errors reach the
//! right side.
//!
//! group: rw auto quick backup qmp
//! supported_fmt: generic
//! unsupported_fmt: luks
//! supported_proto: file
//! needs: driver:copy-before-write driver:snapshot-access qemu-storage-daemon qemu>=7.1

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

async fn fleecing(
    t: &Test,
    img: &Image,
    target: Value,
    options: Value,
) -> Result<(Daemon, String, String)> {
    let mut qsd = t.qsd("").await?;
    qsd.add(img, "disk").await?;
    qsd.run("blockdev-add", target).await?;
    let (guest, past) = qsd.fleece("disk", "tmp", "past", &options).await?;
    Ok((qsd, guest, past))
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let tmp = t.image("tmp").format("raw").size(SIZE).quiet().await?;
    let mut now = t.disk_model(SIZE);
    let mut rng = t.rng();
    let plan = Plan { count: 30, longest: 256 * KIB, ..Plan::default() };
    t.apply(&img, &mut now, &plan.ops(&mut rng, SIZE)).await?;
    let then = now.clone();

    t.section("the guest writes, the snapshot stays");
    let (qsd, guest, past) = fleecing(t, &img, tmp.node("tmp"), json!({})).await?;
    for _ in 0..2 {
        let ops = plan.ops(&mut rng, SIZE);
        ops.iter().for_each(|op| now.apply(op));
        t.io(&guest, ops.iter().map(ToString::to_string)).quiet().await?;
        t.io(&past, then.reads(0, SIZE)).options(["-r"]).quiet().await?;
        t.io(&guest, now.reads(0, SIZE)).quiet().await?;
        t.log("both as they should be");
    }
    t.io(&past, ["write 0 512"]).options(["-r"]).fails().quiet().await?;
    qsd.quit().await?;
    t.matches(&img, &now).await?;

    t.section("copying fails: the guest's write fails");
    let broken = || {
        json!({"driver": "blkdebug", "node-name": "tmp", "image": tmp.protocol_node("under"),
            "inject-error": [{"event": "none", "iotype": "write", "errno": 28}]})
    };
    let (qsd, guest, past) = fleecing(t, &img, broken(), json!({})).await?;
    let old = now.reads(0, 64 * KIB);
    t.io(&guest, ["write -P 1 0 64k"]).fails().await?;
    t.io(&past, &old).options(["-r"]).quiet().await?;
    qsd.quit().await?;
    t.matches(&img, &now).await?;

    t.section("copying fails: the past is given up");
    let options = json!({"on-cbw-error": "break-snapshot"});
    let (qsd, guest, past) = fleecing(t, &img, broken(), options).await?;
    t.io(&guest, ["write -P 1 0 64k"]).await?;
    t.io(&past, ["read 0 64k"]).options(["-r"]).fails().await?;
    qsd.quit().await?;
    now.set(0, 64 * KIB, Some(1));
    t.matches(&img, &now).await
}
