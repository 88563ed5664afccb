//! Disks are plugged in, used and unplugged under a guest that goes on writing to another
//! one, on each bus that can.
//!
//! group: rw machine guest
//! supported_fmt: generic
//! unsupported_fmt: qed
//! supported_proto: file
//! needs: guest device:nvme device:virtio-scsi-pci
//! timeout: 900

use iotests::prelude::*;

const RECORDS: u64 = 10;

pub(crate) async fn run(t: &Test) -> Result<()> {
    let stays = t.image("stays").size("32M").await?;
    t.clear(&stays).await?;
    let plugged = t.image("plugged").size("32M").await?;
    let mut guest = t.linux().disk(&stays, "stays", Bus::VirtioBlk).boot().await?;
    let mut sequence = Sequence::default();
    for (bus, slot) in
        [(Bus::VirtioBlk, "slot0"), (Bus::Nvme, "slot1"), (Bus::VirtioScsi, "scsi.0")]
    {
        t.section(bus.name());
        let id = bus.name().replace('-', "");
        guest.quiet("rm -f /tmp/stop").await?;
        sequence.start(&mut guest, "/dev/stays").await?;
        guest.vm.add(&plugged, &id).await?;
        guest.vm.qmp("device_add", bus.device(&id, &json!({"bus": slot}))).await?;
        sequence.advance(&mut guest, RECORDS).await?;
        sequence.stop(&mut guest).await?;
        guest.await_disk(&id).await?;
        guest.make_file_system(&id).await?;
        guest.run("seq 100000 >/mnt/numbers; sha256sum </mnt/numbers").await?;
        guest.unmount(&id).await?;
        let hash = guest.hash(&format!("/dev/{id}")).await?;
        sequence.start(&mut guest, "/dev/stays").await?;
        guest.vm.qmp("device_del", json!({"id": id})).await?;
        guest.vm.event_where("DEVICE_DELETED", |d| d["device"] == id.as_str()).await?;
        sequence.advance(&mut guest, RECORDS).await?;
        sequence.stop(&mut guest).await?;
        guest.await_gone(&id).await?;
        guest.vm.run("blockdev-del", json!({"node-name": id})).await?;
        t.has_hash(&plugged, &hash).await?;
        t.check(&plugged).await?;
    }
    guest.shut_down().await?;
    let last = sequence.is_on(t, &stays).await?;
    ensure!(last == sequence.synced, "{last} records, and {} were written", sequence.synced);
    t.check(&stays).await
}
