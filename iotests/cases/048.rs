//! External snapshots under a writing guest: each layer keeps what was there when
//! it was closed, and streaming them together again loses nothing.
//!
//! group: rw auto quick snapshot backing stream jobs
//! supported_fmt: generic
//! unsupported_proto: nbd ssh
//! needs: rebase qemu-storage-daemon

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size(SIZE).await?;
    let mut seen = t.disk_model(SIZE);
    let mut rng = t.rng();
    let plan = Plan { count: 15, longest: 128 * KIB, ..Plan::default() };
    let mut qsd = t.qsd("").await?;
    qsd.add(&base, "n0").await?;
    let export = qsd.export_nbd("n0").await?;
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;

    t.section("layer on layer");
    let mut layers = vec![(base, seen.clone())];
    for n in 1..=4 {
        let below = &layers[n - 1].0;
        let top = t.image(&format!("top{n}")).backing(below).quiet().await?;
        let (node, overlay) = (format!("n{}", n - 1), format!("n{n}"));
        qsd.add_with(&top, &overlay, json!({"backing": Value::Null})).await?;
        layers[n - 1].1 = seen.clone();
        qsd.qmp("blockdev-snapshot", json!({"node": node, "overlay": overlay})).await?;
        t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
        layers.push((top, seen.clone()));
    }

    t.section("invalid requests");
    let (used, fresh) = ("n1", t.image("fresh").size(SIZE).quiet().await?);
    qsd.qmp_fails("blockdev-snapshot", json!({"node": "n4", "overlay": used})).await?;
    qsd.qmp_fails("blockdev-snapshot", json!({"node": "n4", "overlay": "nowhere"})).await?;
    qsd.qmp_fails("blockdev-snapshot", json!({"node": "nowhere", "overlay": used})).await?;
    let raw = t.image("raw").format("raw").size(SIZE).quiet().await?;
    qsd.add(&raw, "raw").await?;
    qsd.qmp_fails("blockdev-snapshot", json!({"node": "n4", "overlay": "raw"})).await?;
    t.check(&fresh).await?;

    t.section("streamed together, down to the second");
    qsd.job("block-stream", json!({"device": "n4", "base-node": "n1"})).await?;
    qsd.log_backing("n4").await?;
    t.apply(&export, &mut seen, &plan.ops(&mut rng, SIZE)).await?;
    qsd.quit().await?;
    layers[4].1 = seen;
    for (img, then) in &layers {
        t.matches(img, then).await?;
        t.check(img).await?;
    }
    Ok(())
}
