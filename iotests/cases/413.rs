//! A guest writes zeroes over data, in whole clusters and in parts of them, and reads zeroes
//! there and the data beside.
//!
//! group: rw machine guest zero
//! supported_fmt: generic
//! unsupported_fmt: qed parallels
//! supported_proto: file
//! needs: guest device:nvme device:virtio-scsi-pci
//! timeout: 900

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let node = |bus| match bus {
        Bus::VirtioBlk | Bus::VirtioScsi => json!({"discard": "unmap"}),
        Bus::Nvme | Bus::Ahci => json!({}),
    };
    let (boot, disks) = t.linux().disk_on_each_bus(t, node).await?;
    let mut guest = boot.boot().await?;
    let mut hashes = Vec::new();
    for (_, id) in &disks {
        t.section(id);
        guest
            .run(format!("yes data | dd of=/dev/{id} bs=64k count=256 iflag=fullblock 2>/dev/null"))
            .await?;
        for (offset, length) in [
            (0, MIB),
            (2 * MIB + 4096, 4096),
            (3 * MIB + 512, 200 * KIB),
            (5 * MIB, 4 * MIB),
            (15 * MIB, MIB),
        ] {
            guest.run(format!("/sbin/blkdiscard -f -z -o {offset} -l {length} /dev/{id}")).await?;
        }
        guest.run(format!("sync; echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/{id} bs=64k count=256 2>/dev/null | sha256sum")).await?;
        hashes.push(guest.hash(&format!("/dev/{id}")).await?);
    }
    guest.shut_down().await?;
    t.have_hashes(&disks, &hashes).await
}
