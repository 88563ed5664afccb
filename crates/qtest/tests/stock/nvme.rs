//! What an NVMe controller does beside what all disks do.

use qtest::block::{Disk, Request, Status};
use qtest::drivers::nvme::Nvme;

use crate::emulator::{Machine, emulator};

const DEVICE: &str = "nvme,serial=qtest,drive=disk";

fn machine() -> Option<Machine> {
    if !emulator()?.has_device("nvme") {
        return None;
    }
    let arguments = ["-M", "q35", "-device", DEVICE].map(str::to_owned);
    Some(Machine::with(&arguments, 4 << 20))
}

#[test]
fn requests_of_all_queues_end_and_one_may_be_aborted() {
    let Some(mut machine) = machine() else {
        eprintln!("skipped: there is no emulator with nvme");
        return;
    };
    let guest = &mut machine.guest;
    let mut disk = Nvme::open(guest).unwrap();
    let features = disk.features().clone();
    assert!(features.queues > 1 && features.depth > 8);
    let mut sent = Vec::new();
    for index in 0..8 * features.queues as u64 {
        // Lists of descriptors that do not fit a segment, and of pages, in turn.
        let pieces = if index % 2 == 0 {
            vec![64 << 10]
        } else {
            vec![512; 40]
        };
        let buffer = guest.buffer(&pieces, 4096).unwrap();
        let offset = index * (64 << 10);
        let request = Request::Write {
            offset,
            buffer,
            fua: index % 3 == 0,
        };
        let queue = usize::try_from(index).unwrap() % features.queues;
        sent.push(disk.submit(guest, queue, &request).unwrap());
    }
    let last = *sent.last().unwrap();
    disk.abort(guest, last).unwrap();
    let mut ended = Vec::new();
    while ended.len() < sent.len() {
        ended.extend(disk.poll(guest).unwrap());
    }
    ended.sort_by_key(|(tag, _)| *tag);
    let tags: Vec<_> = ended.iter().map(|(tag, _)| *tag).collect();
    assert_eq!(tags, sent);
    let (_, aborted) = ended.pop().unwrap();
    for (tag, status) in &ended {
        assert_eq!(*status, Status::Done, "{tag:?}");
    }
    let why = "command abort requested".to_owned();
    assert!([Status::Done, Status::Failed { why }].contains(&aborted));
    assert!(disk.abort(guest, last).is_err());
}
