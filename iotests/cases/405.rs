//! External snapshots of a disk that a guest writes to are what was there at one moment,
//! and committing them while it goes on writing loses nothing.
//!
//! group: rw machine guest snapshot commit backing jobs
//! supported_fmt: qcow2 qed
//! supported_proto: file
//! unsupported_imgopts: data_file
//! needs: guest
//! timeout: 900

use iotests::prelude::*;

const RECORDS: u64 = 15;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let base = t.image("base").size("32M").await?;
    let first = t.image("first").backing(&base).await?;
    let second = t.image("second").backing(&first).await?;
    let mut guest = t.linux().disk(&base, "disk0", Bus::VirtioBlk).boot().await?;
    let mut sequence = Sequence::default();
    sequence.start(&mut guest, "/dev/disk0").await?;

    t.section("snapshots");
    let mut node = "disk0";
    let mut before = Vec::new();
    for (img, overlay) in [(&first, "first"), (&second, "second")] {
        sequence.advance(&mut guest, RECORDS).await?;
        before.push(sequence.clone());
        guest.vm.add_with(img, overlay, json!({"backing": null})).await?;
        guest.vm.qmp("blockdev-snapshot", json!({"node": node, "overlay": overlay})).await?;
        node = overlay;
    }
    sequence.advance(&mut guest, RECORDS).await?;
    for (n, img) in [&base, &first].into_iter().enumerate() {
        let last = before[n].is_in(&t.disk_bytes(img, &["-U"]).await?)?;
        ensure!(last < sequence.synced, "{img} has record {last} already");
        t.log(format!("{img} has all records up to one"));
    }

    t.section("commits");
    guest
        .vm
        .job("block-commit", json!({"device": "second", "top-node": "first", "base-node": "disk0"}))
        .await?;
    sequence.advance(&mut guest, RECORDS).await?;
    guest.vm.job("block-commit", json!({"device": "second"})).await?;
    sequence.advance(&mut guest, RECORDS).await?;
    sequence.stop(&mut guest).await?;
    let hash = guest.hash("/dev/disk0").await?;
    guest.shut_down().await?;
    let last = sequence.is_on(t, &base).await?;
    ensure!(last == sequence.synced, "{last} records, and {} were written", sequence.synced);
    t.has_hash(&base, &hash).await?;
    t.check(&base).await
}
