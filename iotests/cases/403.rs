//! Disks grow and shrink under a guest, which sees it and has its file system grow and
//! shrink with them.
//!
//! group: rw machine guest resize
//! supported_fmt: generic
//! supported_proto: file
//! unsupported_imgopts: data_file
//! needs: guest resize device:virtio-scsi-pci
//! timeout: 900

use iotests::prelude::*;

const SIZE: u64 = 32 * MIB;

/// Waits until the guest sees that a disk has this size. SCSI has to look again.
fn wait_for_size(id: &str, size: u64) -> String {
    let rescan = format!("[ ! -e /{id}/device/rescan ] || echo 1 >/{id}/device/rescan");
    let seen = format!("[ $(cat /{id}/size) = {} ]", size / 512);
    format!("until {seen}; do {rescan}; usleep 20000; done")
}

/// Changes the size of the file system, and logs how many blocks it has then.
async fn resize_file_system(t: &Test, guest: &mut LinuxGuest, id: &str, to: &str) -> Result<()> {
    guest.quiet(format!("/sbin/resize2fs /dev/{id} {to}")).await?;
    let blocks = format!("dd if=/dev/{id} bs=1k skip=1 count=1 2>/dev/null | od -An -tu4 -j4 -N4");
    let blocks = guest.quiet(blocks).await?;
    t.log(format!("resize2fs {id}: {} blocks", blocks.trim()));
    Ok(())
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let buses = [Bus::VirtioBlk, Bus::VirtioScsi];
    let mut boot = t.linux();
    let mut images = Vec::new();
    for (n, bus) in buses.into_iter().enumerate() {
        let id = format!("disk{n}");
        let img = t.image(&id).size(SIZE).await?;
        boot = boot.disk(&img, &id, bus);
        images.push((img, id));
    }
    let mut guest = boot.boot().await?;
    let mut hashes = Vec::new();
    for (_, id) in &images {
        t.section(format!("{id} grows"));
        guest.make_file_system(id).await?;
        guest.run("dd if=/dev/urandom of=/mnt/noise bs=64k count=64 2>/dev/null").await?;
        let noise = guest.hash("/mnt/noise").await?;
        guest.vm.qmp("block_resize", json!({"node-name": id, "size": 2 * SIZE})).await?;
        guest.quiet(wait_for_size(id, 2 * SIZE)).await?;
        resize_file_system(t, &mut guest, id, "").await?;
        guest
            .run("dd if=/dev/urandom of=/mnt/more bs=64k count=512 2>/dev/null; rm /mnt/more")
            .await?;
        guest.unmount(id).await?;
        if t.format() == "qed" {
            t.case_not_run("qed does not shrink")?;
        } else {
            guest.quiet(format!("/sbin/e2fsck -fp /dev/{id}")).await?;
            guest.quiet(format!("/sbin/resize2fs /dev/{id} 24M")).await?;
            let shrink = json!({"node-name": id, "size": 24 * MIB});
            guest.vm.run("block_resize", shrink).await?;
            guest.quiet(wait_for_size(id, 24 * MIB)).await?;
        }
        guest.mount(id).await?;
        ensure!(guest.hash("/mnt/noise").await? == noise, "the file has changed on {id}");
        guest.unmount(id).await?;
        hashes.push(guest.hash(&format!("/dev/{id}")).await?);
    }
    guest.shut_down().await?;
    for ((img, _), hash) in images.iter().zip(&hashes) {
        t.has_hash(img, hash).await?;
        t.check(img).await?;
    }
    Ok(())
}
