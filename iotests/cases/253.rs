//! Dirty bitmaps move with a machine, under their own names or others, with all
//! that was written: once, and not to where they were not sent.
//!
//! group: rw quick machine migration bitmap
//! supported_fmt: raw qcow2 luks
//! supported_proto: file
//! needs: qemu-system

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    for mapped in [false, true] {
        t.section(if mapped { "under other names" } else { "as they are" });
        let (mut src, mut dst) = t.two_machines("", &["dirty-bitmaps"]).await?;
        src.add(&img, "node").await?;
        let there = if mapped { "other" } else { "node" };
        dst.add(&img, there).await?;
        for name in ["on", "off"] {
            let add = json!({"node": "node", "name": name, "granularity": 64 * KIB});
            src.run("block-dirty-bitmap-add", add).await?;
        }
        let export = src.export_nbd("node").await?;
        t.io(&export, ["write -P 1 0 128k", "write -P 2 1M 1"]).quiet().await?;
        src.run("block-dirty-bitmap-disable", json!({"node": "node", "name": "off"})).await?;
        t.io(&export, ["write -P 3 2M 64k"]).quiet().await?;
        src.log_bitmaps("node").await?;
        src.run("nbd-server-stop", json!({})).await?;
        src.event("BLOCK_EXPORT_DELETED").await?;
        if mapped {
            let map = |node: &str| {
                json!({"block-bitmap-mapping": [{"node-name": node, "alias": "disk", "bitmaps": [
                    {"name": if node == "node" { "on" } else { "moved" }, "alias": "b"}]}]})
            };
            src.run("migrate-set-parameters", map("node")).await?;
            dst.run("migrate-set-parameters", map("other")).await?;
        }
        t.migrate(&mut src, &mut dst).await?;
        src.quit().await?;
        dst.resume().await?;
        dst.log_bitmaps(there).await?;
        let export = dst.export_nbd(there).await?;
        t.io(&export, ["write -P 4 3M 64k"]).quiet().await?;
        dst.log_bitmaps(there).await?;
        dst.quit().await?;
        t.verify(&img, &[(1, 0, 128 * KIB), (3, 2 * MIB, 64 * KIB), (4, 3 * MIB, 64 * KIB)])
            .await?;
    }
    t.check(&img).await
}
