//! The devices of an emulator, as `-device help` lists them, and what each needs to be used: a
//! machine, the bus it is plugged into, a disk.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

/// What `-device help` says of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// The bus that it is plugged into; none for those without one.
    bus: String,
}

/// The devices of an emulator, by name and by alias.
#[derive(Clone, Debug, Default)]
pub(super) struct Catalogue {
    entries: BTreeMap<String, Entry>,
}

/// What a device that is plugged into such a bus is plugged into: bus, machine, device.
const BUSES: [(&str, &str, Option<&str>); 11] = [
    ("PCI", "q35", None),
    ("ISA", "pc", None),
    ("IDE", "pc", None),
    ("SCSI", "q35", Some("virtio-scsi-pci")),
    ("usb-bus", "q35", Some("qemu-xhci")),
    ("sd-bus", "q35", Some("sdhci-pci")),
    ("floppy-bus", "pc", Some("isa-fdc")),
    ("nvme-bus", "q35", Some("nvme,serial=fuzzed")),
    ("ufs-bus", "q35", Some("ufs")),
    ("HDA", "q35", Some("intel-hda")),
    ("virtio-serial-bus", "q35", Some("virtio-serial-pci")),
];

/// What is plugged into controllers, by the beginning of their names; `{id}` is the controller.
const BEHIND: [(&str, &str); 20] = [
    ("am53c974", "scsi-hd,drive=disk"),
    ("dc390", "scsi-hd,drive=disk"),
    ("lsi", "scsi-hd,drive=disk"),
    ("megasas", "scsi-hd,drive=disk"),
    ("mptsas", "scsi-hd,drive=disk"),
    ("pvscsi", "scsi-hd,drive=disk"),
    ("virtio-scsi", "scsi-hd,drive=disk"),
    ("usb-bot", "scsi-hd,drive=disk"),
    ("usb-uas", "scsi-hd,drive=disk"),
    ("ich9-ahci", "ide-hd,drive=disk,bus={id}.0"),
    ("ahci", "ide-hd,drive=disk,bus={id}.0"),
    ("piix3-ide", "ide-hd,drive=disk,bus={id}.0"),
    ("piix4-ide", "ide-hd,drive=disk,bus={id}.0"),
    ("isa-ide", "ide-hd,drive=disk,bus={id}.0"),
    ("isa-fdc", "floppy,drive=disk"),
    ("sdhci-pci", "sd-card,drive=disk"),
    ("ufs", "ufs-lu,drive=disk"),
    ("qemu-xhci", "usb-storage,drive=disk"),
    ("nec-usb-xhci", "usb-storage,drive=disk"),
    ("usb-ehci", "usb-storage,drive=disk"),
];

/// A machine and what is plugged into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plugged {
    /// What `-M` takes.
    pub(super) machine: &'static str,
    /// What `-device` takes, in order.
    pub(super) devices: Vec<String>,
}

impl Catalogue {
    /// From what `-device help` prints.
    #[must_use]
    pub(super) fn parse(help: &str) -> Self {
        let mut entries = BTreeMap::new();
        // `name "virtio-blk-pci", bus PCI, alias "virtio-blk"`
        for line in help.lines() {
            let word = |key: &str| {
                let rest = line.split(key).nth(1)?;
                rest.split(['"', ',']).next().map(str::to_owned)
            };
            let Some(name) = word("name \"") else {
                continue;
            };
            let bus = word(", bus ").unwrap_or_default();
            let entry = Entry { bus };
            if let Some(alias) = word("alias \"") {
                entries.insert(alias, entry.clone());
            }
            entries.insert(name, entry);
        }
        Self { entries }
    }

    /// A machine with a device whose properties `-device NAME,help` lists.
    ///
    /// # Errors
    ///
    /// The emulator has no such device, or it is plugged into a bus of which nothing is known.
    pub(super) fn plug(&self, name: &str, properties: &str) -> Result<Plugged> {
        let Some(entry) = self.entries.get(name) else {
            let near = self
                .entries
                .keys()
                .min_by_key(|known| strsim::osa_distance(known, name));
            let near = near.map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
            bail!("the emulator has no device '{name}'{near}");
        };
        let bus = BUSES.iter().find(|(bus, ..)| *bus == entry.bus);
        let (_, machine, bridge) = bus.with_context(|| {
            format!(
                "'{name}' is plugged into a bus '{}', of which nothing is known; give the whole \
                 machine with --args and --objects",
                entry.bus
            )
        })?;
        let mut devices: Vec<String> = bridge.iter().map(|it| format!("{it},id=bus")).collect();
        let mut device = name.to_owned();
        let has = |property: &str| {
            let is_property = |line: &str| line.trim_start().starts_with(property);
            properties.lines().any(is_property)
        };
        if has("serial=") {
            device.push_str(",serial=fuzzed");
        }
        if has("drive=") {
            device.push_str(",drive=disk");
        }
        device.push_str(",id=fuzzed");
        devices.push(device);
        if let Some((_, disk)) = BEHIND.iter().find(|(start, _)| name.starts_with(start))
            && !has("drive=")
        {
            devices.push(disk.replace("{id}", "fuzzed"));
        }
        Ok(Plugged { machine, devices })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "\
Storage devices:
name \"ich9-ahci\", bus PCI, alias \"ahci\"
name \"nvme\", bus PCI, desc \"Non-Volatile Memory Express\"
name \"scsi-hd\", bus SCSI, desc \"virtual SCSI disk\"
name \"xen-disk\", bus xen-bus, desc \"Xen disk device\"
";

    #[test]
    fn devices_are_plugged_into_what_they_need() {
        let catalogue = Catalogue::parse(HELP);
        let plug = |name: &str, properties: &str| catalogue.plug(name, properties).unwrap();
        assert_eq!(
            plug("nvme", "  drive=<str>\n  serial=<str>\n").devices,
            ["nvme,serial=fuzzed,drive=disk,id=fuzzed"]
        );
        assert_eq!(
            plug("scsi-hd", "  drive=<str>\n").devices,
            ["virtio-scsi-pci,id=bus", "scsi-hd,drive=disk,id=fuzzed"]
        );
        let ahci = plug("ahci", "");
        assert_eq!(ahci.machine, "q35");
        assert_eq!(
            ahci.devices,
            ["ahci,id=fuzzed", "ide-hd,drive=disk,bus=fuzzed.0"]
        );
    }

    #[test]
    fn what_cannot_be_plugged_in_is_said() {
        let catalogue = Catalogue::parse(HELP);
        let why = |name: &str| catalogue.plug(name, "").unwrap_err().to_string();
        assert_eq!(
            why("nvm"),
            "the emulator has no device 'nvm'; did you mean 'nvme'?"
        );
        assert!(why("xen-disk").contains("'xen-bus'"), "{}", why("xen-disk"));
    }
}
