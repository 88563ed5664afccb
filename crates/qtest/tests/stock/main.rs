//! Every path of the graph on the emulator that is installed.

mod emulator;

use emulator::{Machine, emulator};
use qtest::block::{self, Request, Status};
use qtest::{Width, graph};

const SIZE: u64 = 1440 << 10;
const BLOCK: u64 = 4096;

/// Bytes that tell where they belong.
fn pattern(seed: u64, length: u64) -> Vec<u8> {
    (0..length)
        .map(|i| ((i / 512 + seed) % 251 + i % 3) as u8)
        .collect()
}

#[test]
fn every_disk_keeps_what_is_written() {
    let Some(emulator) = emulator() else {
        eprintln!("skipped: there is no emulator");
        return;
    };
    let (paths, not_run) = graph::paths("block", &emulator);
    for path in not_run {
        eprintln!("not run: {}: {}", path.path, path.reason);
    }
    let only = std::env::var("QTEST_PATH").unwrap_or_default();
    for path in paths.iter().filter(|p| p.to_string().contains(&only)) {
        eprintln!("{path}");
        keeps_what_is_written(path);
    }
}

#[test]
fn a_reset_is_done_before_what_follows() {
    if emulator().is_none() {
        eprintln!("skipped: there is no emulator");
        return;
    }
    for name in ["pc", "q35"] {
        let mut machine = Machine::with(&["-M".to_owned(), name.to_owned()], SIZE);
        let guest = &mut machine.guest;
        // The bus number of the address that the ports of the configuration space select.
        let select = 0x8001_0000;
        guest.port_out(Width::L, 0xcf8, select).unwrap();
        assert_eq!(guest.port_in(Width::L, 0xcf8).unwrap(), select);
        for _ in 0..3 {
            guest.client().reset().unwrap();
            assert_eq!(guest.port_in(Width::L, 0xcf8).unwrap(), 0, "{name}");
            guest.port_out(Width::L, 0xcf8, select).unwrap();
        }
    }
}

fn keeps_what_is_written(path: &graph::Path) {
    let mut machine = Machine::of(path, SIZE);
    let mut disk = machine.disk(path);
    let disk = disk.as_mut();
    let features = disk.features().clone();
    assert_eq!(disk.size(), SIZE, "{path}");
    let guest = &mut machine.guest;

    let data = pattern(1, 128 << 10);
    block::write(disk, guest, 3 * BLOCK, &data).unwrap();
    let back = block::read(disk, guest, 3 * BLOCK, 128 << 10).unwrap();
    assert!(back == data, "{path}: what is read is not what was written");
    let last = pattern(2, BLOCK);
    block::write(disk, guest, SIZE - BLOCK, &last).unwrap();
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

    let buffer = guest.buffer(&[4096], 4096).unwrap();
    let past = Request::Read {
        offset: SIZE,
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
    let back = block::read(disk, guest, SIZE - BLOCK, BLOCK).unwrap();
    assert!(back == last, "{path}: after a reset");
    assert_eq!(disk.refresh_size(guest).unwrap(), SIZE, "{path}");
    let image = machine.image();
    assert!(image[SIZE as usize - 4096..] == last, "{path}: the image");
}
