//! The table of nodes: a new machine, device or driver is a row here.

use crate::drivers;

use super::{ImageSize, Kind, Node};
use crate::block::Disk;
use crate::drivers::virtio;
use crate::error::Result;

const fn machine(name: &'static str, argument: &'static str, gives: Gives) -> Node {
    Node {
        name,
        kind: Kind::Machine(argument),
        needs: None,
        gives,
        hotplug: false,
        image_size: ImageSize::Any,
    }
}

const fn device(
    name: &'static str,
    needs: &'static str,
    argument: &'static str,
    gives: Gives,
) -> Node {
    Node {
        name,
        kind: Kind::Device(argument),
        needs: Some(needs),
        gives,
        hotplug: false,
        image_size: ImageSize::Any,
    }
}

/// A device that can be plugged in and unplugged.
const fn plugged(
    name: &'static str,
    needs: &'static str,
    argument: &'static str,
    gives: Gives,
) -> Node {
    let mut node = device(name, needs, argument, gives);
    node.hotplug = true;
    node
}

const fn global(
    name: &'static str,
    needs: &'static str,
    setting: &'static str,
    gives: Gives,
) -> Node {
    Node {
        name,
        kind: Kind::Global(setting),
        needs: Some(needs),
        gives,
        hotplug: false,
        image_size: ImageSize::Any,
    }
}

const fn built_in(name: &'static str, needs: &'static str, gives: Gives) -> Node {
    Node {
        name,
        kind: Kind::BuiltIn,
        needs: Some(needs),
        gives,
        hotplug: false,
        image_size: ImageSize::Any,
    }
}

const fn driver(name: &'static str, needs: &'static str, open: super::Open) -> Node {
    Node {
        name,
        kind: Kind::Driver(open),
        needs: Some(needs),
        gives: BLOCK,
        hotplug: false,
        image_size: ImageSize::Any,
    }
}

/// The disk that a driver has set up, as tests see it.
fn disk(disk: Result<impl Disk + 'static>) -> Result<Box<dyn Disk>> {
    disk.map(|disk| Box::new(disk) as Box<dyn Disk>)
}

type Gives = &'static [(&'static str, &'static str)];

/// What drivers give.
const BLOCK: Gives = &[("block", "")];

/// A disk on the bus of any host adapter. Each adapter has a row with it, since the driver is the
/// adapter's.
const SCSI_HD: &str = "scsi-hd,bus={bus},id={id},drive={drive}";

