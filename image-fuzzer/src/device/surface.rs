//! What of a machine inputs can touch: registers, the configuration of its PCI functions, memory.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use qtest::pci::{Bar, Function, Pci};
use qtest::{Op, Recorded, Width};

use super::emulator::Emulator;
use super::host::Host;
use super::machine::Machine;
use super::program::{SETUP, Step};
use super::regions::{Region, Space, parse_mtree, parse_qom_tree};

/// What inputs can touch.
#[derive(Clone, Debug, Default)]
pub struct Surface {
    /// Gives the registers of the fuzzed functions their places: what each input begins with.
    pub setup: Vec<Step>,
    /// The registers that are fuzzed, where `setup` has put them.
    pub registers: Vec<Region>,
    /// The fuzzed functions, as the port 0xcf8 selects them.
    pub functions: Vec<u32>,
    /// What the monitor can change meanwhile.
    pub host: Host,
    /// The end of the memory that begins at address 0.
    pub memory_end: u64,
}

/// The ports of the configuration space: the selector, and the first of four for data.
pub(super) const SELECT: u16 = 0xcf8;
pub(super) const DATA: u16 = 0xcfc;

/// The first base address register, and the end of those of a device: PCI 3.0, section 6.2.5.
const BARS: std::ops::Range<u32> = 0x10..0x28;

impl Surface {
    /// Finds out what there is in a machine.
    ///
    /// # Errors
    ///
    /// The emulator does not answer, or nothing of the machine is to be fuzzed.
    pub fn of(machine: &Machine, emulator: &mut Emulator) -> Result<Self> {
        let guest = emulator.guest();
        guest.start_record();
        // Machines without PCI have their registers in place.
        let pci = Pci::enumerate(guest).unwrap_or_default();
        let recorded = guest.end_record();
        let regions = parse_mtree(&emulator.ask("info mtree -o")?);
        let types = parse_qom_tree(&emulator.ask("info qom-tree")?);
        let registers = machine.fuzzed()?.registers(&regions, &types);
        ensure!(
            !registers.is_empty(),
            "no registers of the machine belong to '{}'; its objects are: {}",
            machine.objects,
            known(&types)
        );
        let memory = regions
            .iter()
            .find(|it| it.is_memory && it.space == Space::Memory && it.start == 0);
        let fuzzed: Vec<&Function> = pci
            .functions
            .iter()
            .filter(|it| !it.bridge && registers.iter().any(|region| has(it, region)))
            .collect();
        let functions: Vec<u32> = fuzzed.iter().map(|it| select(it)).collect();
        let bridges = pci.functions.iter().filter(|it| it.bridge).map(select);
        let wanted: BTreeSet<u32> = functions.iter().copied().chain(bridges).collect();
        Ok(Self {
            setup: setup(&recorded, &wanted),
            registers,
            functions,
            host: Host::of(machine),
            memory_end: memory.map_or(1 << 20, |it| it.last.saturating_add(1)),
        })
    }

    /// In a few words, for the user.
    #[must_use]
    pub fn text(&self) -> String {
        let names = self.registers.iter().map(|it| {
            let space = match it.space {
                Space::Ports => "ports",
                Space::Memory => "memory",
            };
            format!("{} ({space} {:#x}-{:#x})", it.name, it.start, it.last)
        });
        names.collect::<Vec<_>>().join(", ")
    }
}

/// The types of a machine's objects that are devices, for the user to choose from.
fn known(types: &BTreeMap<String, String>) -> String {
    let plain = ["memory-region", "irq", "container"];
    let names: BTreeSet<&str> = types
        .values()
        .map(String::as_str)
        .filter(|it| !plain.contains(it))
        .collect();
    names.into_iter().collect::<Vec<_>>().join(" ")
}

/// How a function is selected, with the offset 0.
fn select(function: &Function) -> u32 {
    let at = function.address;
    1 << 31
        | u32::from(at.bus) << 16
        | u32::from(at.device & 31) << 11
        | u32::from(at.function & 7) << 8
}

/// Whether a region is part of a function's registers.
fn has(function: &Function, region: &Region) -> bool {
    function.bars.iter().flatten().any(|bar| {
        let (space, base, size) = match *bar {
            Bar::Io { base, size } => (Space::Ports, u64::from(base), u64::from(size)),
            Bar::Memory { base, size } => (Space::Memory, base, size),
        };
        space == region.space && base <= region.start && region.last < base.saturating_add(size)
    })
}

/// A write to the configuration space.
#[derive(Clone, Copy, PartialEq, Eq)]
struct ConfigWrite {
    function: u32,
    offset: u32,
    width: Width,
    value: u32,
}

/// The writes that give the wanted functions their places: of each register the last one. How
/// large the registers are was found out on the way, and need not be again.
fn setup(recorded: &[Recorded], wanted: &BTreeSet<u32>) -> Vec<Step> {
    let mut selected = 0;
    let mut writes: Vec<ConfigWrite> = Vec::new();
    for Recorded { op, .. } in recorded {
        let Op::Out { width, port, value } = *op else {
            continue;
        };
        if port == SELECT {
            selected = value;
        } else if (DATA..DATA + 4).contains(&port) {
            let write = ConfigWrite {
                function: selected & !0xff,
                offset: (selected & 0xfc) + u32::from(port - DATA),
                width,
                value,
            };
            writes.retain(|it| (it.function, it.offset) != (write.function, write.offset));
            writes.push(write);
        }
    }
    let is_probe = |it: &ConfigWrite| BARS.contains(&it.offset) && it.value == u32::MAX;
    let kept = writes
        .into_iter()
        .filter(|it| wanted.contains(&it.function) && !is_probe(it));
    kept.flat_map(|it| config_write(it.function, it.offset, it.width, it.value))
        .collect()
}

/// The steps of a write to the configuration space.
pub(super) fn config_write(function: u32, offset: u32, width: Width, value: u32) -> [Step; 2] {
    let out = |width, port, value| Step::Op(Op::Out { width, port, value }, SETUP.into());
    [
        out(Width::L, SELECT, function | offset & 0xfc),
        // The offset of a byte among four.
        out(width, DATA + (offset & 3) as u16, value),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setup_is_the_last_write_of_each_register_of_the_fuzzed() {
        let record = |function, offset, value| {
            config_write(function, offset, Width::L, value).map(|step| Recorded {
                op: step.as_op().unwrap().clone(),
                label: "",
            })
        };
        let (disk, other) = (0x8000_0800, 0x8000_1000);
        let recorded = [
            record(disk, 0x10, u32::MAX),
            record(disk, 0x10, 0xe000_0000),
            record(other, 0x10, 0xe100_0000),
            record(disk, 0x14, u32::MAX),
            record(disk, 0x04, 7),
        ]
        .concat();
        let steps = setup(&recorded, &BTreeSet::from([disk]));
        let text: Vec<String> = steps.iter().map(Step::to_string).collect();
        assert_eq!(
            text,
            [
                "outl 0xcf8 0x80000810 # pci configuration",
                "outl 0xcfc 0xe0000000 # pci configuration",
                "outl 0xcf8 0x80000804 # pci configuration",
                "outl 0xcfc 0x7 # pci configuration"
            ]
        );
    }
}
