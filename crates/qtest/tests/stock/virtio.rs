//! What is particular to virtio.

use std::collections::BTreeSet;

use qtest::block::{self, Disk, Request, Status};
use qtest::drivers::scsi::{Command, Data, Outcome, cdb, sense};
use qtest::drivers::virtio::{Blk, Scsi, Segment, TaskManagement, Virtqueue, feature};

use super::emulator::{Machine, emulator};
use super::qmp::Qmp;
use super::{BLOCK, SIZE, pattern};

/// A machine with these devices; nothing where there is no emulator.
fn machine(machine: &str, devices: &[&str], more: &[String]) -> Option<Machine> {
    emulator()?;
    let mut arguments = vec!["-M".to_owned(), machine.to_owned()];
    for device in devices {
        arguments.extend(["-device".to_owned(), (*device).to_owned()]);
    }
    arguments.extend_from_slice(more);
    Some(Machine::with(&arguments, SIZE))
}

fn read(machine: &mut Machine, offset: u64) -> Request {
    let buffer = machine.guest.buffer(&[4096], 4096).unwrap();
    Request::Read { offset, buffer }
}

#[test]
fn queues_have_the_layout_that_was_agreed_on() {
    for (device, packed) in [("", false), (",packed=on", true)] {
        let device = format!("virtio-blk-pci,drive=disk{device}");
        let Some(mut machine) = machine("pc", &[&device], &[]) else {
            return;
        };
        let disk = Blk::modern(&mut machine.guest).unwrap();
        assert_eq!(disk.device.has(feature::PACKED), packed);
        assert!(disk.device.has(feature::INDIRECT | feature::EVENT_INDEX));
        let is_packed = matches!(disk.device.queues[0], Virtqueue::Packed(_));
        assert_eq!(is_packed, packed);
        let disk = Blk::direct(&mut machine.guest).unwrap();
        assert!(!disk.device.has(feature::INDIRECT));
        assert!(!disk.device.has(feature::EVENT_INDEX));
    }
}

#[test]
fn rings_go_round() {
    for (options, direct) in [
        ("", false),
        ("", true),
        (",packed=on", false),
        (",packed=on", true),
    ] {
        let device = format!("virtio-blk-pci,drive=disk,queue-size=16{options}");
        let Some(mut machine) = machine("pc", &[&device], &[]) else {
            return;
        };
        let guest = &mut machine.guest;
        let mut disk = if direct {
            Blk::direct(guest).unwrap()
        } else {
            Blk::modern(guest).unwrap()
        };
        let data = pattern(5, 64 * BLOCK);
        block::write(&mut disk, guest, 0, &data).unwrap();
        let buffer = guest.buffer(&[1024, 1024, 2048], 4096).unwrap();
        for n in 0..100u64 {
            let at = n % 64 * BLOCK;
            let buffer = buffer.clone();
            let request = Request::Read { offset: at, buffer };
            let status = block::execute(&mut disk, guest, &request).unwrap();
            assert_eq!(status, Status::Done, "{options}");
            if n % 7 == 0 {
                let Request::Read { buffer, .. } = request else {
                    unreachable!("it was made above");
                };
                let bytes = guest.buffer_bytes(&buffer).unwrap();
                let start = usize::try_from(at).unwrap();
                assert!(bytes == data[start..start + 4096], "{options} {n}");
            }
        }
    }
}

#[test]
fn queues_take_as_many_requests_as_they_say() {
    let Some(mut machine) = machine("q35", &["virtio-blk-pci,drive=disk,num-queues=3"], &[]) else {
        return;
    };
    let mut disk = Blk::modern(&mut machine.guest).unwrap();
    let (queues, depth) = (disk.features().queues, disk.features().depth);
    assert_eq!(queues, 3);
    let mut waited_for = BTreeSet::new();
    for n in 0..queues * depth {
        let request = read(&mut machine, (n as u64 % 300) * BLOCK);
        let tag = disk
            .submit(&mut machine.guest, n % queues, &request)
            .unwrap();
        waited_for.insert(tag);
    }
    let more = read(&mut machine, 0);
    let full = disk.submit(&mut machine.guest, 0, &more);
    if let Ok(tag) = full {
        panic!("{tag:?} was taken");
    }
    let guest = &mut machine.guest;
    guest
        .wait("the test", "the end of all requests", |guest| {
            for (tag, status) in disk.poll(guest)? {
                assert_eq!(status, Status::Done);
                assert!(waited_for.remove(&tag), "{tag:?} ended twice");
            }
            Ok(waited_for.is_empty().then_some(()))
        })
        .unwrap();
    disk.submit(guest, 2, &more).unwrap();
}