/// All of them.
pub(super) const NODES: &[Node] = &[
    machine(
        "pc",
        "pc",
        &[("pci", "pci.0"), ("pc-pci", "pci.0"), ("pc", "")],
    ),
    machine(
        "q35",
        "q35",
        &[("pci", "pcie.0"), ("pcie", "pcie.0"), ("q35", "")],
    ),
    machine("microvm", "microvm", &[("microvm", "")]),
    // Buses. A chassis has one slot of each number, so one of these is enough in a machine.
    device(
        "pcie-root-port",
        "pcie",
        "pcie-root-port,bus={bus},id={id}",
        &[("pci", "{id}")],
    ),
    device(
        "pci-bridge",
        "pc-pci",
        "pci-bridge,bus={bus},id={id},chassis_nr=1",
        &[("pci", "{id}")],
    ),
    global(
        "virtio-mmio-modern",
        "microvm",
        "virtio-mmio.force-legacy=off",
        &[("virtio-mmio", "")],
    ),
    built_in("virtio-mmio-legacy", "microvm", &[("virtio-mmio", "")]),
    // Virtio.
    plugged(
        "virtio-blk-pci",
        "pci",
        "virtio-blk-pci,bus={bus},id={id},drive={drive}",
        &[("virtio-blk", ""), ("virtio-blk-direct", "")],
    ),
    plugged(
        "virtio-blk-pci-transitional",
        "pci",
        "virtio-blk-pci-transitional,bus={bus},id={id},drive={drive}",
        &[("virtio-blk", ""), ("virtio-blk-legacy", "")],
    ),
    plugged(
        "virtio-blk-pci-non-transitional",
        "pci",
        "virtio-blk-pci-non-transitional,bus={bus},id={id},drive={drive}",
        &[("virtio-blk", "")],
    ),
    plugged(
        "virtio-blk-pci-packed",
        "pci",
        "virtio-blk-pci,bus={bus},id={id},drive={drive},packed=on,num-queues=4",
        &[("virtio-blk", ""), ("virtio-blk-direct", "")],
    ),
    device(
        "virtio-blk-device",
        "virtio-mmio",
        "virtio-blk-device,id={id},drive={drive}",
        &[("virtio-blk-mmio", "")],
    ),
    driver("virtio-blk", "virtio-blk", |guest| {
        disk(virtio::Blk::modern(guest))
    }),
    driver("virtio-blk-direct", "virtio-blk-direct", |guest| {
        disk(virtio::Blk::direct(guest))
    }),
    driver("virtio-blk-legacy", "virtio-blk-legacy", |guest| {
        disk(virtio::Blk::legacy(guest))
    }),
    driver("virtio-blk-mmio", "virtio-blk-mmio", |guest| {
        disk(virtio::Blk::mmio(guest))
    }),
    device(
        "virtio-scsi-pci",
        "pci",
        "virtio-scsi-pci,bus={bus},id={id},num_queues=2",
        &[("virtio-scsi-bus", "{id}.0")],
    ),
    device(
        "virtio-scsi-pci-packed",
        "pci",
        "virtio-scsi-pci,bus={bus},id={id},packed=on",
        &[("virtio-scsi-bus", "{id}.0")],
    ),
    device(
        "virtio-scsi-pci-transitional",
        "pci",
        "virtio-scsi-pci-transitional,bus={bus},id={id}",
        &[("virtio-scsi-legacy-bus", "{id}.0")],
    ),
    plugged(
        "virtio-scsi-hd",
        "virtio-scsi-bus",
        SCSI_HD,
        &[("virtio-scsi", "")],
    ),
    plugged(
        "virtio-scsi-legacy-hd",
        "virtio-scsi-legacy-bus",
        SCSI_HD,
        &[("virtio-scsi", ""), ("virtio-scsi-legacy", "")],
    ),
    driver("virtio-scsi", "virtio-scsi", |guest| {
        disk(virtio::Scsi::modern(guest))
    }),
    driver("virtio-scsi-legacy", "virtio-scsi-legacy", |guest| {
        disk(virtio::Scsi::legacy(guest))
    }),
    plugged(
        "nvme",
        "pci",
        "nvme,bus={bus},id={id},serial=qtest,drive={drive}",
        &[("nvme", "")],
    ),
    device(
        "nvme-controller",
        "pci",
        "nvme,bus={bus},id={id},serial=qtest",
        &[("nvme-bus", "{id}")],
    ),
    device(
        "nvme-ns",
        "nvme-bus",
        "nvme-ns,bus={bus},id={id},drive={drive}",
        &[("nvme", "")],
    ),
    built_in("piix3-ide", "pc", &[("ide", "ide.0")]),
    device(
        "piix4-ide",
        "q35",
        "piix4-ide,id={id}",
        &[("ide", "{id}.0")],
    ),
    device("isa-ide", "q35", "isa-ide,id={id}", &[("ide", "{id}.0")]),
    device(
        "ide-hd",
        "ide",
        "ide-hd,bus={bus},id={id},drive={drive}",
        &[("ide-disk", "")],
    ),
    device(
        "ide-cf",
        "ide",
        "ide-cf,bus={bus},id={id},drive={drive}",
        &[("ide-disk", "")],
    ),
    driver("ata", "ide-disk", drivers::ide::open),
    built_in("ich9-sata", "q35", &[("sata", "ide.0")]),
    device(
        "ich9-ahci",
        "pci",
        "ich9-ahci,bus={bus},id={id}",
        &[("sata", "{id}.0")],
    ),
    device(
        "ide-hd-sata",
        "sata",
        "ide-hd,bus={bus},id={id},drive={drive}",
        &[("sata-disk", "")],
    ),
    driver("ahci", "sata-disk", drivers::ahci::open),
    driver("nvme-namespace", "nvme", drivers::nvme::open),
];
