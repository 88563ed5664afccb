//! What provides and what needs what: machines, buses, devices and drivers, and every way
//! from a machine to what a test asks for.
//!
//! As in QEMU's qgraph, a test names an interface ([`BLOCK`], [`CD`], [`SERVED`]) and is run on each path to it that
//! the emulator can make.

mod draw;
mod emulator;
mod nodes;

pub use draw::{dot, text};
pub use emulator::Emulator;

use std::collections::BTreeSet;
use std::fmt;

use crate::block::Disk;
use crate::error::Result;
use crate::guest::Guest;

/// The interface that drivers of disks give.
pub const BLOCK: &str = "block";

/// The interface that drivers of disks in another process give: it serves them as back ends of
/// vhost-user, at the character device `vhost`.
pub const SERVED: &str = "served";

/// The interface that drivers of CD drives give. A CD drive is a disk that is read only, and may
/// be without a medium.
pub const CD: &str = "cd";

/// Finds a device in a running machine and sets it up.
pub type Open = fn(&mut Guest) -> Result<Box<dyn Disk>>;

/// What a node is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A machine: `-M` with this argument.
    Machine(&'static str),
    /// A device: `-device` with this argument, in which `{bus}` is the bus of the node before,
    /// `{id}` a name of its own and `{drive}` the node name of the disk's image.
    Device(&'static str),
    /// A setting for all devices of a kind: `-global` with this argument.
    Global(&'static str),
    /// What is in the machine without being asked for.
    BuiltIn,
    /// A driver of this crate.
    Driver(Open),
}

/// Which sizes of images a device takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageSize {
    /// Any number of blocks.
    Any,
    /// Powers of two: SD cards.
    PowerOfTwo,
    /// This number of bytes: media of one size, such as floppy disks.
    Exactly(u64),
}

/// Something that gives interfaces to others, if it gets the one that it needs.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Unique, as QEMU calls it where it has a name there.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The interface that it needs; none for machines.
    pub needs: Option<&'static str>,
    /// The interfaces that it gives, each with the name of the bus, in which `{id}` is its own
    /// name.
    pub gives: &'static [(&'static str, &'static str)],
    /// Whether the device can be plugged in and unplugged while the machine runs.
    pub hotplug: bool,
    /// Which images it takes, where it has one.
    pub image_size: ImageSize,
}

/// From a machine to an interface.
#[derive(Clone, Debug)]
pub struct Path {
    /// The nodes, a machine first.
    pub nodes: Vec<&'static Node>,
}

/// Why a path cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRun {
    /// The name of the path.
    pub path: String,
    /// What the emulator does not have.
    pub reason: String,
}

impl fmt::Display for Path {
    /// The names of the nodes, such as `q35/virtio-blk-pci/virtio-blk`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.nodes.iter().map(|n| n.name).collect();
        f.write_str(&names.join("/"))
    }
}

/// All nodes that are known.
#[must_use]
pub fn nodes() -> &'static [Node] {
    nodes::NODES
}

/// Every path to an interface, whether an emulator can make it or not.
#[must_use]
pub fn all_paths(interface: &str) -> Vec<Path> {
    let mut paths = Vec::new();
    let mut trail = Vec::new();
    for machine in nodes().iter().filter(|n| n.needs.is_none()) {
        walk(machine, interface, &mut trail, &mut paths);
    }
    paths
}

fn walk(
    node: &'static Node,
    interface: &str,
    trail: &mut Vec<&'static Node>,
    paths: &mut Vec<Path>,
) {
    trail.push(node);
    if node.gives.iter().any(|(given, _)| *given == interface) {
        let nodes = trail.clone();
        paths.push(Path { nodes });
    }
    for next in nodes() {
        let fits = |needed| node.gives.iter().any(|(given, _)| *given == needed);
        let again = trail.iter().any(|n| n.name == next.name);
        if next.needs.is_some_and(fits) && !again {
            walk(next, interface, trail, paths);
        }
    }
    trail.pop();
}

