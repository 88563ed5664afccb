//! Whatever the cache mode, the guest sees the cache that there is, and what it made durable
//! is there after the emulator was killed.
//!
//! group: rw machine guest
//! supported_fmt: generic
//! supported_proto: file
//! supported_cache: writeback
//! needs: guest device:nvme device:virtio-scsi-pci
//! timeout: 900

use iotests::prelude::*;

const RECORDS: u64 = 12;

pub(crate) async fn run(t: &Test) -> Result<()> {
    // What the node does, and whether the device has a cache: the modes of -drive.
    let modes = [
        ("writeback", json!({}), "on", Bus::VirtioBlk),
        ("writethrough", json!({}), "off", Bus::VirtioScsi),
        ("unsafe", json!({"no-flush": true}), "on", Bus::Ahci),
        ("none", json!({"direct": true}), "on", Bus::VirtioBlk),
        ("directsync", json!({"direct": true}), "off", Bus::VirtioScsi),
    ];
    let mut boot = t.linux();
    let mut images = Vec::new();
    for (mode, cache, device, bus) in &modes {
        let img = t.image(mode).size("32M").await?;
        t.clear(&img).await?;
        let node = if *cache == json!({}) { json!({}) } else { json!({"cache": cache}) };
        boot = boot.disk_with(&img, mode, *bus, &node, &json!({"write-cache": device}));
        images.push(img);
    }
    let mut guest = boot.boot().await?;
    let mut sequences = Vec::new();
    for (n, (mode, ..)) in modes.iter().enumerate() {
        t.section(mode);
        guest.run(format!("cat /{mode}/queue/write_cache")).await?;
        let mut sequence = Sequence::default();
        sequence.start(&mut guest, &format!("/dev/{mode}")).await?;
        sequence.advance(&mut guest, RECORDS).await?;
        // The last one is killed at work.
        if n + 1 < modes.len() {
            sequence.stop(&mut guest).await?;
        }
        sequences.push(sequence);
    }
    let events = guest.kill().await?;
    sequences.last_mut().context("no mode")?.catch_up(&events)?;
    for ((img, sequence), (mode, ..)) in images.iter().zip(&sequences).zip(&modes) {
        t.settle(img).await?;
        sequence.is_on(t, img).await.with_context(|| format!("cache mode {mode}"))?;
        t.log(format!("{mode}: all durable records are there"));
    }
    Ok(())
}
