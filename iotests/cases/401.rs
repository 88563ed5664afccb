//! The emulator is killed while its guest writes: what the guest made durable is there, on
//! a disk and in a file system, which is clean after its journal was replayed.
//!
//! group: rw machine guest
//! supported_fmt: generic
//! supported_proto: file
//! needs: guest device:nvme device:virtio-scsi-pci
//! timeout: 900

use iotests::prelude::*;

const RECORDS: u64 = 40;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let plain = t.image("plain").size("32M").await?;
    t.clear(&plain).await?;
    let files = t.image("files").size("32M").await?;
    let boot = |first, second| t.linux().disk(&plain, "plain", first).disk(&files, "files", second);

    t.section("a disk");
    let mut guest = boot(Bus::VirtioBlk, Bus::Nvme).boot().await?;
    let mut on_disk = Sequence::default();
    on_disk.start(&mut guest, "/dev/plain").await?;
    on_disk.advance(&mut guest, RECORDS).await?;
    on_disk.catch_up(&guest.kill().await?)?;
    t.settle(&plain).await?;
    t.settle(&files).await?;

    t.section("a file system");
    let mut guest = boot(Bus::Nvme, Bus::VirtioScsi).boot().await?;
    guest.make_file_system("files").await?;
    guest.run("dd if=/dev/zero of=/mnt/records bs=1M count=8 2>/dev/null; sync").await?;
    let mut in_file = Sequence::default();
    in_file.start(&mut guest, "/mnt/records").await?;
    in_file.advance(&mut guest, RECORDS).await?;
    in_file.catch_up(&guest.kill().await?)?;
    on_disk.is_on(t, &plain).await?;
    t.log("all durable records are on the disk");
    t.settle(&plain).await?;
    t.settle(&files).await?;

    t.section("afterwards");
    let mut guest = boot(Bus::Ahci, Bus::VirtioBlk).boot().await?;
    guest.mount("files").await?;
    guest.run("dd if=/mnt/records of=/dev/plain bs=1M 2>/dev/null; sync").await?;
    guest.unmount("files").await?;
    guest.shut_down().await?;
    in_file.is_on(t, &plain).await?;
    t.log("all durable records are in the file");
    t.settle(&plain).await?;
    t.settle(&files).await
}
