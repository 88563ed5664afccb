//! Devices that are plugged in while the machine runs.

use qtest::block;
use qtest::graph::{self, Path};

use super::emulator::{Machine, emulator};
use super::qmp::Qmp;
use super::{BLOCK, SIZE, pattern};

/// The paths whose disk can be plugged in; each device of host adapters on one bus only.
fn paths() -> Vec<Path> {
    let Some(emulator) = emulator() else {
        return Vec::new();
    };
    let (mut paths, _) = graph::paths(graph::BLOCK, &emulator);
    paths.retain(|path| {
        let simple = path.nodes.len() == 3 || path.has("virtio-blk-pci");
        path.hotplug() && (simple || path.machine() == "pc" && !path.has("pci-bridge"))
    });
    assert!(paths.iter().any(|path| path.has("pcie-root-port")));
    assert!(paths.iter().any(|path| path.has("pci-bridge")));
    paths
}

/// An option of `-device` as the arguments of `device_add`.
fn arguments(device: &str) -> String {
    let mut fields = Vec::new();
    for (index, field) in device.split(',').enumerate() {
        let (name, value) = field.split_once('=').unwrap_or(("driver", field));
        assert_eq!(index == 0, name == "driver", "{device}");
        let value = match value {
            "on" => "true".to_owned(),
            number if number.parse::<u32>().is_ok() => number.to_owned(),
            text => format!("\"{text}\""),
        };
        fields.push(format!("\"{name}\": {value}"));
    }
    fields.join(", ")
}

/// Whether a command for a disk that is not there is never answered: so are those to a bridge of
/// UAS by streams, which only controllers for SuperSpeed have.
fn waits_for_absent_units(path: &Path) -> bool {
    path.has("usb-uas") && !path.has("qemu-xhci-high-speed")
}

#[test]
fn what_can_be_plugged_in_is_found_then() {
    for path in paths() {
        let qmp = Qmp::new();
        let mut devices = path.devices("disk", "", "");
        let device = devices.pop().unwrap();
        let mut all = vec!["-M".to_owned(), path.machine().to_owned()];
        for device in devices {
            all.extend(["-device".to_owned(), device]);
        }
        all.extend(qmp.arguments());
        let mut machine = Machine::with(&all, SIZE);
        if !waits_for_absent_units(&path) {
            assert!(path.open(&mut machine.guest).is_err(), "{path}");
        }
        qmp.run(&format!(
            "\"device_add\", \"arguments\": {{{}}}",
            arguments(&device)
        ));
        let mut disk = machine.disk(&path);
        let data = pattern(7, BLOCK);
        let guest = &mut machine.guest;
        block::write(disk.as_mut(), guest, 0, &data).unwrap();
        let back = block::read(disk.as_mut(), guest, 0, BLOCK).unwrap();
        assert!(back == data, "{path}");
    }
}
