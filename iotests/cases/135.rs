//! When writing metadata fails, at whatever step, the request fails, earlier data
//! stay, and the image is left with leaks at worst.
//!
//! group: rw auto qcow2 blkdebug
//! supported_fmt: qcow2
//! supported_proto: file fuse
//! unsupported_imgopts: data_file
//! needs: driver:blkdebug

use iotests::prelude::*;

const SIZE: u64 = 64 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for event in [
        "l2_update",
        "l2_alloc_write",
        "write_aio",
        "l2_load",
        "l1_update",
        "refblock_load",
        "refblock_update_part",
        "cluster_alloc",
        "pwritev",
        "flush_to_os",
    ] {
        for errno in [5, 28] {
            let img = t.create_quietly(SIZE, "cluster_size=4k").await?;
            t.io(&img, ["write -P 1 0 1M", "write -P 2 5000 512"]).quiet().await?;
            let node = json!({"driver": "qcow2", "file": {"driver": "blkdebug",
                "image": img.protocol_node("low"),
                "inject-error": [{"event": event, "errno": errno, "once": true, "immediately": true}]}});
            let commands = ["write -P 3 2M 512", "write -P 3 33M 64k", "write -P 3 1M 20k"];
            let status = t.io(format!("json:{node}"), commands).quiet().any_status().await?.status;
            let repaired = t.check_counts_quietly(&img, &["-r", "leaks"]).await?;
            ensure!(
                repaired.corruptions + repaired.corruptions_fixed + repaired.check_errors == 0,
                "{event} {errno}: {repaired:?}"
            );
            t.verify_quietly(&img, &[(1, 0, 5000), (2, 5000, 512), (1, 5512, MIB - 5512)]).await?;
            let defects = t.defects(&img)?;
            ensure!(defects.is_empty(), "{event} {errno}: {defects:?}");
            t.io(&img, ["write -P 4 2M 512", "read -P 4 2M 512", "read -P 1 0 4k"]).quiet().await?;
            let failed = if status == Some(0) { "nothing failed" } else { "a request failed" };
            t.log(format!("{event}, errno {errno}: {failed}; no corruption; written again"));
        }
    }
    Ok(())
}
