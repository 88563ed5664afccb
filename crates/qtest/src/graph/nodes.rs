//! The table of nodes: a new machine, device or driver is a row here.

use crate::drivers;

use super::{ImageSize, Kind, Node};

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
        gives: BLOCK,
        hotplug: false,
        image_size: ImageSize::Any,
    }
}

type Gives = &'static [(&'static str, &'static str)];

/// What drivers give.
const BLOCK: Gives = &[("block", "")];

/// All of them.
pub(super) const NODES: &[Node] = &[
    machine("pc", "pc", &[("pci", "pci.0"), ("pc", "")]),
    machine(
        "q35",
        "q35",
        &[("pci", "pcie.0"), ("pcie", "pcie.0"), ("q35", "")],
    ),
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
];
