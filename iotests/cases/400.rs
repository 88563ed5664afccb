//! A guest makes a file system on a disk of each bus, fills and checks it, and its image
//! holds what the guest read, from first to last byte.
//!
//! group: rw machine guest
//! supported_fmt: generic
//! unsupported_fmt: qed
//! supported_proto: file
//! needs: guest device:nvme device:virtio-scsi-pci
//! timeout: 900

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let (boot, disks) = t.linux().disk_on_each_bus(t, |_| json!({})).await?;
    let mut guest = boot.boot().await?;
    let mut hashes = Vec::new();
    for (_, id) in &disks {
        t.section(id);
        guest.make_file_system(id).await?;
        guest.run("seq 200000 >/mnt/numbers; dd if=/dev/urandom of=/mnt/noise bs=1k count=3000 2>/dev/null").await?;
        guest.run("mkdir /mnt/many; for n in $(seq 200); do echo $n >/mnt/many/$n; done").await?;
        let noise = guest.hash("/mnt/noise").await?;
        guest.run("mv /mnt/many /mnt/more; rm /mnt/more/1*; ls /mnt/more | wc -l").await?;
        guest.unmount(id).await?;
        guest.mount(id).await?;
        guest.run("sha256sum </mnt/numbers").await?;
        ensure!(guest.hash("/mnt/noise").await? == noise, "the file has changed on {id}");
        guest.unmount(id).await?;
        hashes.push(guest.hash(&format!("/dev/{id}")).await?);
    }
    guest.shut_down().await?;
    t.have_hashes(&disks, &hashes).await
}
