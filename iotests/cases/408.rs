//! A guest that writes migrates to another emulator together with its disk, which is mirrored
//! over NBD, and loses nothing.
//!
//! group: rw machine guest migration mirror nbd jobs
//! supported_fmt: raw qcow2 qed luks
//! supported_proto: file
//! unsupported_imgopts: data_file
//! needs: guest device:virtio-scsi-pci
//! timeout: 900

use iotests::prelude::*;

const RECORDS: u64 = 15;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let here = t.image("here").size("32M").await?;
    t.clear(&here).await?;
    let there = t.image("there").size("32M").await?;
    let mut guest = t.linux().disk(&here, "disk0", Bus::VirtioScsi).boot().await?;
    let mut other = t.linux().disk(&there, "disk0", Bus::VirtioScsi).incoming().await?;
    let mut sequence = Sequence::default();
    sequence.start(&mut guest, "/dev/disk0").await?;
    sequence.advance(&mut guest, RECORDS).await?;

    t.section("the disk");
    let url = other.vm.export_nbd("disk0").await?;
    let socket = t.env().sock_dir.join(url.rsplit('/').next().unwrap_or_default());
    let remote = json!({"driver": "nbd", "node-name": "remote", "export": "disk0",
        "server": {"type": "unix", "path": socket}});
    guest.vm.run("blockdev-add", remote).await?;
    let job = json!({"device": "disk0", "target": "remote", "sync": "full"});
    let job = guest.vm.start_job("blockdev-mirror", job).await?;
    guest.vm.await_state(&job, "ready").await?;
    sequence.advance(&mut guest, RECORDS).await?;

    t.section("the guest");
    guest.migrate_to(&mut other, Some(&job)).await?;
    guest.vm.run("blockdev-del", json!({"node-name": "remote"})).await?;
    other.vm.unexport("nbd-disk0").await?;
    sequence.catch_up(&guest.leave().await?)?;
    other.go_on().await?;
    sequence.advance(&mut other, RECORDS).await?;
    sequence.stop(&mut other).await?;
    let hash = other.hash("/dev/disk0").await?;
    other.shut_down().await?;
    let last = sequence.is_on(t, &there).await?;
    ensure!(last == sequence.synced, "{last} records, and {} were written", sequence.synced);
    t.has_hash(&there, &hash).await?;
    t.check(&here).await?;
    t.check(&there).await
}
