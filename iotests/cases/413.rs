//! A guest writes zeroes over data, in whole clusters and in parts of them, and reads zeroes
//! there and the data beside.
//!
//! group: rw machine guest zero
//! supported_fmt: generic
//! unsupported_fmt: qed
//! supported_proto: file
//! needs: guest device:nvme device:virtio-scsi-pci
//! timeout: 900

use iotests::prelude::*;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut boot = t.linux();
    let mut disks = Vec::new();
    for (n, bus) in Bus::ALL.into_iter().enumerate() {
        let id = bus.name().replace('-', "");
        let img = t.image(&id).size("32M").await?;
        let node = if n % 2 == 0 { json!({"discard": "unmap"}) } else { json!({}) };
        boot = boot.disk_with(&img, &id, bus, &node, &json!({}));
        disks.push((img, id));
    }
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
    t.section("the images");
    for ((img, _), hash) in disks.iter().zip(&hashes) {
        t.check(img).await?;
        t.has_hash(img, hash).await?;
    }
    Ok(())
}
