//! The largest disk of each cluster size can be made, written at its very end and
//! read back; one cluster more is refused.
//!
//! group: rw auto qcow2 create
//! supported_fmt: qcow2
//! supported_proto: file
//! needs: sparse

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    // An L1 table has at most 32 MiB: 4 Mi entries of a cluster of L2 entries each.
    for cluster in [512, 64 * KIB] {
        let most = (4 << 20) * (cluster / 8) * cluster;
        t.section(format!("clusters of {cluster} bytes: {} GiB", most / GIB));
        let img = t.create(most).without_imgopts().options(format!("cluster_size={cluster}")).quiet().await?;
        t.write(&img, &[(1, 0, 512), (2, most - 512, 512), (3, most / 2 - 512, 1024)]).await?;
        t.verify(&img, &[(1, 0, 512), (2, most - 512, 512), (3, most / 2 - 512, 1024), (0, most - 1024, 512)]).await?;
        ensure!(t.virtual_size(&img).await? == most, "info says another size");
        let line = format!("create -f qcow2 -o cluster_size={cluster} TEST_DIR/more {}", most + cluster);
        t.img(line).fails().quiet().await?;
        t.img(format!("resize {img} {}", most + cluster)).fails().quiet().await?;
        t.log("one cluster more is refused, at first and later");
    }
    let _ = std::fs::remove_file(t.path("more"));
    Ok(())
}
