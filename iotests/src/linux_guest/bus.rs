//! The buses that disks of a guest are on.

use serde_json::{Value, json};

use crate::image::extend;

/// How the guest reaches a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk, a disk that is a PCI device.
    VirtioBlk,
    /// NVMe, a disk that is a PCI device.
    Nvme,
    /// SCSI behind virtio-scsi.
    VirtioScsi,
    /// SATA behind AHCI.
    Ahci,
}

/// How many slots for PCI devices there are to plug into.
const SLOTS: usize = 3;

impl Bus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::VirtioBlk, Self::Nvme, Self::VirtioScsi, Self::Ahci];

    /// Its name in a golden.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::VirtioBlk => "virtio-blk",
            Self::Nvme => "nvme",
            Self::VirtioScsi => "virtio-scsi",
            Self::Ahci => "ahci",
        }
    }

    /// The device for node `id`, with the same id and serial number, and more properties.
    #[must_use]
    pub fn device(self, id: &str, properties: &Value) -> Value {
        let mut device = match self {
            Self::VirtioBlk => json!({"driver": "virtio-blk-pci"}),
            Self::Nvme => json!({"driver": "nvme"}),
            Self::VirtioScsi => json!({"driver": "scsi-hd", "bus": "scsi.0"}),
            Self::Ahci => json!({"driver": "ide-hd"}),
        };
        extend(&mut device, &json!({"id": id, "drive": id, "serial": id}));
        extend(&mut device, properties);
        device
    }
}

/// Options for what disks are connected to: a SCSI controller, and slots `slot0` and so on
/// for PCI devices. The machine itself has AHCI.
pub(super) fn controllers() -> Vec<String> {
    let mut options = vec!["-device".to_owned(), "virtio-scsi-pci,id=scsi".to_owned()];
    for n in 0..SLOTS {
        let port = format!("pcie-root-port,id=slot{n},chassis={}", n + 1);
        options.extend(["-device".to_owned(), port]);
    }
    options
}

/// A command for the guest that waits for the disk with this serial number, and links
/// `/dev/ID` and `/ID` to it. The kernel shows the number in another file for each bus.
pub(super) fn find(id: &str) -> String {
    format!(
        "disk=; until [ -b \"/dev/$disk\" ] && [ -n \"$disk\" ]; do \
         for file in /sys/block/*/serial /sys/block/*/device/serial /sys/block/*/device/vpd_pg80; \
         do [ -e \"$file\" ] && grep -aqw {id} \"$file\" && disk=${{file#/sys/block/}} && \
         disk=${{disk%%/*}}; done; [ -n \"$disk\" ] || usleep 20000; done; \
         ln -sfn \"/dev/$disk\" /dev/{id} && ln -sfn \"/sys/block/$disk\" /{id}"
    )
}
