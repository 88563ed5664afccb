//! Bitmaps grow and shrink with their disk: what was dirty below the new end stays
//! so, and what comes new is as it should be.
//!
//! group: rw auto quick qcow2 bitmap resize
//! supported_fmt: qcow2
//! unsupported_imgopts: cluster_size=512
//! needs: bitmaps resize qemu-storage-daemon shrinking

use iotests::prelude::*;

/// Logs how many bytes each bitmap has dirty, as a program finds it on opening.
async fn counts(t: &Test, img: &Image) -> Result<()> {
    let mut qsd = Box::pin(t.qsd("")).await?;
    qsd.run("blockdev-add", {
        let mut node = qsd.node_with(img, "disk", &json!({}));
        node["read-only"] = true.into();
        node
    })
    .await?;
    let nodes = qsd.run("query-named-block-nodes", json!({"flat": true})).await?;
    let node = nodes.as_array().and_then(|n| n.iter().find(|n| n["node-name"] == "disk"));
    let bitmaps = node.and_then(|n| n["dirty-bitmaps"].as_array()).cloned().unwrap_or_default();
    let mut lines: Vec<String> = bitmaps
        .iter()
        .map(|b| {
            format!("{}: {} bytes dirty, granularity {}", b["name"], b["count"], b["granularity"])
        })
        .collect();
    lines.sort();
    for line in lines {
        t.log(line);
    }
    qsd.quit().await
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("8M").await?;
    t.img(format!("bitmap --add -g 64k {img} b0")).await?;
    t.img(format!("bitmap --add -g 512 {img} b1")).await?;
    t.io(&img, ["write -P 1 0 512", "write -P 2 5M 512", "write -P 3 8388096 512"]).quiet().await?;
    counts(t, &img).await?;

    for size in ["4G", "4294967808", "6M", "5242880", "64M", "512"] {
        t.section(format!("resized to {size}"));
        t.img(format!("resize --shrink {img} {size}")).await?;
        counts(t, &img).await?;
        t.sound(&img)?;
    }
    t.verify(&img, &[(1, 0, 512)]).await?;
    t.io(&img, ["write -P 9 0 512"]).quiet().await?;
    counts(t, &img).await?;
    t.check(&img).await
}
