//! Jobs copy disks of unaligned sizes to the last byte, onto targets in another
//! format and with other cluster sizes.
//!
//! group: rw auto quick mirror backup jobs
//! supported_fmt: generic
//! needs: qemu-storage-daemon

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    for size in [512, 64 * KIB - 512, MIB + 512] {
        t.section(format!("{size} bytes"));
        let src = t.image("src").size(size).quiet().await?;
        t.write(&src, &[(1, 0, size - 512), (2, size - 512, 512)]).await?;
        for (command, name) in [("blockdev-mirror", "mirror"), ("blockdev-backup", "backup")] {
            let flat = t.image("flat").format("raw").size(size).quiet().await?;
            let dense = t
                .image("dense")
                .format("qcow2")
                .options("cluster_size=4k")
                .size(size)
                .quiet()
                .await?;
            let same = t.image(name).size(size).quiet().await?;
            let mut qsd = t.qsd("").await?;
            qsd.add(&src, "src").await?;
            for (node, img) in [("flat", &flat), ("dense", &dense), ("same", &same)] {
                qsd.add(img, node).await?;
                qsd.job(command, json!({"device": "src", "target": node, "sync": "full"})).await?;
            }
            qsd.quit().await?;
            for img in [&flat, &dense, &same] {
                let found = t.virtual_size(img).await?;
                ensure!(found == size, "{img} has {found} bytes");
                t.verify(img, &[(1, 0, size - 512), (2, size - 512, 512)]).await?;
                t.check(img).await?;
            }
        }
    }
    Ok(())
}
