//! A write below the format fails: with werror=stop the machine stops, and the guest sees
//! nothing once it was made to go on; with werror=report the guest sees the error.
//!
//! group: rw machine guest blkdebug
//! supported_fmt: generic
//! supported_proto: file
//! unsupported_imgopts: data_file
//! needs: guest driver:blkdebug device:virtio-scsi-pci
//! timeout: 900

use iotests::prelude::*;

const BUSES: [(Bus, &str); 4] = [
    (Bus::VirtioBlk, "stop"),
    (Bus::VirtioScsi, "stop"),
    (Bus::Ahci, "stop"),
    (Bus::VirtioBlk, "report"),
];

/// Below the format, a write fails after the third flush, once.
fn failing(img: &Image) -> Result<Value> {
    let mut below = img.protocol_node("unused");
    below.as_object_mut().context("a node")?.remove("node-name");
    let states = [(1, 2), (2, 3), (3, 4)]
        .map(|(from, to)| json!({"event": "flush_to_disk", "state": from, "new_state": to}));
    let error =
        json!({"event": "flush_to_disk", "state": 4, "iotype": "write", "errno": 5, "once": true});
    Ok(
        json!({"file": {"driver": "blkdebug", "image": below, "set-state": states, "inject-error": [error]}}),
    )
}

/// Whether the kernel has reported an error of a disk since its messages were cleared.
async fn reported(guest: &mut LinuxGuest) -> Result<bool> {
    let (status, _) = guest.status_of("dmesg | grep -qi error").await?;
    Ok(status == 0)
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let mut boot = t.linux();
    let mut images = Vec::new();
    for (n, (bus, policy)) in BUSES.into_iter().enumerate() {
        let id = format!("disk{n}");
        let img = t.image(&id).size("32M").await?;
        let device = json!({"werror": policy});
        boot = boot.disk_with(&img, &id, bus, &failing(&img)?, &device);
        images.push((img, id));
    }
    let mut guest = boot.boot().await?;
    let mut hashes = Vec::new();
    for (_, id) in &images[..3] {
        t.section(id);
        guest.quiet("dmesg -c >/dev/null").await?;
        // How many flushes there are before depends on the format.
        let make = format!(
            "/sbin/mke2fs -q -t ext4 -E nodiscard /dev/{id} && mount -t ext4 /dev/{id} /mnt"
        );
        let write =
            "seq 100000 >/mnt/numbers && for n in 1 2 3 4 5 6; do echo $n >/mnt/$n; sync; done";
        guest.quiet(format!("({make} && {write}; echo \"! wrote $?\" >&3) 2>&1 &")).await?;
        let error = guest.vm.event("BLOCK_IO_ERROR").await?;
        t.log(format!("{}, {}", error["data"]["operation"], error["data"]["action"]));
        guest.vm.event("STOP").await?;
        guest.go_on().await?;
        guest.event(|e| e == "wrote 0").await?;
        t.log(format!("the guest sees an error: {}", reported(&mut guest).await?));
        guest.run("sha256sum </mnt/numbers").await?;
        guest.unmount(id).await?;
        hashes.push(guest.hash(&format!("/dev/{id}")).await?);
    }
    t.section("disk3");
    let write = "dd if=/dev/zero of=/dev/disk3 bs=4k count=1 conv=fsync seek=$n 2>/dev/null";
    guest.run(format!("for n in 1 2 3 4 5 6 7 8; do {write} || echo failed; done")).await?;
    guest.shut_down().await?;
    for ((img, _), hash) in images.iter().zip(&hashes) {
        t.has_hash(img, hash).await?;
        t.check(img).await?;
    }
    Ok(())
}