/// The paths to an interface that this emulator can make, and those it cannot, with the reason.
#[must_use]
pub fn paths(interface: &str, emulator: &Emulator) -> (Vec<Path>, Vec<NotRun>) {
    let mut not_run = Vec::new();
    let mut run = all_paths(interface);
    run.retain(|path| match emulator.lacks(path) {
        Some(reason) => {
            let path = path.to_string();
            not_run.push(NotRun { path, reason });
            false
        }
        None => true,
    });
    (run, not_run)
}

/// A few of these paths on which every node of theirs is, with every driver behind every
/// device that it is for.
#[must_use]
pub fn cover(paths: &[Path]) -> Vec<Path> {
    let mut left: BTreeSet<(&str, &str)> = paths.iter().flat_map(Path::parts).collect();
    let mut chosen: Vec<&Path> = Vec::new();
    while !left.is_empty() {
        let news = |path: &Path| path.parts().filter(|part| left.contains(part)).count();
        // The first of those with the most.
        let Some(best) = paths.iter().rev().max_by_key(|path| news(path)) else {
            break;
        };
        for part in best.parts() {
            left.remove(&part);
        }
        chosen.push(best);
    }
    paths
        .iter()
        .filter(|path| chosen.iter().any(|c| std::ptr::eq(*c, *path)))
        .cloned()
        .collect()
}

impl Path {
    /// What [`cover`] has to have: the nodes, and the driver with the device before it.
    fn parts(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let driver = match self.nodes.as_slice() {
            [.., device, driver] => Some((device.name, driver.name)),
            _ => None,
        };
        let nodes = self.nodes.iter().map(|node| (node.name, ""));
        nodes.chain(driver).collect::<Vec<_>>().into_iter()
    }

