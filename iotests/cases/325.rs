//! Dirty bitmaps have every place that a guest wrote through a device, and no other.
//!
//! group: rw device bitmap
//! supported_fmt: raw qcow2
//! supported_proto: file
//! needs: qtest

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    const GRAIN: u64 = 64 * KIB;
    t.on_each_disk(
        &Setup::new(2 * MIB),
        |_| true,
        async |disk| {
            disk.run(&[Op::write(1, 0, MIB)])?;
            let bitmap = json!({"node": "disk", "name": "bitmap", "granularity": GRAIN});
            disk.vm.run("block-dirty-bitmap-add", bitmap).await?;
            let ops = [
                Op::write(2, 0, 512),
                Op::write(3, 2 * GRAIN - 512, KIB),
                Op::Read { offset: 5 * GRAIN, length: GRAIN },
                Op::write(4, 7 * GRAIN, 2 * GRAIN),
                Op::Flush,
            ];
            disk.run(&ops)?;
            let nodes = disk.vm.run("query-named-block-nodes", json!({"flat": true})).await?;
            let node = nodes.as_array().and_then(|n| n.iter().find(|n| n["node-name"] == "disk"));
            let count = &node.context("no node")?["dirty-bitmaps"][0]["count"];
            t.log(format!("dirty: {count} bytes"));
            // Grains 0, 1, 2, 7 and 8.
            ensure!(*count == 5 * GRAIN, "{count} bytes are dirty");
            disk.vm
                .run("block-dirty-bitmap-remove", json!({"node": "disk", "name": "bitmap"}))
                .await?;
            disk.matches()
        },
    )
    .await
}
