//! The snapshot table.

use super::Builder;
use crate::qcow2::records::SNAPSHOT_FIXED;
use crate::qcow2::write::spec::Snapshot;

impl Builder<'_> {
    pub(super) fn snapshot_table_len(&self) -> u64 {
        self.spec
            .snapshots
            .iter()
            .map(|snapshot| snapshot_entry(snapshot, 0, 0, 0).len() as u64)
            .sum()
    }

    pub(super) fn write_snapshots(&mut self, part: usize) -> u64 {
        let start = self.at(part);
        let mut table = Vec::new();
        for (snapshot, disk) in self.spec.snapshots.iter().zip(&self.disks[1..]) {
            let size = snapshot.disk_size.unwrap_or(self.spec.virtual_size);
            table.extend(snapshot_entry(
                snapshot,
                self.at(disk.l1_part),
                disk.l1_size as u32,
                size,
            ));
        }
        self.store.write(start, &table);
        start
    }
}

/// Bytes of an entry of the snapshot table.
fn snapshot_entry(snapshot: &Snapshot, l1: u64, l1_size: u32, disk_size: u64) -> Vec<u8> {
    let state = snapshot.vm_state.len() as u64;
    let mut extra = [state.to_be_bytes(), disk_size.to_be_bytes()].concat();
    if let Some(icount) = snapshot.icount {
        extra.extend(icount.to_be_bytes());
        extra.extend(&snapshot.extra);
    }
    let mut entry = Vec::with_capacity(SNAPSHOT_FIXED as usize + extra.len());
    entry.extend(l1.to_be_bytes());
    entry.extend(l1_size.to_be_bytes());
    entry.extend((snapshot.id.len() as u16).to_be_bytes());
    entry.extend((snapshot.name.len() as u16).to_be_bytes());
    entry.extend(snapshot.date_sec.to_be_bytes());
    entry.extend(snapshot.date_nsec.to_be_bytes());
    entry.extend(snapshot.vm_clock_nsec.to_be_bytes());
    entry.extend(u32::try_from(state).unwrap_or(0).to_be_bytes());
    entry.extend((extra.len() as u32).to_be_bytes());
    entry.extend(extra);
    entry.extend(snapshot.id.as_bytes());
    entry.extend(snapshot.name.as_bytes());
    entry.resize(entry.len().next_multiple_of(8), 0);
    entry
}
