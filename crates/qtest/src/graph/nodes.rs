//! The table of nodes: a new machine, device or driver is a row here.

use super::{ImageSize, Kind, Node};
use crate::block::Disk;
use crate::drivers::esp::Esp;
use crate::drivers::lsi::Lsi;
use crate::drivers::megasas::Megasas;
use crate::drivers::mptsas::Mptsas;
use crate::drivers::pvscsi::Pvscsi;
use crate::drivers::{self, virtio};
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

/// A device that does not take images of any size.
const fn sized(mut node: Node, image_size: ImageSize) -> Node {
    node.image_size = image_size;
    node
}

const fn driver(name: &'static str, needs: &'static str, open: super::Open) -> Node {
    Node {
        name,
        kind: Kind::Driver(open),
        needs: Some(needs),
        gives: &[(super::BLOCK, "")],
        hotplug: false,
        image_size: ImageSize::Any,
    }
}

/// A driver of disks in another process.
const fn served_driver(name: &'static str, needs: &'static str, open: super::Open) -> Node {
    let mut node = driver(name, needs, open);
    node.gives = &[(super::SERVED, "")];
    node
}

/// A driver of CD drives.
const fn cd_driver(name: &'static str, needs: &'static str, open: super::Open) -> Node {
    let mut node = driver(name, needs, open);
    node.gives = &[(super::CD, "")];
    node
}

/// The disk that a driver has set up, as tests see it.
fn disk(disk: Result<impl Disk + 'static>) -> Result<Box<dyn Disk>> {
    disk.map(|disk| Box::new(disk) as Box<dyn Disk>)
}

type Gives = &'static [(&'static str, &'static str)];

/// A disk on the bus of a host adapter. Each adapter has a row with it, since the driver is the
/// adapter's.
const fn hd(name: &'static str, needs: &'static str, gives: Gives) -> Node {
    plugged(
        name,
        needs,
        "scsi-hd,bus={bus},id={id},drive={drive}",
        gives,
    )
}

