//! What is particular to SCSI, whatever carries it.

use qtest::block::{self, Request, Status};
use qtest::graph::{self, Kind, Path};

use super::emulator::{Machine, emulator};
use super::{SIZE, pattern};

/// The paths of the machine `pc` with a disk of SCSI behind a host adapter.
fn paths() -> Vec<Path> {
    let Some(emulator) = emulator() else {
        return Vec::new();
    };
    let (mut paths, _) = graph::paths(graph::BLOCK, &emulator);
    paths.retain(|path| {
        let mut nodes = path.nodes.iter();
        let disk = nodes
            .any(|node| matches!(node.kind, Kind::Device(text) if text.starts_with("scsi-hd")));
        path.machine() == "pc" && disk && !path.has("pci-bridge")
    });
    assert!(!paths.is_empty());
    paths
}

#[test]
fn long_lists_of_pieces_and_large_blocks_are_transferred() {
    for path in paths() {
        let properties = ",logical_block_size=4096,physical_block_size=4096";
        let mut machine = Machine::with(&path.arguments("disk", properties), SIZE);
        let mut disk = machine.disk(&path);
        let disk = disk.as_mut();
        assert_eq!(disk.block_size(), 4096, "{path}");
        assert_eq!(disk.size(), SIZE, "{path}");
        let guest = &mut machine.guest;
        // A driver does the same whether its writes wait or not.
        guest.set_posted(true).unwrap();
        let pieces = [1024; 64];
        let data = pattern(9, 64 << 10);
        let buffer = guest.buffer(&pieces, 1024).unwrap();
        guest.fill_buffer(&buffer, &data).unwrap();
        let write = Request::Write {
            offset: 8192,
            buffer,
            fua: false,
        };
        assert_eq!(
            block::execute(disk, guest, &write).unwrap(),
            Status::Done,
            "{path}"
        );
        let buffer = guest.buffer(&pieces, 1024).unwrap();
        let whole = buffer.clone();
        let offset = 8192;
        let read = Request::Read { offset, buffer };
        assert_eq!(
            block::execute(disk, guest, &read).unwrap(),
            Status::Done,
            "{path}"
        );
        assert!(guest.buffer_bytes(&whole).unwrap() == data, "{path}");
        // More than the buffer of an emulated device holds at once.
        let data = pattern(11, 1 << 20);
        block::write(disk, guest, 0, &data).unwrap();
        let back = block::read(disk, guest, 0, 1 << 20).unwrap();
        assert!(back == data, "{path}: a megabyte");
    }
}

#[test]
fn a_device_says_why_it_refuses() {
    for path in paths() {
        let blockdev = format!("null-co,node-name=null,read-only=on,size={SIZE},read-zeroes=on");
        let mut arguments = path.arguments("null", "");
        arguments.extend(["-blockdev".to_owned(), blockdev]);
        let mut machine = Machine::with(&arguments, SIZE);
        let mut disk = machine.disk(&path);
        let disk = disk.as_mut();
        assert!(disk.features().read_only, "{path}");
        let guest = &mut machine.guest;
        let buffer = guest.buffer(&[4096], 4096).unwrap();
        let write = Request::Write {
            offset: 0,
            buffer: buffer.clone(),
            fua: false,
        };
        let why = |status| match status {
            Status::Failed { why } => why,
            Status::Done => panic!("{path}: done"),
        };
        let refused = why(block::execute(disk, guest, &write).unwrap());
        assert_eq!(refused, "DATA PROTECT, WRITE PROTECTED (7/27/00)", "{path}");
        let offset = SIZE;
        let past = Request::Read { offset, buffer };
        let refused = why(block::execute(disk, guest, &past).unwrap());
        let words = "ILLEGAL REQUEST, LOGICAL BLOCK ADDRESS OUT OF RANGE (5/21/00)";
        assert_eq!(refused, words, "{path}");
        let discard = Request::Discard {
            offset: 1,
            length: 512,
        };
        let not_said = block::execute(disk, guest, &discard).unwrap_err();
        let not_said = not_said.to_string();
        let words = format!(
            "{}: 512 bytes at 1 are no range of SCSI blocks",
            disk.name()
        );
        assert_eq!(not_said, words, "{path}");
        let zeroes = block::read(disk, guest, 0, 4096).unwrap();
        assert!(zeroes.iter().all(|b| *b == 0), "{path}");
    }
}

#[test]
fn errors_of_the_medium_are_reported_and_leave_the_device_as_it_was() {
    for path in paths() {
        // Every read of this sector fails.
        let blockdev = "blkdebug,node-name=broken,image=disk,inject-error.0.event=none,\
             inject-error.0.iotype=read,inject-error.0.sector=64";
        let mut arguments = path.arguments("broken", ",rerror=report");
        arguments.extend(["-blockdev", blockdev].map(str::to_owned));
        let mut machine = Machine::with(&arguments, SIZE);
        let mut disk = machine.disk(&path);
        let disk = disk.as_mut();
        let guest = &mut machine.guest;
        let buffer = guest.buffer(&[4096], 4096).unwrap();
        for _ in 0..2 {
            let offset = 64 * 512;
            let buffer = buffer.clone();
            let broken = Request::Read { offset, buffer };
            let status = block::execute(disk, guest, &broken).unwrap();
            let Status::Failed { why } = status else {
                panic!("{path}: done");
            };
            let words = "ABORTED COMMAND, I/O PROCESS TERMINATED (b/00/06)";
            assert_eq!(why, words, "{path}");
            block::read(disk, guest, 0, 4096).unwrap();
        }
        // QEMU's 53C8xx keeps a command that failed after its target had gone away, and its next
        // reset ends the emulator: lsi_soft_reset: QTAILQ_EMPTY(&s->queue).
        if disk.name() != "lsi53c8xx" {
            disk.reset(guest).unwrap();
            block::read(disk, guest, 0, 4096).unwrap();
        }
    }
}
