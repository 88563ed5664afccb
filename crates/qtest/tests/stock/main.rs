//! Every path of the graph on the emulator that is installed.

mod cd;
mod emulator;
mod nvme;
mod plugged;
mod qmp;
mod reset;
mod scsi;
mod virtio;

use emulator::{Machine, emulator};
use qtest::block::{self, Disk, Request, Status};
use qtest::{Guest, graph};

const SIZE: u64 = 1440 << 10;
const BLOCK: u64 = 4096;

/// Bytes that differ by their place.
fn pattern(seed: u64, length: u64) -> Vec<u8> {
    (0..length)
        .map(|i| ((i / 512 + seed) % 251 + i % 3) as u8)
        .collect()
}

/// The paths of one machine. Behind a bridge everything is as before it but for what the bridge
/// does, so that one device shows it.
fn every_disk_of(machine: &str) {
    let Some(emulator) = emulator() else {
        eprintln!("skipped: there is no emulator");
        return;
    };
    let (paths, not_run) = graph::paths(graph::BLOCK, &emulator);
    for path in not_run {
        eprintln!("not run: {}: {}", path.path, path.reason);
    }
    // The numbered test 300 is run on all of them.
    let paths = match std::env::var("QTEST_PATH") {
        Ok(only) => Vec::from_iter(paths.into_iter().filter(|p| p.to_string().contains(&only))),
        Err(_) => graph::cover(&paths),
    };
    for path in paths.iter().filter(|path| path.machine() == machine) {
        eprintln!("{path}");
        keeps_what_is_written(path);
    }
}

#[test]
fn every_disk_of_pc_keeps_what_is_written() {
    every_disk_of("pc");
}

#[test]
fn every_disk_of_q35_keeps_what_is_written() {
    every_disk_of("q35");
}

#[test]
fn every_disk_of_microvm_keeps_what_is_written() {
    every_disk_of("microvm");
}

/// Requests of all queues at once, of which none disturbs another, nor the one that fails.
fn requests_go_together(disk: &mut dyn Disk, guest: &mut Guest, path: &graph::Path) {
    let features = disk.features().clone();
    let count = features.depth.min(8) as u64;
    let mut sent = Vec::new();
    for index in 0..count {
        let buffer = guest.buffer(&[4096], 4096).unwrap();
        guest
            .fill_buffer(&buffer, &pattern(20 + index, BLOCK))
            .unwrap();
        let offset = (100 + index) * BLOCK;
        let fua = false;
        let request = Request::Write {
            offset,
            buffer,
            fua,
        };
        let queue = usize::try_from(index).unwrap() % features.queues;
        sent.push(disk.submit(guest, queue, &request).unwrap());
    }
    let mut ended = Vec::new();
    let last = *sent.last().unwrap();
    let status = block::wait(disk, guest, last, &mut ended).unwrap();
    ended.push((last, status));
    while ended.len() < sent.len() {
        ended.extend(disk.poll(guest).unwrap());
    }
    for (tag, status) in ended {
        assert!(sent.contains(&tag), "{path}");
        assert_eq!(status, Status::Done, "{path}");
    }
    let back = block::read(disk, guest, 100 * BLOCK, count * BLOCK).unwrap();
    for index in 0..count {
        let at = usize::try_from(index * BLOCK).unwrap();
        assert!(
            back[at..at + 4096] == pattern(20 + index, BLOCK),
            "{path}: request {index} of several"
        );
    }
}

/// A request that fails among others: all end, and the device goes on. A disk with queued
/// commands may give up all that are on their way.
fn one_fails_among_others(disk: &mut dyn Disk, guest: &mut Guest, path: &graph::Path) {
    let count = disk.features().depth.min(6) as u64;
    let bad = count / 2;
    let mut sent = Vec::new();
    for index in 0..count {
        let buffer = guest.buffer(&[4096], 4096).unwrap();
        let beyond = if index == bad { 2 * disk.size() } else { 0 };
        let offset = (100 + index) * BLOCK + beyond;
        let request = Request::Read { offset, buffer };
        sent.push(disk.submit(guest, 0, &request).unwrap());
    }
    let mut ended = Vec::new();
    let failing = sent[usize::try_from(bad).unwrap()];
    let status = block::wait(disk, guest, failing, &mut ended).unwrap();
    assert!(
        matches!(status, Status::Failed { .. }),
        "{path}: {status:?}"
    );
    for tag in sent.into_iter().filter(|tag| *tag != failing) {
        if !ended.iter().any(|(other, _)| *other == tag) {
            block::wait(disk, guest, tag, &mut ended).unwrap();
        }
    }
    let back = block::read(disk, guest, 100 * BLOCK, BLOCK).unwrap();
    assert!(back == pattern(20, BLOCK), "{path}: after a failure");
}

