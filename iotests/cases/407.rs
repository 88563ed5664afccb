//! While a guest writes, its disk is backed up, which gives what was there at the start, and
//! moved to another image, which loses nothing.
//!
//! group: rw machine guest backup mirror jobs
//! supported_fmt: generic
//! supported_proto: file
//! unsupported_imgopts: data_file
//! needs: guest device:nvme
//! timeout: 900

use iotests::prelude::*;

const RECORDS: u64 = 15;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("32M").await?;
    t.clear(&img).await?;
    let backup = t.image("backup").size("32M").await?;
    let moved = t.image("moved").size("32M").await?;
    let mut guest = t.linux().disk(&img, "disk0", Bus::Nvme).boot().await?;
    let mut sequence = Sequence::default();
    sequence.start(&mut guest, "/dev/disk0").await?;
    sequence.advance(&mut guest, RECORDS).await?;

    t.section("backup");
    guest.vm.add(&backup, "backup").await?;
    let before = sequence.clone();
    let job = json!({"device": "disk0", "target": "backup", "sync": "full"});
    let job = guest.vm.start_job("blockdev-backup", job).await?;
    // Some of it is copied because the guest writes there.
    sequence.advance(&mut guest, RECORDS).await?;
    guest.vm.conclude(&job, AtReady::Complete).await?;
    let after = sequence.synced;
    guest.vm.run("blockdev-del", json!({"node-name": "backup"})).await?;
    let last = before.is_on(t, &backup).await?;
    ensure!(last <= after, "record {last} was written after the backup ended");
    t.log("the backup has all records up to one");
    t.check(&backup).await?;

    t.section("mirror");
    guest.vm.add(&moved, "moved").await?;
    let job = json!({"device": "disk0", "target": "moved", "sync": "full"});
    let job = guest.vm.start_job("blockdev-mirror", job).await?;
    sequence.advance(&mut guest, RECORDS).await?;
    guest.vm.conclude(&job, AtReady::Complete).await?;
    let left = sequence.clone();
    guest.vm.run("blockdev-del", json!({"node-name": "disk0"})).await?;
    let last = left.is_on(t, &img).await;
    sequence.advance(&mut guest, RECORDS).await?;
    sequence.stop(&mut guest).await?;
    ensure!(last? < sequence.synced, "the old image is written to");
    t.log("the old image has all records up to one");
    let hash = guest.hash("/dev/disk0").await?;
    guest.shut_down().await?;
    t.has_hash(&moved, &hash).await?;
    let last = sequence.is_on(t, &moved).await?;
    ensure!(last == sequence.synced, "{last} records, and {} were written", sequence.synced);
    t.check(&img).await?;
    t.check(&moved).await
}
