//! A guest trims its file systems and discards disks: the images get smaller and what is
//! still in use stays.
//!
//! group: rw machine guest
//! supported_fmt: generic
//! unsupported_fmt: luks parallels
//! supported_proto: file
//! unsupported_imgopts: data_file
//! needs: guest discard sparse device:nvme device:virtio-scsi-pci
//! timeout: 900

use std::os::unix::fs::MetadataExt as _;

use iotests::prelude::*;

/// The space that an image's file takes, in bytes.
fn space(img: &Image) -> Result<u64> {
    Ok(std::fs::metadata(img.file())?.blocks() * 512)
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let (boot, disks) = t.linux().disk_on_each_bus(t, |_| json!({"discard": "unmap"})).await?;
    let mut guest = boot.boot().await?;
    let mut hashes = Vec::new();
    for (img, id) in &disks {
        t.section(id);
        guest.make_file_system(id).await?;
        guest.run("dd if=/dev/urandom of=/mnt/kept bs=64k count=16 2>/dev/null").await?;
        guest.run("dd if=/dev/urandom of=/mnt/removed bs=64k count=256 2>/dev/null; sync").await?;
        let kept = guest.hash("/mnt/kept").await?;
        let full = space(img)?;
        guest.run("rm /mnt/removed; sync; fstrim /mnt").await?;
        let trimmed = space(img)?;
        ensure!(trimmed + 12 * MIB < full, "{full} bytes before fstrim, {trimmed} after");
        ensure!(guest.hash("/mnt/kept").await? == kept, "the file has changed on {id}");
        guest.unmount(id).await?;
        t.log("fstrim made the image smaller, and the file is the same");
        hashes.push(guest.hash(&format!("/dev/{id}")).await?);
    }
    t.section("whole disks");
    for (img, id) in &disks[..2] {
        let before = space(img)?;
        guest.run(format!("/sbin/blkdiscard -f /dev/{id}")).await?;
        let after = space(img)?;
        ensure!(after + MIB < before, "{before} bytes before blkdiscard, {after} after");
        t.log("the image is smaller");
    }
    guest.shut_down().await?;
    t.section("the images");
    for (n, (img, _)) in disks.iter().enumerate() {
        t.check(img).await?;
        if n >= 2 {
            t.has_hash(img, &hashes[n]).await?;
        }
    }
    Ok(())
}
