//! Properties and abilities of QEMU's devices, by the names of the nodes on a path.

use qtest::graph::Path;

/// Whether a node on the path has one of these names, or begins or ends with one that has a `*`
/// there.
fn any(path: &Path, names: &[&str]) -> bool {
    path.nodes.iter().any(|node| {
        names.iter().any(
            |name| match (name.strip_suffix('*'), name.strip_prefix('*')) {
                (Some(start), _) => node.name.starts_with(start),
                (_, Some(end)) => node.name.ends_with(end),
                _ => node.name == *name,
            },
        )
    })
}

/// Whether the disk is a virtio device, or on the bus of one.
#[must_use]
pub fn virtio(path: &Path) -> bool {
    any(path, &["virtio-blk*", "virtio-scsi*"])
}

/// Whether the device that has the image takes `werror` and `rerror`.
#[must_use]
pub fn error_policy(path: &Path) -> bool {
    any(path, &["virtio-blk*", "*-hd", "ide-hd*", "usb-storage"])
}

/// Whether the machine can stop at an error. With AHCI its emulator ends by a failed assertion
/// instead: `known-limits.md`.
#[must_use]
pub fn stops_at_errors(path: &Path) -> bool {
    error_policy(path) && !any(path, &["ide-hd-sata"])
}

/// Whether requests that fail are reported to the guest. SD cards report no write, floppy disks no
/// read: `known-limits.md`.
#[must_use]
pub fn reports_errors(path: &Path) -> bool {
    !any(path, &["sd-card", "floppy*"])
}

/// Whether a write with FUA ends when it is on the medium. NVMe and the queued commands of AHCI
/// ignore it: `known-limits.md`.
#[must_use]
pub fn forces_access(path: &Path) -> bool {
    !any(path, &["nvme*", "ide-hd-sata"])
}

/// Whether the disk ends where its image does. QEMU's floppy disks have a cylinder more:
/// `known-limits.md`.
#[must_use]
pub fn ends(path: &Path) -> bool {
    !any(path, &["floppy*"])
}

/// Whether a reset gives up the requests that are on their way. Megasas, ATA disks and USB disks wait
/// for each, and the emulator with them (`known-limits.md`); UFS goes on with them.
#[must_use]
pub fn drops_requests(path: &Path) -> bool {
    !any(path, &["megasas*", "ide*", "usb*", "ufs*"])
}

/// A few paths, of buses whose requests differ, for tests that take long on each.
#[must_use]
pub fn one_of_each_bus(path: &Path) -> bool {
    any(path, &["q35"])
        && any(
            path,
            &["virtio-blk-pci", "virtio-scsi-pci", "nvme", "ich9-sata"],
        )
        && !any(path, &["pcie-root-port"])
}

/// Whether the disk can become larger and smaller while the machine runs.
#[must_use]
pub fn resizing(path: &Path) -> bool {
    path.resizes() && !any(path, &["nvme*"])
}

/// Whether the machine can be migrated and saved with the device.
#[must_use]
pub fn migration(path: &Path) -> bool {
    !any(path, &["nvme*", "usb-uas*", "ufs*"])
}

/// Whether the device takes an image that is read-only.
#[must_use]
pub fn read_only(path: &Path) -> bool {
    any(path, &["virtio-blk*", "*-hd"]) && !any(path, &["ide*"])
}

/// Whether the device takes blocks of another size than 512 bytes.
#[must_use]
pub fn block_size(path: &Path) -> bool {
    any(path, &["virtio-blk*", "*-hd"]) && !any(path, &["ide*"])
}

/// Whether each request is counted once in the statistics of the disk.
#[must_use]
pub fn statistics(path: &Path) -> bool {
    any(path, &["virtio-blk*", "*-hd", "nvme*"]) && !any(path, &["ide*"])
}

/// Whether the device's own limits can be set: the id is that of the device with the image.
#[must_use]
pub fn limits(path: &Path) -> bool {
    any(path, &["virtio-blk*", "*-hd", "ide-hd*"])
}

/// Whether the device takes the properties that all disks of its kind have: `share-rw`,
/// `write-cache`.
#[must_use]
pub fn block_properties(path: &Path) -> bool {
    any(path, &["virtio-blk*", "*-hd", "ide-hd*", "nvme"])
}

/// Whether the disk can be unplugged at once, without the guest's consent: on SCSI and USB.
#[must_use]
pub fn plain_unplug(path: &Path) -> bool {
    path.hotplug() && any(path, &["*-hd", "usb-storage"])
}

/// Whether requests can be kept on their way while the processor goes on. Those of SD cards and
/// floppy disks are done within an access to a register, and the emulator waits for them; ATA disks
/// write in parts, each of which waits for the processor.
#[must_use]
pub fn asynchronous(path: &Path) -> bool {
    !any(path, &["sd-card", "floppy*", "ide*"])
}
