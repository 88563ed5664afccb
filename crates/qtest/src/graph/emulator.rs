//! What an emulator has, as it says itself.

use std::collections::BTreeSet;

use super::{Kind, Path};

/// The machines and devices of an emulator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emulator {
    machines: BTreeSet<String>,
    devices: BTreeSet<String>,
}

impl Emulator {
    /// From what `-M help` and `-device help` print.
    #[must_use]
    pub fn from_help(machines: &str, devices: &str) -> Self {
        let mut emulator = Self::default();
        // The first line is a title. Old versions of a machine are of no interest, but all are
        // listed: `pc   Standard PC (alias of pc-i440fx-10.0)`.
        for line in machines.lines().skip(1) {
            if let Some(name) = line.split_whitespace().next() {
                emulator.machines.insert(name.to_owned());
            }
        }
        // `name "virtio-blk-pci", bus PCI, alias "virtio-blk"`
        for line in devices.lines() {
            let Some(rest) = line.strip_prefix("name \"") else {
                continue;
            };
            if let Some((name, _)) = rest.split_once('"') {
                emulator.devices.insert(name.to_owned());
            }
        }
        emulator
    }

    /// Whether there is a device of this name, as `-device` takes it.
    #[must_use]
    pub fn has_device(&self, name: &str) -> bool {
        self.devices.contains(name)
    }

    /// What of a path the emulator does not have; nothing if it can make it.
    #[must_use]
    pub fn lacks(&self, path: &Path) -> Option<String> {
        let word = |text: &str| text.split(',').next().unwrap_or_default().to_owned();
        path.nodes.iter().find_map(|node| match node.kind {
            Kind::Machine(machine) => {
                let name = word(machine);
                let there = self.machines.contains(&name);
                (!there).then(|| format!("the emulator has no machine {name}"))
            }
            Kind::Device(device) => {
                let name = word(device);
                let there = self.devices.contains(&name);
                (!there).then(|| format!("the emulator has no device {name}"))
            }
            Kind::Global(_) | Kind::BuiltIn | Kind::Driver(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_and_devices_are_read_from_help() {
        let emulator = Emulator::from_help(
            "Supported machines are:\npc                   Standard PC (alias of pc-i440fx-10.0)\n",
            "Storage devices:\nname \"nvme\", bus PCI, desc \"Non-Volatile Memory Express\"\n\n",
        );
        assert!(emulator.has_device("nvme"));
        assert!(!emulator.has_device("ahci"));
        assert!(emulator.machines.contains("pc"));
        assert_eq!(emulator.machines.len(), 1);
    }
}
