//! Past crashes of storage devices: what a guest did, as changes of what a driver does, each of
//! which the fuzzer draws. The reports are advisories and the subjects of the commits in QEMU's
//! history that fixed them; the steps come from the specifications of the devices.
//!
//! A row is held to two things: with all of its changes the emulator that is installed goes on,
//! and each change is drawn, by itself, from what the driver does with the same register or
//! structure. In a campaign the changes of a row come together by inputs of the queue.

use std::path::PathBuf;

use image_fuzzer::device::judge::judge;
use image_fuzzer::device::machine::{Machine, Wanted};
use image_fuzzer::device::program::{Program, Step};
use image_fuzzer::device::regions::Space;
use image_fuzzer::device::{Emulator, InputLimits, Model, Setup};
use image_mutations::rng::Rng;
use qtest::{Op, Width};

/// A past crash.
struct Row {
    /// Where it is described.
    report: &'static str,
    device: &'static str,
    /// What the guest does.
    guest: &'static str,
    changes: &'static [Change],
}

/// A change of what a driver does.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// Sets a field of the last structure of this kind: its offset and width in bytes.
    Field(&'static str, usize, usize, Value),
    /// Sets the same of the first structure of this kind.
    First(&'static str, usize, usize, Value),
    /// Sets the value that a register gets, in the last write of it.
    Register(&'static str, Value),
    /// Writes a register at an offset in the first registers of the device, behind the last write
    /// of this kind.
    Behind(&'static str, u64, Width, Value),
    /// Writes a port behind the last step of this kind.
    Port(&'static str, u16, Value),
    /// Does the last step of this kind so many times more.
    Repeat(&'static str, usize),
}

/// What a field is set to.
#[derive(Clone, Copy, Debug)]
enum Value {
    Is(u64),
    /// This or more.
    AtLeast(u64),
    /// An address among the registers of the device.
    Registers,
    /// The address of the structure.
    Itself,
}

use Change::{Behind, Field, First, Port, Register, Repeat};
use Value::{AtLeast, Is, Itself, Registers};

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { report: "CVE-2021-3929 hw/nvme: fix CVE-2021-3929", device: "nvme",
        guest: "a command whose data are the registers of the controller",
        changes: &[Field("nvme submission entry", 24, 8, Registers)] },
    Row { report: "CVE-2021-3947 hw/nvme: fix buffer overrun in nvme_changed_nslist", device: "nvme",
        guest: "Get Log Page of changed namespaces behind the end of the list",
        changes: &[First("nvme submission entry", 0, 1, Is(2)), First("nvme submission entry", 40, 1, Is(4)),
            First("nvme submission entry", 48, 4, AtLeast(4097))] },
    Row { report: "hw/nvme: fix null pointer access in directive receive", device: "nvme",
        guest: "Directive Receive for all namespaces",
        changes: &[First("nvme submission entry", 0, 1, Is(0x1a)), First("nvme submission entry", 4, 4, Is(0xffff_ffff))] },
    Row { report: "ahci: check for ncq prdtl overflow", device: "ich9-ahci",
        guest: "a command header with more descriptors than its table has",
        changes: &[Field("ahci command header", 2, 2, AtLeast(0x8000))] },
    Row { report: "CVE-2014-9718 ide: Correct handling of malformed/short PRDTs", device: "ich9-ahci",
        guest: "descriptors for no bytes of a transfer",
        changes: &[Field("ahci command header", 2, 2, Is(0))] },
    Row { report: "CVE-2020-29443 ide: atapi: check logical block address and read size", device: "ide-cd-sata",
        guest: "a packet that reads at the block before the first",
        changes: &[Field("ata packet", 0, 1, Is(0x28)), Field("ata packet", 2, 4, Is(0xffff_ffff)), Field("ata packet", 7, 2, AtLeast(1))] },
    Row { report: "CVE-2023-5088 hw/ide: reset: cancel async DMA operation before resetting state", device: "piix4-ide",
        guest: "a software reset while a transfer by DMA goes on",
        changes: &[Port("ide bus master command", 0x3f6, Is(4))] },
    Row { report: "CVE-2017-5987 sd: sdhci: check transfer mode register in multi block transfer", device: "sdhci-pci",
        guest: "a transfer of several blocks with a count of none",
        changes: &[Register("sd block count", Is(0))] },
    Row { report: "CVE-2021-3409 hw/sd: sdhci: Limit block size only when SDHC_BLKSIZE register is writable", device: "sdhci-pci",
        guest: "another size of blocks while a transfer goes on",
        changes: &[Behind("sd command", 4, Width::W, AtLeast(1))] },
    Row { report: "CVE-2020-13362 megasas: use unsigned type for reply_queue_head and check index", device: "megasas",
        guest: "a head of the reply queue that is past its end",
        changes: &[Register("megasas queue index", AtLeast(0x8000_0000))] },
    Row { report: "hw/scsi/megasas: Fails command if SGL buffer overflows", device: "megasas",
        guest: "a frame with more scatter list entries than it holds",
        changes: &[Field("megasas frame", 7, 1, AtLeast(0x80))] },
    Row { report: "CVE-2021-3392 mptsas: Remove unused MPTSASState 'pending' field", device: "mptsas1068",
        guest: "a request whose chain of scatter lists is not in it",
        changes: &[Field("mptsas request", 2, 1, AtLeast(0x80))] },
    Row { report: "CVE-2018-18849 lsi53c895a: check message length value is valid", device: "lsi53c895a",
        guest: "a script that moves more bytes of a message than there can be",
        changes: &[Field("lsi script", 0, 2, AtLeast(0x100))] },
    Row { report: "CVE-2022-0216 scsi/lsi53c895a: fix use-after-free in lsi_do_msgout", device: "lsi53c895a",
        guest: "a message that ends the command which it belongs to",
        changes: &[Field("lsi message bytes", 0, 1, Is(12))] },
    Row { report: "CVE-2023-0330 hw/scsi/lsi53c895a: Fix reentrancy issues in the LSI controller", device: "lsi53c895a",
        guest: "a script that moves data into the controller's registers",
        changes: &[Field("lsi script", 4, 4, Registers)] },
    Row { report: "CVE-2019-12068 scsi: lsi: exit infinite loop while executing script", device: "lsi53c895a",
        guest: "a script that begins with a jump to itself",
        changes: &[Field("lsi script", 3, 1, Is(0x80)), Field("lsi script", 2, 1, Is(8)), Field("lsi script", 4, 4, Itself)] },
    Row { report: "CVE-2016-7156 scsi: pvscsi: limit loop to fetch SG list", device: "pvscsi",
        guest: "a scatter list with a piece of no bytes",
        changes: &[Field("pvscsi scatter list", 8, 4, Is(0))] },
    Row { report: "CVE-2016-7421 scsi: pvscsi: limit process IO loop to ring size", device: "pvscsi",
        guest: "an index of the ring of requests that is far ahead",
        changes: &[Register("pvscsi ring index", AtLeast(0x1_0000))] },
    Row { report: "CVE-2016-4439 esp: check command buffer length before write", device: "am53c974",
        guest: "more bytes of a command than the FIFO holds",
        changes: &[Behind("am53c974 register", 8, Width::B, AtLeast(0)), Repeat("am53c974 message and command", 64)] },
    Row { report: "CVE-2016-6490 virtio: check vring descriptor buffer length", device: "virtio-blk-pci",
        guest: "a descriptor of no bytes",
        changes: &[Field("virtio descriptor", 8, 4, Is(0))] },
    Row { report: "CVE-2016-5403 virtio: error out if guest exceeds virtqueue size", device: "virtio-blk-pci",
        guest: "an index of the available ring that is far ahead",
        changes: &[Register("virtio available ring index", AtLeast(0x4000))] },
    Row { report: "CVE-2023-42467 hw/scsi/scsi-disk: Disallow block sizes smaller than 512", device: "virtio-scsi-pci",
        guest: "MODE SELECT with a block size of 0",
        changes: &[Field("virtio-scsi command", 19, 1, Is(0x15)), Field("virtio-scsi command", 23, 1, Is(12))] },
    Row { report: "scsi-disk: Fix assertion failure on WRITE SAME", device: "virtio-scsi-pci",
        guest: "WRITE SAME of more bytes than it has data",
        changes: &[Field("virtio-scsi command", 19, 1, Is(0x41))] },
    Row { report: "CVE-2015-3456 fdc: force the fifo access to be in bounds of the allocated buffer", device: "isa-fdc",
        guest: "Drive Specification with more parameters than the FIFO holds",
        changes: &[Register("floppy command", Is(0x8e)), Repeat("floppy command", 600)] },
    Row { report: "CVE-2021-3507 hw/block/fdc: Prevent end-of-track overrun", device: "isa-fdc",
        guest: "a transfer that ends at a sector before the one it begins with",
        changes: &[Register("floppy command", AtLeast(0x80))] },
    Row { report: "usb/xhci: avoid trigger assertion if guest write wrong epid", device: "qemu-xhci",
        guest: "a doorbell for an endpoint that no slot has",
        changes: &[Register("xhci doorbell", AtLeast(32))] },
    Row { report: "CVE-2020-14394 hw/usb/hcd-xhci: Fix unbounded loop in xhci_ring_chain_length()", device: "qemu-xhci",
        guest: "a ring that begins with a link to itself",
        changes: &[Field("xhci transfer request block", 0, 8, Itself), Field("xhci transfer request block", 13, 1, Is(0x18))] },
    Row { report: "CVE-2021-3713 uas: add stream number sanity checks", device: "usb-uas",
        guest: "a transfer on a stream that the device has not",
        changes: &[Register("xhci doorbell", AtLeast(0x8_0000))] },
    Row { report: "usb/msd: add usb_msd_fatal_error() and fix guest-triggerable assert", device: "usb-storage",
        guest: "a command wrapper with another length than what is transferred",
        changes: &[Field("usb command block wrapper", 8, 4, Is(0))] },
    Row { report: "ehci: Validate qh is not changed unexpectedly by the guest", device: "usb-ehci",
        guest: "a queue head with a transfer that is the queue head",
        changes: &[Field("ehci queue head", 16, 4, Itself)] },
];

impl Value {
    fn number(self, at: u64, model: &Model) -> u64 {
        match self {
            Self::Is(value) | Self::AtLeast(value) => value,
            Self::Registers => model.surface.registers[0].start,
            Self::Itself => at,
        }
    }

    fn accepts(self, value: u64, at: u64, model: &Model) -> bool {
        match self {
            Self::Is(wanted) => value == wanted,
            Self::AtLeast(least) => value >= least,
            Self::Registers => {
                let mut registers = model.surface.registers.iter();
                registers.any(|it| (it.start..=it.last).contains(&value))
            }
            Self::Itself => value == at,
        }
    }
}

fn field(bytes: &[u8], offset: usize, width: usize) -> Option<u64> {
    let mut value = [0; 8];
    value[..width].copy_from_slice(bytes.get(offset..offset + width)?);
    Some(u64::from_le_bytes(value))
}

impl Change {
    fn label(self) -> &'static str {
        match self {
            Field(label, ..) | First(label, ..) | Register(label, _) => label,
            Behind(label, ..) | Port(label, ..) | Repeat(label, _) => label,
        }
    }

    /// The kind of change of the fuzzer that makes it.
    fn kind(self) -> &'static str {
        match self {
            Field(..) | First(..) => "field",
            Register(..) => "number",
            Behind(..) | Port(..) => "insert",
            Repeat(..) => "repeat",
        }
    }

    /// What it writes, where it is a step of its own.
    fn step(self, model: &Model) -> Option<Op> {
        let (space, address, width, value) = match self {
            Behind(_, offset, width, value) => {
                let registers = &model.surface.registers[0];
                (registers.space, registers.start + offset, width, value)
            }
            Port(_, port, value) => (Space::Ports, port.into(), Width::B, value),
            _ => return None,
        };
        let value = value.number(address, model);
        Some(match space {
            Space::Memory => Op::Write {
                width,
                address,
                value,
            },
            Space::Ports => Op::Out {
                width,
                port: address.try_into().unwrap(),
                value: value.try_into().unwrap(),
            },
        })
    }

    /// Whether it changes this step.
    fn fits(self, step: &Step) -> bool {
        let has_field = |offset: usize, width: usize| match step.as_op() {
            Some(Op::WriteBlock { bytes, .. }) => bytes.len() >= offset + width,
            _ => false,
        };
        step.label() == self.label()
            && match self {
                Field(_, offset, width, _) | First(_, offset, width, _) => has_field(offset, width),
                Register(..) => {
                    let op = step.as_op();
                    op.is_some_and(|it| matches!(it, Op::Write { .. } | Op::Out { .. }))
                }
                Behind(..) | Port(..) | Repeat(..) => step.as_op().is_some_and(Op::is_write),
            }
    }

    /// Makes the change; whether there is what it changes.
    fn make(self, steps: &mut Vec<Step>, model: &Model) -> bool {
        let fits = |step: &Step| self.fits(step);
        let index = match self {
            First(..) => steps.iter().position(fits),
            _ => steps.iter().rposition(fits),
        };
        let Some(index) = index else { return false };
        let more = match self {
            Repeat(_, times) => vec![steps[index].clone(); times],
            _ => self.step(model).map(Step::op).into_iter().collect(),
        };
        steps.splice(index + 1..index + 1, more);
        let Step::Op(op, _) = &mut steps[index] else {
            return false;
        };
        match (self, op) {
            (
                Field(_, offset, width, value) | First(_, offset, width, value),
                Op::WriteBlock { address, bytes },
            ) => {
                let number = value.number(*address, model).to_le_bytes();
                bytes[offset..offset + width].copy_from_slice(&number[..width]);
            }
            (Register(_, wanted), Op::Write { value, address, .. }) => {
                *value = wanted.number(*address, model);
            }
            (Register(_, wanted), Op::Out { value, .. }) => {
                *value = wanted.number(0, model).try_into().unwrap();
            }
            _ => {}
        }
        true
    }

    /// How many steps of an input have what it makes.
    fn count(self, program: &Program, model: &Model) -> usize {
        let has = |step: &&Step| match (self, step.as_op()) {
            (
                Field(_, at, width, value) | First(_, at, width, value),
                Some(Op::WriteBlock { address, bytes }),
            ) => {
                let is = |it| value.accepts(it, *address, model);
                self.fits(step) && field(bytes, at, width).is_some_and(is)
            }
            (Register(_, wanted), Some(Op::Write { value, address, .. })) => {
                self.fits(step) && wanted.accepts(*value, *address, model)
            }
            (Register(_, wanted), Some(Op::Out { value, .. })) => {
                self.fits(step) && wanted.accepts((*value).into(), 0, model)
            }
            (Behind(_, _, _, wanted) | Port(_, _, wanted), Some(op)) => {
                same_place(op, self.step(model).as_ref(), wanted, model)
            }
            (Repeat(..), _) => self.fits(step),
            _ => false,
        };
        program.steps.iter().filter(has).count()
    }

    /// Whether a mutant has it where the record has not.
    fn is_in(self, mutant: &Program, record: &Program, model: &Model) -> bool {
        let more = if let Repeat(_, times) = self {
            times
        } else {
            1
        };
        self.count(mutant, model) >= self.count(record, model) + more
    }
}

/// Whether an operation writes the register that `like` does, and a value that is accepted.
fn same_place(op: &Op, like: Option<&Op>, wanted: Value, model: &Model) -> bool {
    match (op, like) {
        (
            Op::Write {
                width,
                address,
                value,
            },
            Some(Op::Write {
                width: w,
                address: a,
                ..
            }),
        ) => width == w && address == a && wanted.accepts(*value, *address, model),
        (
            Op::Out { width, port, value },
            Some(Op::Out {
                width: w, port: p, ..
            }),
        ) => width == w && port == p && wanted.accepts((*value).into(), 0, model),
        _ => false,
    }
}

/// The emulator that is installed.
fn emulator() -> Option<PathBuf> {
    let path = PathBuf::from("/usr/bin/qemu-system-x86_64");
    let is_there = path.exists();
    if !is_there {
        eprintln!("skipped: there is no {}", path.display());
    }
    is_there.then_some(path)
}

/// How many mutants are drawn until one has a change.
const DRAWN: usize = 600_000;

/// Checks the rows of some devices.
fn check(devices: &[&str]) {
    let Some(emulator) = emulator() else { return };
    let mut failures = Vec::new();
    for device in devices {
        let wanted = Wanted {
            name: Some(device),
            ..Wanted::default()
        };
        let machine = Machine::new(&emulator, &wanted).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let setup = Setup {
            machine: &machine,
            scratch: scratch.path(),
            image: None,
            sandbox: false,
            guard: None,
            limits: InputLimits {
                time: std::time::Duration::from_secs(10),
                ..InputLimits::default()
            },
        };
        let model = Model::of(&setup, true).unwrap();
        assert_eq!(model.obstacle, None);
        for row in ROWS.iter().filter(|row| row.device == *device) {
            if let Err(why) = recall(row, &model, &setup) {
                failures.push(format!("{}: {}: {why}", row.report, row.guest));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn recall(row: &Row, model: &Model, setup: &Setup<'_>) -> Result<(), String> {
    // The shortest record with all that the row changes.
    let made = |record: &&Program| {
        let mut steps = record.steps.clone();
        row.changes.iter().all(|it| it.make(&mut steps, model))
    };
    let record = model
        .recorded
        .iter()
        .filter(made)
        .min_by_key(|it| it.steps.len());
    let record = record.ok_or("no record of the driver has what it changes")?;
    for change in row.changes {
        let mut rng = Rng::from_text(row.report);
        let of_label = record
            .steps
            .iter()
            .filter(|it| it.label() == change.label());
        let part = Program {
            steps: of_label.cloned().collect(),
        };
        let drawn = (0..DRAWN).any(|_| {
            let mutant = model.change(change.kind(), &part, &mut rng);
            mutant.is_some_and(|it| change.is_in(&it, &part, model))
        });
        if !drawn {
            return Err(format!("{change:?} is not drawn"));
        }
    }
    let mut steps = record.steps.clone();
    for change in row.changes {
        change.make(&mut steps, model);
    }
    let mut emulator = Emulator::start(setup, None).map_err(|why| why.to_string())?;
    let ran = emulator.run(&Program { steps });
    match judge(setup.machine, &ran) {
        Some(failure) => Err(format!("the emulator fails: {}", failure.key)),
        None => Ok(()),
    }
}

/// Each row belongs to a test.
#[test]
fn all_devices_are_checked() {
    let rows: std::collections::BTreeSet<&str> = ROWS.iter().map(|it| it.device).collect();
    let checked: std::collections::BTreeSet<&str> =
        GROUPS.iter().copied().flatten().copied().collect();
    assert_eq!(rows, checked);
    assert!(ROWS.len() >= 15);
}

/// The devices of each test.
const GROUPS: [&[&str]; 5] = [NVME_AND_ATA, ADAPTERS, LSI, VIRTIO_AND_FLOPPY, USB];
const NVME_AND_ATA: &[&str] = &["nvme", "ich9-ahci", "ide-cd-sata", "piix4-ide", "sdhci-pci"];
const ADAPTERS: &[&str] = &["megasas", "mptsas1068", "pvscsi", "am53c974"];
const LSI: &[&str] = &["lsi53c895a"];
const VIRTIO_AND_FLOPPY: &[&str] = &["virtio-blk-pci", "virtio-scsi-pci", "isa-fdc"];
const USB: &[&str] = &["qemu-xhci", "usb-uas", "usb-storage", "usb-ehci"];

#[test]
fn past_crashes_of_nvme_and_ata_are_drawn() {
    check(NVME_AND_ATA);
}

#[test]
fn past_crashes_of_host_adapters_are_drawn() {
    check(ADAPTERS);
}

#[test]
fn past_crashes_of_lsi_are_drawn() {
    check(LSI);
}

#[test]
fn past_crashes_of_virtio_and_floppy_are_drawn() {
    check(VIRTIO_AND_FLOPPY);
}

#[test]
fn past_crashes_of_usb_are_drawn() {
    check(USB);
}
