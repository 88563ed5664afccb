//! A disk grows under its machine: the device, the format and the file agree on
//! the new size, and what was written before and after is there.
//!
//! group: rw quick machine resize
//! supported_fmt: generic
//! needs: resize qemu-system device:virtio-scsi-pci device:scsi-hd
//! unsupported_imgopts: data_file

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create(SIZE).await?;
    t.write(&img, &[(1, 0, SIZE)]).await?;
    let mut vm = t.vm("-device virtio-scsi-pci,id=bus").await?;
    vm.add(&img, "node").await?;
    vm.qmp(
        "device_add",
        json!({"driver": "scsi-hd", "id": "disk0", "drive": "node", "bus": "bus.0"}),
    )
    .await?;

    t.section("invalid requests");
    vm.qmp_fails("block_resize", json!({"node-name": "nowhere", "size": 2 * SIZE})).await?;
    vm.qmp_fails("block_resize", json!({"node-name": "node", "size": -512})).await?;
    vm.qmp_fails("block_resize", json!({"size": 2 * SIZE})).await?;

    for size in [SIZE + 64 * KIB, 2 * SIZE] {
        t.section(format!("to {size} bytes"));
        vm.qmp("block_resize", json!({"node-name": "node", "size": size})).await?;
        vm.guest("disk0", [format!("write -P 2 {} 4k", size - 4 * KIB)]).await?;
        let drives = vm.run("query-block", json!({})).await?;
        let drive = drives.as_array().and_then(|d| d.iter().find(|d| d["qdev"] == "disk0"));
        t.log(format!(
            "virtual size: {}",
            drive.context("no disk")?["inserted"]["image"]["virtual-size"]
        ));
    }
    vm.quit().await?;
    t.info(&img).await?;
    t.verify(
        &img,
        &[(1, 0, SIZE), (2, SIZE + 60 * KIB, 4 * KIB), (2, 2 * SIZE - 4 * KIB, 4 * KIB)],
    )
    .await?;
    if t.format() != "luks" {
        t.verify_quietly(&img, &[(0, SIZE, 60 * KIB), (0, SIZE + 64 * KIB, SIZE - 68 * KIB)])
            .await?;
    }
    t.check(&img).await
}