fn keeps_what_is_written(path: &graph::Path) {
    let size = path.image_size(SIZE);
    let mut machine = Machine::of(path, size);
    let mut disk = machine.disk(path);
    let disk = disk.as_mut();
    let features = disk.features().clone();
    assert_eq!(disk.size(), size, "{path}");
    let guest = &mut machine.guest;

    let data = pattern(1, 128 << 10);
    block::write(disk, guest, 3 * BLOCK, &data).unwrap();
    let back = block::read(disk, guest, 3 * BLOCK, 128 << 10).unwrap();
    assert!(back == data, "{path}: what is read is not what was written");
    let last = pattern(2, BLOCK);
    block::write(disk, guest, size - BLOCK, &last).unwrap();
    if features.flush {
        let status = block::execute(disk, guest, &Request::Flush).unwrap();
        assert_eq!(status, Status::Done, "{path}: flush");
    }

    if features.scatter {
        let sizes = [4096, 512, 1024, 2560];
        let written = guest.buffer(&sizes, 4096).unwrap();
        guest.fill_buffer(&written, &pattern(3, 8192)).unwrap();
        let write = Request::Write {
            offset: 64 * BLOCK,
            buffer: written.clone(),
            fua: features.fua,
        };
        assert_eq!(
            block::execute(disk, guest, &write).unwrap(),
            Status::Done,
            "{path}"
        );
        let buffer = guest.buffer(&sizes, 4096).unwrap();
        let read = Request::Read {
            offset: 64 * BLOCK,
            buffer: buffer.clone(),
        };
        assert_eq!(
            block::execute(disk, guest, &read).unwrap(),
            Status::Done,
            "{path}"
        );
        assert!(
            guest.buffer_bytes(&buffer).unwrap() == pattern(3, 8192),
            "{path}: scattered"
        );
    }

    requests_go_together(disk, guest, path);
    one_fails_among_others(disk, guest, path);

    let buffer = guest.buffer(&[4096], 4096).unwrap();
    // Floppy drives step a little beyond the last cylinder.
    let beyond = if path.has("floppy") { size } else { 0 };
    let past = Request::Read {
        offset: size + beyond,
        buffer,
    };
    let status = block::execute(disk, guest, &past).unwrap();
    assert!(
        matches!(status, Status::Failed { .. }),
        "{path}: past the end: {status:?}"
    );

    if features.write_zeroes {
        let zeroes = Request::WriteZeroes {
            offset: 4 * BLOCK,
            length: BLOCK,
            unmap: false,
        };
        assert_eq!(
            block::execute(disk, guest, &zeroes).unwrap(),
            Status::Done,
            "{path}"
        );
        let back = block::read(disk, guest, 3 * BLOCK, 3 * BLOCK).unwrap();
        assert!(back[4096..8192].iter().all(|&b| b == 0), "{path}: zeroes");
        assert!(
            back[..4096] == data[..4096],
            "{path}: what is before the zeroes"
        );
        assert!(
            back[8192..] == data[8192..3 * 4096],
            "{path}: what is behind the zeroes"
        );
    }
    if features.discard {
        let discard = Request::Discard {
            offset: 16 * BLOCK,
            length: BLOCK,
        };
        assert_eq!(
            block::execute(disk, guest, &discard).unwrap(),
            Status::Done,
            "{path}"
        );
    }

    disk.reset(guest).unwrap();
    let back = block::read(disk, guest, size - BLOCK, BLOCK).unwrap();
    assert!(back == last, "{path}: after a reset");
    assert_eq!(disk.refresh_size(guest).unwrap(), size, "{path}");
    let image = machine.image();
    assert!(
        image[usize::try_from(size).unwrap() - 4096..] == last,
        "{path}: the image"
    );
}
