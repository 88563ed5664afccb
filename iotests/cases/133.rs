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
        let img = t
            .create(most)
            .without_imgopts()
            .options(format!("cluster_size={cluster}"))
            .quiet()
            .await?;
        let half = most / 2 - 512;
        let last = most - 512;
        t.io(
            &img,
            [
                "write -P 1 0 512".to_owned(),
                format!("write -P 2 {last} 512"),
                format!("write -P 3 {half} 1024"),
                format!("write {most} 512"),
                "read -P 1 0 512".to_owned(),
                format!("read -P 0 {} 512", last - 512),
            ],
        )
        .fails()
        .await?;
        ensure!(t.virtual_size(&img).await? == most, "info reports another size");
        let line =
            format!("create -f qcow2 -o cluster_size={cluster} TEST_DIR/more {}", most + cluster);
        t.img(line).fails().quiet().await?;
        t.img(format!("resize {img} {}", most + cluster)).fails().quiet().await?;
        t.log("one cluster more is refused, at first and later");
        t.verify(&img, &[(1, 0, 512), (2, last, 512), (3, half, 1024)]).await?;
    }
    let _ = std::fs::remove_file(t.path("more"));
    Ok(())
}
