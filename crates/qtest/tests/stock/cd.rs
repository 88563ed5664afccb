//! CD drives.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use qtest::block::{self, Request, Status};
use qtest::drivers::scsi::cdb;
use qtest::graph;

use super::emulator::{Machine, emulator};
use super::{BLOCK, SIZE, pattern};

/// The state of the tray (MMC-6 6.5.2.6).
fn tray(disk: &mut dyn block::Disk, guest: &mut qtest::Guest) -> u8 {
    let length = cdb::MEDIA_EVENT_LENGTH.into();
    let bytes = disk.scsi(guest, cdb::media_event(), length).unwrap();
    bytes.unwrap()[5] & 3
}

#[test]
fn a_drive_reads_its_medium_and_moves_its_tray() {
    const TRAY_OPEN: u8 = 1;
    const MEDIUM_PRESENT: u8 = 2;
    let Some(emulator) = emulator() else { return };
    let (paths, _) = graph::paths(graph::CD, &emulator);
    let paths = graph::cover(&paths);
    assert!(paths.iter().any(|path| path.has("ahci-packets")));
    for path in paths {
        eprintln!("{path}");
        let mut machine = Machine::of(&path, SIZE);
        let file = OpenOptions::new()
            .write(true)
            .open(machine.dir.path().join("disk.raw"))
            .unwrap();
        file.write_all_at(&pattern(1, SIZE), 0).unwrap();
        let mut disk = machine.disk(&path);
        let (disk, guest) = (disk.as_mut(), &mut machine.guest);
        assert_eq!(disk.size(), SIZE, "{path}");
        assert!(disk.features().read_only, "{path}");
        let data = pattern(1, SIZE);
        // By each way that the drive has.
        for _ in 0..2 {
            let back = block::read(disk, guest, 3 * BLOCK, 16 * BLOCK).unwrap();
            let same = back == data[3 * 4096..19 * 4096];
            assert!(same, "{path}: what is read is not on the medium");
        }
        let buffer = guest.buffer(&[2048], 4096).unwrap();
        let past = Request::Read {
            offset: SIZE,
            buffer: buffer.clone(),
        };
        let refused = |status| matches!(status, Status::Failed { .. });
        assert!(
            refused(block::execute(disk, guest, &past).unwrap()),
            "{path}"
        );

        let keep = disk.scsi(guest, cdb::prevent_removal(true), 0).unwrap();
        assert_eq!(keep, Ok(Vec::new()), "{path}");
        let why = disk.scsi(guest, cdb::move_tray(true), 0).unwrap();
        assert!(why.is_err(), "{path}: the medium could be taken out");
        disk.scsi(guest, cdb::prevent_removal(false), 0)
            .unwrap()
            .unwrap();
        disk.scsi(guest, cdb::move_tray(true), 0).unwrap().unwrap();
        assert_eq!(tray(disk, guest) & TRAY_OPEN, TRAY_OPEN, "{path}");
        assert_eq!(disk.refresh_size(guest).unwrap(), 0, "{path}");
        let read = Request::Read { offset: 0, buffer };
        assert!(
            refused(block::execute(disk, guest, &read).unwrap()),
            "{path}"
        );

        disk.scsi(guest, cdb::move_tray(false), 0).unwrap().unwrap();
        assert_eq!(disk.refresh_size(guest).unwrap(), SIZE, "{path}");
        assert_eq!(tray(disk, guest), MEDIUM_PRESENT, "{path}");
        disk.reset(guest).unwrap();
        let back = block::read(disk, guest, SIZE - BLOCK, BLOCK).unwrap();
        assert!(back == data[data.len() - 4096..], "{path}: after a reset");
    }
}