    /// The machine, as `-M` takes it.
    #[must_use]
    pub fn machine(&self) -> &'static str {
        match self.nodes.first().map(|n| n.kind) {
            Some(Kind::Machine(machine)) => machine,
            _ => "none",
        }
    }

    /// The devices, as `-device` takes them, for a disk whose image has the node name `drive`.
    /// `properties` (`,werror=stop`) are added to the device that has the image; `suffix` makes
    /// the devices' names different from those of another path in the same machine.
    #[must_use]
    pub fn devices(&self, drive: &str, properties: &str, suffix: &str) -> Vec<String> {
        let mut devices = Vec::new();
        let mut previous: Option<(&Node, String)> = None;
        for (index, node) in self.nodes.iter().enumerate() {
            let mut id = format!("dev{index}{suffix}");
            if let Kind::Device(text) = node.kind {
                let bus = previous.as_ref().map_or_else(String::new, |(before, id)| {
                    before
                        .gives
                        .iter()
                        .find(|(given, _)| Some(*given) == node.needs)
                        .map_or_else(String::new, |(_, bus)| bus.replace("{id}", id))
                });
                let mut text = text.replace("{bus}", &bus).replace("{id}", &id);
                if text.contains("{drive}") {
                    text = text.replace("{drive}", drive) + properties;
                }
                devices.push(text);
            } else if let Some((_, before)) = &previous {
                id.clone_from(before);
            }
            previous = Some((node, id));
        }
        devices
    }

    /// The arguments of an emulator with the machine and the devices.
    #[must_use]
    pub fn arguments(&self, drive: &str, properties: &str) -> Vec<String> {
        let mut arguments = vec!["-M".to_owned(), self.machine().to_owned()];
        for node in &self.nodes {
            if let Kind::Global(setting) = node.kind {
                arguments.extend(["-global".to_owned(), setting.to_owned()]);
            }
        }
        for device in self.devices(drive, properties, "") {
            arguments.extend(["-device".to_owned(), device]);
        }
        arguments
    }

    /// The name (`id`) of the device that has the image.
    #[must_use]
    pub fn disk_id(&self) -> String {
        let has_drive =
            |n: &&Node| matches!(n.kind, Kind::Device(text) if text.contains("{drive}"));
        let index = self.nodes.iter().position(has_drive).unwrap_or_default();
        format!("dev{index}")
    }

    /// Whether the device that has the image can be plugged in and unplugged: it has to be one
    /// that can, on a bus that takes it. The root of PCI Express takes nothing while the machine
    /// runs; ports behind it do.
    #[must_use]
    pub fn hotplug(&self) -> bool {
        const FIXED: &str = "pcie.0";
        let has_drive =
            |n: &&Node| matches!(n.kind, Kind::Device(text) if text.contains("{drive}"));
        let Some(index) = self.nodes.iter().position(has_drive) else {
            return false;
        };
        let node = self.nodes[index];
        let bus = self.nodes[..index].last().and_then(|before| {
            let given = before
                .gives
                .iter()
                .find(|(given, _)| Some(*given) == node.needs);
            given.map(|(_, bus)| *bus)
        });
        node.hotplug && bus != Some(FIXED)
    }

    /// The size in bytes of an image for the path, at least `wanted` where the device lets one
    /// choose.
    #[must_use]
    pub fn image_size(&self, wanted: u64) -> u64 {
        self.nodes
            .iter()
            .fold(wanted, |size, node| match node.image_size {
                ImageSize::Any => size,
                ImageSize::PowerOfTwo => size.next_power_of_two(),
                ImageSize::Exactly(bytes) => bytes,
            })
    }

    /// Whether the disk can become larger and smaller while the machine runs.
    #[must_use]
    pub fn resizes(&self) -> bool {
        self.nodes.iter().all(|n| n.image_size == ImageSize::Any)
    }

    /// Whether a node of this name is on it.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.nodes.iter().any(|n| n.name == name)
    }

    /// Finds the disk in a machine that was started with [`Self::arguments`] and sets it up.
    ///
    /// # Errors
    ///
    /// Fails if it is not there or does not answer, and if the path ends at no driver.
    pub fn open(&self, guest: &mut Guest) -> Result<Box<dyn Disk>> {
        match self.nodes.last().map(|n| n.kind) {
            Some(Kind::Driver(open)) => open(guest),
            _ => Err(crate::Error::device(
                "graph",
                format!("{self} ends at no driver"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> Path {
        let paths = all_paths(BLOCK);
        let found = paths.into_iter().find(|path| path.to_string() == name);
        found.unwrap_or_else(|| panic!("no path {name}"))
    }

    #[test]
    fn nothing_is_plugged_into_the_root_of_pci_express() {
        assert!(path("pc/virtio-blk-pci/virtio-blk").hotplug());
        assert!(!path("q35/virtio-blk-pci/virtio-blk").hotplug());
        assert!(path("q35/pcie-root-port/virtio-blk-pci/virtio-blk").hotplug());
        assert!(!path("microvm/virtio-mmio-legacy/virtio-blk-device/virtio-blk-mmio").hotplug());
    }

    #[test]
    fn settings_are_arguments_of_the_machine() {
        let path = path("microvm/virtio-mmio-modern/virtio-blk-device/virtio-blk-mmio");
        assert_eq!(
            path.arguments("disk", "").join(" "),
            "-M microvm -global virtio-mmio.force-legacy=off \
             -device virtio-blk-device,id=dev2,drive=disk"
        );
    }

    #[test]
    fn names_of_nodes_are_unique_and_paths_end_at_drivers() {
        let names: BTreeSet<_> = nodes().iter().map(|n| n.name).collect();
        assert_eq!(names.len(), nodes().len());
        for path in all_paths(BLOCK) {
            assert!(
                matches!(path.nodes.last().map(|n| n.kind), Some(Kind::Driver(_))),
                "{path}"
            );
            assert!(matches!(path.nodes[0].kind, Kind::Machine(_)), "{path}");
        }
    }

    #[test]
    fn every_interface_that_is_needed_is_given() {
        for node in nodes() {
            let Some(needed) = node.needs else { continue };
            let given = nodes()
                .iter()
                .any(|n| n.gives.iter().any(|(g, _)| *g == needed));
            assert!(given, "{}: {needed}", node.name);
        }
    }

    #[test]
    fn a_cover_has_every_node_and_is_smaller() {
        let all = all_paths(BLOCK);
        let few = cover(&all);
        let parts = |paths: &[Path]| paths.iter().flat_map(Path::parts).collect::<BTreeSet<_>>();
        assert_eq!(parts(&few), parts(&all));
        assert!(few.len() * 2 < all.len(), "{} of {}", few.len(), all.len());
    }
}
