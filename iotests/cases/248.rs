//! A node is resized below a filter, and the filter reports the new size, too.
//!
//! group: resize throttle qmp quick
//! supported_fmt: generic
//! supported_proto: file
//! needs: qemu-storage-daemon driver:throttle resize qemu>=10.2
//! unsupported_imgopts: data_file

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(MIB).await?;
    let mut qsd = t.qsd("--object throttle-group,id=group").await?;
    qsd.add(&img, "below").await?;
    let filter = json!({"driver": "throttle", "node-name": "above", "file": "below", "throttle-group": "group"});
    qsd.qmp("blockdev-add", filter).await?;
    qsd.qmp("block_resize", json!({"node-name": "below", "size": 3 * MIB})).await?;
    let nodes = qsd.run("query-named-block-nodes", json!({"flat": true})).await?;
    for name in ["below", "above"] {
        let node = nodes.as_array().and_then(|n| n.iter().find(|n| n["node-name"] == name));
        let size = &node.context("a node is missing")?["image"]["virtual-size"];
        t.log(format!("{name}: {size}"));
    }
    let url = qsd.export_nbd("above").await?;
    t.io(&url, [format!("write -P 7 {} 64k", 3 * MIB - 64 * KIB)]).await?;
    qsd.unexport("nbd-above").await?;
    qsd.quit().await?;
    t.verify(&img, &[(7, 3 * MIB - 64 * KIB, 64 * KIB)]).await?;
    t.check(&img).await
}
