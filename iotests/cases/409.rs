//! A guest that writes migrates to another emulator and back, on images that both have, and
//! loses nothing.
//!
//! group: rw machine guest migration
//! supported_fmt: raw qcow2 luks
//! supported_proto: file
//! needs: guest device:virtio-scsi-pci
//! timeout: 900

use iotests::prelude::*;

const RECORDS: u64 = 15;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let plain = t.image("plain").size("32M").await?;
    t.clear(&plain).await?;
    let files = t.image("files").size("32M").await?;
    let machine =
        || t.linux().disk(&plain, "plain", Bus::VirtioBlk).disk(&files, "files", Bus::VirtioScsi);
    let mut guest = machine().boot().await?;
    guest.make_file_system("files").await?;
    guest.run("seq 100000 >/mnt/numbers").await?;
    let mut sequence = Sequence::default();
    sequence.start(&mut guest, "/dev/plain").await?;
    for round in ["there", "back"] {
        t.section(round);
        sequence.advance(&mut guest, RECORDS).await?;
        let mut other = machine().incoming().await?;
        guest.migrate_to(&mut other, None).await?;
        sequence.catch_up(&guest.leave().await?)?;
        other.go_on().await?;
        guest = other;
        sequence.advance(&mut guest, RECORDS).await?;
        guest.run(format!("seq 100000 >/mnt/{round}; sync")).await?;
        guest.run(format!("cmp /mnt/numbers /mnt/{round} && rm /mnt/{round}")).await?;
    }
    sequence.stop(&mut guest).await?;
    guest.unmount("files").await?;
    let hash = guest.hash("/dev/files").await?;
    guest.shut_down().await?;
    let last = sequence.is_on(t, &plain).await?;
    ensure!(last == sequence.synced, "{last} records, and {} were written", sequence.synced);
    t.has_hash(&files, &hash).await?;
    t.check(&plain).await?;
    t.check(&files).await
}
