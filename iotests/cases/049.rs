//! A point in time is read through snapshot-access above copy-before-write while
//! the guest goes on: what a fleecing backup tool copies.
//!
//! group: rw auto quick backup qmp
//! supported_fmt: generic
//! unsupported_imgopts: compat=0.10
//! needs: qemu-storage-daemon qemu>=8.0

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let src = t.image("src").size(SIZE).await?;
    let mut seen = t.disk_model(SIZE);
    let mut rng = t.rng();
    let plan = Plan { count: 25, longest: 128 * KIB, ..Plan::default() };
    t.write(&src, &[(1, 0, SIZE)]).await?;
    seen.set(0, SIZE, Some(1));
    t.apply(&src, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    let old = t.image("old").size(SIZE).await?;
    let mut qsd = t.qsd("").await?;
    qsd.add(&src, "src").await?;
    qsd.add(&old, "old").await?;
    let (export, fleece) = qsd.fleece("src", "old", "then", &json!({})).await?;
    let then = seen.clone();

    t.section("the moment stays");
    for _ in 0..4 {
        t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
        t.io(&fleece, then.reads(0, SIZE)).options(["-r"]).quiet().await?;
    }
    t.io(&export, seen.reads(0, SIZE)).quiet().await?;

    t.section("copied from there");
    let copy = t.image("copy").format("raw").size(SIZE).quiet().await?;
    t.img(format!("convert -n -f raw -O raw {fleece} {copy}")).quiet().await?;
    t.io(&copy, then.reads(0, SIZE)).options(["-r"]).quiet().await?;
    let refused = t.io(&fleece, ["write 0 512"]).any_status().quiet().await?.status != Some(0);
    t.log(format!("a write to the moment: {}", if refused { "refused" } else { "done" }));

    for node in ["then", "cbw"] {
        qsd.unexport(&format!("nbd-{node}")).await?;
    }
    qsd.qmp_fails("blockdev-del", json!({"node-name": "cbw"})).await?;
    for node in ["then", "cbw", "old"] {
        qsd.qmp("blockdev-del", json!({"node-name": node})).await?;
    }
    qsd.quit().await?;
    t.matches(&src, &seen).await?;
    t.check(&src).await?;
    t.check(&old).await
}
