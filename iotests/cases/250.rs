//! A disk that is plugged into a machine, unplugged and plugged in once more keeps
//! its data, and what is in use cannot be taken away.
//!
//! group: rw quick machine
//! supported_fmt: generic
//! needs: qemu-system device:virtio-scsi-pci device:scsi-hd

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    t.write(&img, &[(1, 0, SIZE)]).await?;
    let other = t.image("other").size(SIZE).await?;
    let mut vm = t.vm("-device virtio-scsi-pci,id=bus").await?;

    t.section("invalid requests");
    let disk = |id: &str, drive: &str| json!({"driver": "scsi-hd", "id": id, "drive": drive, "bus": "bus.0"});
    vm.qmp_fails("device_add", disk("disk0", "nowhere")).await?;
    vm.qmp_fails("device_del", json!({"id": "nowhere"})).await?;

    for (round, pattern) in [(1, 2u8), (2, 3)] {
        t.section(format!("plugged in, round {round}"));
        vm.add(&img, "node").await?;
        vm.qmp("device_add", disk("disk0", "node")).await?;
        vm.guest("disk0", [format!("write -P {pattern} {} 64k", round * 64 * KIB)]).await?;
        vm.qmp_fails("device_add", disk("disk1", "node")).await?;
        vm.qmp_fails("device_add", disk("disk0", "node")).await?;
        vm.qmp_fails("blockdev-del", json!({"node-name": "node"})).await?;
        vm.qmp("device_del", json!({"id": "disk0"})).await?;
        let gone = vm.event_where("DEVICE_DELETED", |d| d["device"] == "disk0").await?;
        vm.log_event(&gone);
        vm.qmp("blockdev-del", json!({"node-name": "node"})).await?;
        t.verify(&img, &[(pattern, round * 64 * KIB, 64 * KIB), (1, 256 * KIB, SIZE - 256 * KIB)])
            .await?;
    }

    t.section("two at once");
    vm.add(&img, "node").await?;
    vm.add(&other, "other").await?;
    vm.qmp("device_add", disk("disk0", "node")).await?;
    vm.qmp("device_add", disk("disk1", "other")).await?;
    vm.guest("disk0", ["write -P 4 1M 64k"]).await?;
    vm.guest("disk1", ["write -P 5 2M 64k"]).await?;
    vm.quit().await?;
    t.verify(
        &img,
        &[(1, 0, 64 * KIB), (2, 64 * KIB, 64 * KIB), (3, 128 * KIB, 64 * KIB), (4, MIB, 64 * KIB)],
    )
    .await?;
    t.verify(&other, &[(5, 2 * MIB, 64 * KIB)]).await?;
    t.check(&img).await?;
    t.check(&other).await
}
