//! Internal snapshots of a disk that a guest writes to are what was there at one moment,
//! whatever is written and deleted after them.
//!
//! group: rw machine guest snapshot qcow2
//! supported_fmt: qcow2
//! supported_proto: file
//! unsupported_imgopts: data_file
//! needs: guest snapshots
//! timeout: 900

use iotests::prelude::*;

const RECORDS: u64 = 15;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let img = t.create("32M").await?;
    let mut guest = t.linux().disk(&img, "disk0", Bus::VirtioScsi).boot().await?;
    let mut sequence = Sequence::default();
    sequence.start(&mut guest, "/dev/disk0").await?;
    let mut at = Vec::new();
    for name in ["a", "b", "c", "d"] {
        sequence.advance(&mut guest, RECORDS).await?;
        let snapshot = json!({"device": "disk0", "name": name});
        guest.vm.qmp("blockdev-snapshot-internal-sync", snapshot).await?;
        at.push((name, sequence.clone()));
    }
    guest
        .vm
        .qmp("blockdev-snapshot-delete-internal-sync", json!({"device": "disk0", "name": "b"}))
        .await?;
    sequence.advance(&mut guest, RECORDS).await?;
    sequence.stop(&mut guest).await?;
    let hash = guest.hash("/dev/disk0").await?;
    guest.shut_down().await?;

    t.section("what they hold");
    let mut earlier = 0;
    for (name, before) in at.iter().filter(|(name, _)| *name != "b") {
        let last = before.is_in(&t.disk_bytes(&img, &["-l", name]).await?)?;
        ensure!(earlier < last && last < sequence.synced, "snapshot {name} has record {last}");
        earlier = last;
        t.log(format!("snapshot {name} has all records up to one"));
    }
    t.has_hash(&img, &hash).await?;
    t.check(&img).await
}