#[test]
fn interrupts_come_as_messages_and_without() {
    let Some(mut machine) = machine("pc", &["virtio-blk-pci,drive=disk"], &[]) else {
        return;
    };
    for messages in [false, true] {
        let mut disk = Blk::modern(&mut machine.guest).unwrap();
        if messages {
            assert!(disk.device.use_messages(&mut machine.guest).unwrap());
        }
        let guest = &mut machine.guest;
        assert!(!disk.device.interrupted(guest, Some(0)).unwrap());
        block::execute(&mut disk, guest, &Request::Flush).unwrap();
        guest
            .wait("the test", "an interrupt", |guest| {
                let came = disk.device.interrupted(guest, Some(0))?;
                Ok(came.then_some(()))
            })
            .unwrap();
        assert!(!disk.device.interrupted(guest, Some(0)).unwrap());
    }
}

#[test]
fn a_disk_says_that_it_has_another_size() {
    let qmp = Qmp::new();
    let devices = ["virtio-blk-pci,drive=disk"];
    let Some(mut machine) = machine("pc", &devices, &qmp.arguments()) else {
        return;
    };
    let guest = &mut machine.guest;
    let mut disk = Blk::modern(guest).unwrap();
    assert!(!disk.device.interrupted(guest, None).unwrap());
    qmp.resize(2 * SIZE);
    guest
        .wait("the test", "an interrupt of the configuration", |guest| {
            let came = disk.device.interrupted(guest, None)?;
            Ok(came.then_some(()))
        })
        .unwrap();
    assert_eq!(disk.size(), SIZE);
    assert_eq!(disk.refresh_size(guest).unwrap(), 2 * SIZE);
}

#[test]
fn a_wrong_ring_needs_a_reset_and_no_more() {
    let Some(mut machine) = machine("pc", &["virtio-blk-pci,drive=disk"], &[]) else {
        return;
    };
    let guest = &mut machine.guest;
    let mut disk = Blk::direct(guest).unwrap();
    // A request of a byte that the device reads has no room for the status.
    let memory = guest.allocate(16, 16).unwrap();
    let segment = Segment::readable(memory, 1);
    disk.device.submit(guest, 0, &[segment]).unwrap();
    let wrong = guest.wait("the test", "an error", |guest| {
        Ok(disk.device.take_used(guest, 0).err())
    });
    let wrong = wrong.unwrap().to_string();
    assert_eq!(wrong, "virtio-blk: the device needs a reset");
    disk.reset(guest).unwrap();
    let status = block::execute(&mut disk, guest, &Request::Flush).unwrap();
    assert_eq!(status, Status::Done);
}

#[test]
fn a_disk_has_a_name() {
    let devices = ["virtio-blk-pci,drive=disk,serial=A1-b2"];
    let Some(mut machine) = machine("pc", &devices, &[]) else {
        return;
    };
    let guest = &mut machine.guest;
    let mut disk = Blk::modern(guest).unwrap();
    assert_eq!(disk.id(guest).unwrap(), b"A1-b2");
    assert!(disk.set_writeback(guest, false).unwrap());
}

#[test]
fn tasks_are_managed_and_events_reported() {
    let qmp = Qmp::new();
    let devices = ["virtio-scsi-pci,id=hba", "scsi-hd,drive=disk,bus=hba.0"];
    let Some(mut machine) = machine("pc", &devices, &qmp.arguments()) else {
        return;
    };
    let guest = &mut machine.guest;
    let mut disk = Scsi::modern(guest).unwrap();
    let scsi = disk.transport();
    assert_eq!(scsi.manage(guest, TaskManagement::QueryTaskSet).unwrap(), 0);
    let reset = scsi.manage(guest, TaskManagement::LogicalUnitReset);
    assert_eq!(reset.unwrap(), 0);
    let ready = Command {
        cdb: cdb::test_unit_ready(),
        data: Data::None,
    };
    let outcome = disk.execute(guest, &ready).unwrap();
    let Outcome::Ended { sense, .. } = outcome else {
        panic!("{outcome:?}");
    };
    let sense = sense::Sense::decode(&sense).unwrap();
    assert_eq!((sense.key, sense.asc), (sense::UNIT_ATTENTION, 0x29));

    qmp.resize(2 * SIZE);
    let event = guest.wait("the test", "an event", |guest| {
        let events = disk.transport().events(guest)?;
        Ok(events.first().copied())
    });
    const PARAMETER_CHANGE: u32 = 3;
    assert_eq!(event.unwrap().event, PARAMETER_CHANGE);
    assert_eq!(disk.refresh_size(guest).unwrap(), 2 * SIZE);
}