/// A CD drive on the bus of a host adapter.
const fn cd(name: &'static str, needs: &'static str, gives: Gives) -> Node {
    plugged(
        name,
        needs,
        "scsi-cd,bus={bus},id={id},drive={drive}",
        gives,
    )
}

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
    hd("virtio-scsi-hd", "virtio-scsi-bus", &[("virtio-scsi", "")]),
    hd(
        "virtio-scsi-legacy-hd",
        "virtio-scsi-legacy-bus",
        &[("virtio-scsi", ""), ("virtio-scsi-legacy", "")],
    ),
    driver("virtio-scsi", "virtio-scsi", |guest| {
        disk(virtio::Scsi::modern(guest))
    }),
    driver("virtio-scsi-legacy", "virtio-scsi-legacy", |guest| {
        disk(virtio::Scsi::legacy(guest))
    }),
    device(
        "virtio-scsi-device",
        "virtio-mmio",
        "virtio-scsi-device,id={id}",
        &[("virtio-scsi-mmio-bus", "{id}.0")],
    ),
    hd(
        "virtio-scsi-mmio-hd",
        "virtio-scsi-mmio-bus",
        &[("virtio-scsi-mmio", "")],
    ),
    driver("virtio-scsi-mmio", "virtio-scsi-mmio", |guest| {
        disk(virtio::Scsi::mmio(guest))
    }),
    // Other host adapters.
    device(
        "pvscsi",
        "pci",
        "pvscsi,bus={bus},id={id}",
        &[("pvscsi-bus", "{id}.0")],
    ),
    hd("pvscsi-hd", "pvscsi-bus", &[("pvscsi", "")]),
    driver("pvscsi-driver", "pvscsi", |guest| disk(Pvscsi::open(guest))),
    device(
        "megasas",
        "pci",
        "megasas,bus={bus},id={id}",
        &[("megasas-bus", "{id}.0")],
    ),
    hd("megasas-hd", "megasas-bus", &[("megasas", "")]),
    driver("megasas-driver", "megasas", |guest| {
        disk(Megasas::first(guest))
    }),
    device(
        "megasas-gen2",
        "pci",
        "megasas-gen2,bus={bus},id={id}",
        &[("megasas-gen2-bus", "{id}.0")],
    ),
    hd(
        "megasas-gen2-hd",
        "megasas-gen2-bus",
        &[("megasas-gen2", "")],
    ),
    driver("megasas-gen2-driver", "megasas-gen2", |guest| {
        disk(Megasas::second(guest))
    }),
    device(
        "mptsas1068",
        "pci",
        "mptsas1068,bus={bus},id={id}",
        &[("mptsas-bus", "{id}.0")],
    ),
    hd("mptsas-hd", "mptsas-bus", &[("mptsas", "")]),
    driver("mptsas", "mptsas", |guest| disk(Mptsas::open(guest))),
    device(
        "lsi53c895a",
        "pci",
        "lsi53c895a,bus={bus},id={id}",
        &[("lsi53c895a-bus", "{id}.0")],
    ),
    hd("lsi53c895a-hd", "lsi53c895a-bus", &[("lsi53c895a", "")]),
    driver("lsi53c895a-driver", "lsi53c895a", |guest| {
        disk(Lsi::lsi53c895a(guest))
    }),
    device(
        "lsi53c810",
        "pci",
        "lsi53c810,bus={bus},id={id}",
        &[("lsi53c810-bus", "{id}.0")],
    ),
    hd("lsi53c810-hd", "lsi53c810-bus", &[("lsi53c810", "")]),
    driver("lsi53c810-driver", "lsi53c810", |guest| {
        disk(Lsi::lsi53c810(guest))
    }),
    device(
        "am53c974",
        "pci",
        "am53c974,bus={bus},id={id}",
        &[("am53c974-bus", "{id}.0")],
    ),
    device(
        "dc390",
        "pci",
        "dc390,bus={bus},id={id}",
        &[("am53c974-bus", "{id}.0")],
    ),
    hd("am53c974-hd", "am53c974-bus", &[("am53c974", "")]),
    driver("am53c974-driver", "am53c974", |guest| {
        disk(Esp::open(guest))
    }),
    device(
        "qemu-xhci",
        "pci",
        "qemu-xhci,bus={bus},id={id}",
        &[("usb-3", "{id}.0")],
    ),
    device(
        "qemu-xhci-high-speed",
        "pci",
        "qemu-xhci,bus={bus},id={id},p2=4,p3=0",
        &[("usb-3", "{id}.0")],
    ),
    device(
        "nec-usb-xhci",
        "pci",
        "nec-usb-xhci,bus={bus},id={id}",
        &[("usb-3", "{id}.0")],
    ),
    plugged(
        "usb-storage",
        "usb-3",
        "usb-storage,bus={bus},id={id},drive={drive}",
        &[("usb-bot", "")],
    ),
    device(
        "usb-bot",
        "usb-3",
        "usb-bot,bus={bus},id={id}",
        &[("usb-bot-bus", "{id}.0")],
    ),
    hd("usb-bot-hd", "usb-bot-bus", &[("usb-bot", "")]),
    device(
        "usb-uas",
        "usb-3",
        "usb-uas,bus={bus},id={id}",
        &[("usb-uas-bus", "{id}.0")],
    ),
    hd("usb-uas-hd", "usb-uas-bus", &[("usb-uas", "")]),
    device(
        "usb-ehci",
        "pci",
        "usb-ehci,bus={bus},id={id}",
        &[("usb-2", "{id}.0")],
    ),
    plugged(
        "usb-storage-2",
        "usb-2",
        "usb-storage,bus={bus},id={id},drive={drive}",
        &[("usb-2-bot", "")],
    ),
    device(
        "usb-uas-2",
        "usb-2",
        "usb-uas,bus={bus},id={id}",
        &[("usb-2-uas-bus", "{id}.0")],
    ),
    hd("usb-uas-2-hd", "usb-2-uas-bus", &[("usb-2-uas", "")]),
    driver("ehci-bot", "usb-2-bot", drivers::usb::open_ehci_bot),
    driver("ehci-uas", "usb-2-uas", drivers::usb::open_ehci_uas),
    driver("xhci-bot", "usb-bot", drivers::usb::open_xhci_bot),
    driver("xhci-uas", "usb-uas", drivers::usb::open_xhci_uas),
    device(
        "ufs",
        "pci",
        "ufs,bus={bus},id={id},serial=qtest",
        &[("ufs-bus", "{id}")],
    ),
    device(
        "ufs-queues",
        "pci",
        "ufs,bus={bus},id={id},serial=qtest,mcq=on",
        &[("ufs-bus", "{id}")],
    ),
    device(
        "ufs-lu",
        "ufs-bus",
        "ufs-lu,bus={bus},id={id},drive={drive}",
        &[("ufs-lu", "")],
    ),
    driver("ufs-unit", "ufs-lu", drivers::ufs::open),
    device(
        "sdhci-pci",
        "pci",
        "sdhci-pci,bus={bus},id={id}",
        &[("sd-bus", "{id}/sd-bus")],
    ),
    sized(
        device(
            "sd-card",
            "sd-bus",
            "sd-card,id={id},drive={drive}",
            &[("sd-card", "")],
        ),
        ImageSize::PowerOfTwo,
    ),
    driver("sd", "sd-card", drivers::sdhci::open),
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
    built_in("pc-fdc", "pc", &[("floppy-bus", "floppy-bus.0")]),
    device(
        "isa-fdc",
        "q35",
        "isa-fdc,id={id}",
        &[("floppy-bus", "{id}.0")],
    ),
    sized(
        device(
            "floppy",
            "floppy-bus",
            "floppy,bus={bus},id={id},drive={drive},drive-type=144",
            &[("floppy", "")],
        ),
        ImageSize::Exactly(drivers::floppy::SIZE),
    ),
    driver("floppy-disk", "floppy", drivers::floppy::open),
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
    // Disks in another process.
    device(
        "vhost-user-blk-pci",
        "pci",
        "vhost-user-blk-pci,bus={bus},id={id},chardev=vhost",
        &[("vhost-user-blk", "")],
    ),
    served_driver("vhost-user-blk", "vhost-user-blk", |guest| {
        disk(virtio::Blk::modern(guest))
    }),
    served_driver("vhost-user-blk-direct", "vhost-user-blk", |guest| {
        disk(virtio::Blk::direct(guest))
    }),
    // CD drives.
    cd(
        "virtio-scsi-cd",
        "virtio-scsi-bus",
        &[("virtio-scsi-cd", "")],
    ),
    cd_driver("virtio-scsi-cd-driver", "virtio-scsi-cd", |guest| {
        disk(virtio::Scsi::modern(guest))
    }),
    cd("pvscsi-cd", "pvscsi-bus", &[("pvscsi-cd", "")]),
    cd_driver("pvscsi-cd-driver", "pvscsi-cd", |guest| {
        disk(Pvscsi::open(guest))
    }),
    cd("megasas-cd", "megasas-bus", &[("megasas-cd", "")]),
    cd_driver("megasas-cd-driver", "megasas-cd", |guest| {
        disk(Megasas::first(guest))
    }),
    cd("mptsas-cd", "mptsas-bus", &[("mptsas-cd", "")]),
    cd_driver("mptsas-cd-driver", "mptsas-cd", |guest| {
        disk(Mptsas::open(guest))
    }),
    cd("lsi53c895a-cd", "lsi53c895a-bus", &[("lsi53c895a-cd", "")]),
    cd_driver("lsi53c895a-cd-driver", "lsi53c895a-cd", |guest| {
        disk(Lsi::lsi53c895a(guest))
    }),
    cd("am53c974-cd", "am53c974-bus", &[("am53c974-cd", "")]),
    cd_driver("am53c974-cd-driver", "am53c974-cd", |guest| {
        disk(Esp::open(guest))
    }),
    cd("usb-bot-cd", "usb-bot-bus", &[("usb-bot-cd", "")]),
    cd_driver("xhci-bot-cd", "usb-bot-cd", drivers::usb::open_xhci_bot),
    cd("usb-uas-cd", "usb-uas-bus", &[("usb-uas-cd", "")]),
    cd_driver("xhci-uas-cd", "usb-uas-cd", drivers::usb::open_xhci_uas),
    device(
        "ide-cd",
        "ide",
        "ide-cd,bus={bus},id={id},drive={drive}",
        &[("ide-cd", "")],
    ),
    cd_driver("ide-packets", "ide-cd", drivers::ide::open_cd),
    device(
        "ide-cd-sata",
        "sata",
        "ide-cd,bus={bus},id={id},drive={drive}",
        &[("sata-cd", "")],
    ),
    cd_driver("ahci-packets", "sata-cd", drivers::ahci::open_cd),
];
