//! A medium is changed, taken out and put back in a drive: what is read follows
//! the medium, and a locked or occupied tray is respected.
//!
//! group: rw quick machine qmp
//! supported_fmt: generic
//! needs: qemu-system device:virtio-scsi-pci device:scsi-cd

use iotests::prelude::*;

const SIZE: u64 = 4 * MIB;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut vm = t.vm("-device virtio-scsi-pci,id=bus").await?;
    for (n, name) in [(1u8, "one"), (2, "two")] {
        let img = t.image(name).size(u64::from(n) * SIZE).await?;
        t.write(&img, &[(n, 0, SIZE)]).await?;
        vm.add_with(&img, name, json!({"read-only": true})).await?;
    }
    vm.qmp("device_add", json!({"driver": "scsi-cd", "id": "cd", "bus": "bus.0"})).await?;
    let id = json!({"id": "cd"});
    let medium = |node: &str| json!({"id": "cd", "node-name": node});

    t.section("empty");
    inserted(t, &mut vm).await?;
    vm.qmp_fails("blockdev-insert-medium", medium("nowhere")).await?;
    vm.qmp_fails("blockdev-insert-medium", medium("one")).await?;
    vm.qmp("blockdev-open-tray", id.clone()).await?;
    vm.qmp("blockdev-insert-medium", medium("one")).await?;
    vm.qmp_fails("blockdev-insert-medium", medium("two")).await?;
    vm.qmp("blockdev-close-tray", id.clone()).await?;
    inserted(t, &mut vm).await?;
    vm.qmp_fails("blockdev-del", json!({"node-name": "one"})).await?;

    t.section("another medium");
    vm.qmp_fails("blockdev-remove-medium", id.clone()).await?;
    vm.qmp("blockdev-open-tray", id.clone()).await?;
    vm.qmp("blockdev-remove-medium", id.clone()).await?;
    inserted(t, &mut vm).await?;
    vm.qmp("blockdev-del", json!({"node-name": "one"})).await?;
    vm.qmp("blockdev-insert-medium", medium("two")).await?;
    vm.qmp("blockdev-close-tray", id.clone()).await?;
    inserted(t, &mut vm).await?;

    t.section("ejected");
    vm.qmp("eject", id).await?;
    inserted(t, &mut vm).await?;
    vm.quit().await
}

/// Logs what is in the drive, and the state of its tray.
async fn inserted(t: &Test, vm: &mut Daemon) -> Result<()> {
    let drives = vm.run("query-block", json!({})).await?;
    let drive = drives.as_array().and_then(|d| d.iter().find(|d| d["qdev"] == "cd"));
    let drive = drive.context("there is no drive")?;
    let node = drive["inserted"]["node-name"].as_str().unwrap_or("nothing");
    let size = &drive["inserted"]["image"]["virtual-size"];
    t.log(format!("in the drive: {node}, {size} bytes, tray open: {}", drive["tray_open"]));
    Ok(())
}
