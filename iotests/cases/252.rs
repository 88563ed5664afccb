//! A machine moves to another process on the same disk: the source lets go, the
//! destination writes, and what both wrote is there.
//!
//! group: rw quick machine migration
//! supported_fmt: raw qcow2 luks
//! supported_proto: file
//! needs: qemu-system device:virtio-blk-pci

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;
/// The half of the device that has the disk.
const DISK: &str = "/machine/peripheral/disk0/virtio-backend";

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    let (mut src, mut dst) = t.two_machines("", &[]).await?;
    src.add(&img, "node").await?;
    src.run("device_add", disk()).await?;
    src.guest(DISK, ["write -P 1 0 1M"]).await?;

    t.section("no destination: the source goes on");
    let nobody = t.env().sock_dir.join("nobody");
    src.run("migrate", json!({"uri": format!("unix:{}", nobody.display())})).await?;
    t.log(src.migration_end().await?);
    src.guest(DISK, ["write -P 2 1M 64k"]).await?;

    t.section("to another process");
    dst.add(&img, "node").await?;
    dst.run("device_add", disk()).await?;
    t.migrate(&mut src, &mut dst).await?;
    // A machine that was stopped stays so, and its images wait for it to go on.
    dst.resume().await?;
    dst.guest(DISK, ["write -P 3 2M 64k"]).await?;
    src.quit().await?;
    dst.guest(DISK, ["write -P 4 3M 64k"]).await?;
    dst.quit().await?;
    t.verify(
        &img,
        &[(1, 0, MIB), (2, MIB, 64 * KIB), (3, 2 * MIB, 64 * KIB), (4, 3 * MIB, 64 * KIB)],
    )
    .await?;
    t.check(&img).await
}

fn disk() -> Value {
    json!({"driver": "virtio-blk-pci", "id": "disk0", "drive": "node", "addr": "0x5"})
}
