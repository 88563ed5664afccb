//! What the one who runs a machine does with it while a guest uses a device: commands of the
//! monitor. They unplug the device and plug it in, change the size of the disk, take the medium
//! out, stop the machine and reset it.

use image_mutations::rng::Rng;
use serde_json::{Value, json};

use super::machine::Machine;
use super::program::Step;

/// What of a machine the monitor can change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    devices: Vec<Device>,
    /// The node of the disk and its size in bytes.
    disk: Option<(String, u64)>,
}

/// A device that was given a name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    id: String,
    /// As `device_add` takes it.
    text: String,
    /// Whether it has a medium that can be taken out.
    is_removable: bool,
}

/// Devices with a medium that can be taken out.
const REMOVABLE: [&str; 4] = ["floppy", "sd-card", "ide-cd", "scsi-cd"];

/// The commands after which an emulator is what it was, but for what a guest may do as well.
const HARMLESS: [&str; 3] = ["stop", "cont", "system_reset"];

/// Whether a command may leave the machine with other devices or another disk.
#[must_use]
pub(super) fn changes_machine(command: &str) -> bool {
    !HARMLESS.contains(&command)
}

impl Host {
    /// From the arguments of a machine.
    #[must_use]
    pub fn of(machine: &Machine) -> Self {
        let pairs = machine.args.windows(2);
        let values = |option: &'static str| {
            let pairs = pairs.clone();
            pairs.filter_map(move |pair| (pair[0] == option).then_some(pair[1].as_str()))
        };
        let property = |text: &str, name: &str| {
            let mut words = text.split(',');
            words.find_map(|word| Some(word.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
        };
        let devices = values("-device").filter_map(|text| {
            Some(Device {
                id: property(text, "id")?,
                text: text.to_owned(),
                is_removable: text
                    .split(',')
                    .next()
                    .is_some_and(|it| REMOVABLE.contains(&it)),
            })
        });
        let disk = values("-blockdev").find_map(|text| property(text, "node-name"));
        Self {
            devices: devices.collect(),
            disk: disk.map(|node| (node, machine.disk_size)),
        }
    }

    /// Draws what is done: a command, or one and what undoes it.
    #[must_use]
    pub(super) fn draw(&self, rng: &mut Rng) -> Vec<Step> {
        let human = |line: &str| Step::Monitor(line.to_owned());
        match rng.below(10) {
            0 => vec![human("stop")],
            1 => vec![human("stop"), human("cont")],
            2 => vec![human("system_reset")],
            3..5 => self.resize(rng).into_iter().collect(),
            5 | 6 => self.medium(rng),
            _ => {
                let Some(device) = rng.pick(&self.devices) else {
                    return vec![human("system_reset")];
                };
                let remove = Step::Monitor(format!("device_del {}", device.id));
                let add = Step::Monitor(format!("device_add {}", device.text));
                match rng.below(4) {
                    0 => vec![add],
                    1 => vec![remove, add],
                    _ => vec![remove],
                }
            }
        }
    }

    /// Another size of the disk, in sectors or not.
    fn resize(&self, rng: &mut Rng) -> Option<Step> {
        let (node, size) = self.disk.as_ref()?;
        let size = match rng.below(6) {
            0 => 0,
            1 => size / 2,
            2 => size + 512,
            3 => size * 2,
            4 => 512 * rng.below(64),
            _ => rng.below(size + 1),
        };
        let arguments = json!({"node-name": node, "size": size});
        Some(command("block_resize", &arguments))
    }

    fn medium(&self, rng: &mut Rng) -> Vec<Step> {
        let removable: Vec<&Device> = self.devices.iter().filter(|it| it.is_removable).collect();
        let Some(device) = rng.pick(&removable) else {
            return self.resize(rng).into_iter().collect();
        };
        let id = json!({"id": device.id});
        let forced = json!({"id": device.id, "force": true});
        let open = command("blockdev-open-tray", &forced);
        match rng.below(4) {
            0 => vec![command("eject", &forced)],
            1 => vec![open],
            2 => vec![open, command("blockdev-close-tray", &id)],
            _ => {
                let mut steps = vec![open, command("blockdev-remove-medium", &id)];
                if let Some((node, _)) = &self.disk {
                    let arguments = json!({"id": device.id, "node-name": node});
                    steps.push(command("blockdev-insert-medium", &arguments));
                    steps.push(command("blockdev-close-tray", &id));
                }
                steps
            }
        }
    }
}

fn command(name: &str, arguments: &Value) -> Step {
    Step::Monitor(json!({"execute": name, "arguments": arguments}).to_string())
}

/// Lets a machine that was stopped last go on: the inputs behind this one are for one that runs.
pub(super) fn go_on(steps: &mut Vec<Step>) {
    let last = steps.iter().rev().find_map(|step| match step {
        Step::Monitor(line) if line == "stop" || line == "cont" => Some(line.as_str()),
        _ => None,
    });
    if last == Some("stop") {
        steps.push(Step::Monitor("cont".into()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::program::Program;
    use super::*;

    fn machine(args: &[&str]) -> Machine {
        Machine {
            name: "floppy".into(),
            program: "/usr/bin/qemu-system-x86_64".into(),
            args: args.iter().map(|it| (*it).to_owned()).collect(),
            objects: String::new(),
            below: Vec::new(),
            format: None,
            disk_size: 1 << 20,
            path: None,
            readable: Vec::new(),
        }
    }

    #[test]
    fn all_commands_are_drawn_and_are_lines_of_a_trace() {
        let host = Host::of(&machine(&[
            "-blockdev",
            "driver=null-co,node-name=disk,size=1",
            "-device",
            "isa-fdc,id=dev1",
            "-device",
            "floppy,bus=dev1.0,id=dev2,drive=disk",
            "-device",
            "usb-tablet",
        ]));
        let mut rng = Rng::from_text("host");
        let mut drawn = BTreeSet::new();
        for _ in 0..2000 {
            let steps = host.draw(&mut rng);
            let program = Program { steps };
            assert_eq!(program.to_string().parse::<Program>(), Ok(program.clone()));
            for step in &program.steps {
                let Step::Monitor(line) = step else {
                    panic!("{step}")
                };
                drawn.insert(match serde_json::from_str::<Value>(line) {
                    Ok(value) => value["execute"].as_str().unwrap().to_owned(),
                    Err(_) => line.clone(),
                });
            }
        }
        let expected = [
            "block_resize",
            "blockdev-close-tray",
            "blockdev-insert-medium",
            "blockdev-open-tray",
            "blockdev-remove-medium",
            "cont",
            "device_add floppy,bus=dev1.0,id=dev2,drive=disk",
            "device_add isa-fdc,id=dev1",
            "device_del dev1",
            "device_del dev2",
            "eject",
            "stop",
            "system_reset",
        ];
        assert_eq!(
            drawn.iter().map(String::as_str).collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn a_machine_that_was_stopped_goes_on() {
        let steps = |text: &str| text.parse::<Program>().unwrap().steps;
        for (before, after) in [
            (
                "# monitor: stop\ninb 0x1\n",
                "# monitor: stop\ninb 0x1\n# monitor: cont\n",
            ),
            (
                "# monitor: stop\n# monitor: cont\n",
                "# monitor: stop\n# monitor: cont\n",
            ),
            ("inb 0x1\n", "inb 0x1\n"),
        ] {
            let mut made = steps(before);
            go_on(&mut made);
            assert_eq!(made, steps(after));
        }
    }
}
