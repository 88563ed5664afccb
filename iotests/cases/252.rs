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
    let mut src = t.vm("").await?;
    src.add(&img, "node").await?;
    src.run("device_add", disk()).await?;
    src.guest(DISK, ["write -P 1 0 1M"]).await?;

    t.section("nobody is there: the source goes on");
    let (events, uri) = (json!([{"capability": "events", "state": true}]), "unix:SOCK_DIR/migrate");
    src.run("migrate-set-capabilities", json!({"capabilities": events})).await?;
    let real = uri.replace("SOCK_DIR", &t.env().sock_dir.to_string_lossy());
    src.run("migrate", json!({"uri": format!("{real}-nobody")})).await?;
    src.event_where("MIGRATION", |d| d["status"] == "failed").await?;
    src.guest(DISK, ["write -P 2 1M 64k"]).await?;

    t.section("to another process");
    let mut dst = t.vm("-incoming defer").await?;
    dst.run("migrate-set-capabilities", json!({"capabilities": events})).await?;
    dst.add(&img, "node").await?;
    dst.run("device_add", disk()).await?;
    dst.run("migrate-incoming", json!({"uri": real})).await?;
    src.run("migrate", json!({"uri": real})).await?;
    for (name, vm) in [("source", &mut src), ("destination", &mut dst)] {
        let end = vm
            .event_where("MIGRATION", |d| d["status"] == "completed" || d["status"] == "failed")
            .await?;
        t.log(format!("{name}: {}", end["data"]["status"]));
        // The machine leaves its last state on the way just after the event.
        let status = loop {
            let status = vm.run("query-status", json!({})).await?["status"].clone();
            if status != "finish-migrate" && status != "inmigrate" {
                break status;
            }
        };
        t.log_json(&status);
    }
    // A machine that was stopped stays so, and its images wait for it to go on.
    dst.run("cont", json!({})).await?;
    dst.event("RESUME").await?;
    dst.guest(DISK, ["write -P 3 2M 64k"]).await?;
    src.quit().await?;
    dst.guest(DISK, ["write -P 4 3M 64k"]).await?;
    dst.quit().await?;
    t.verify(&img, &[(1, 0, MIB), (2, MIB, 64 * KIB), (3, 2 * MIB, 64 * KIB), (4, 3 * MIB, 64 * KIB)]).await?;
    t.check(&img).await
}

fn disk() -> Value {
    json!({"driver": "virtio-blk-pci", "id": "disk0", "drive": "node", "addr": "0x5"})
}
