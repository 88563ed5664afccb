//! Rules of the headers and of the log.

use super::table::{
    CURRENT_HEADER, HEADER_RESERVED, HEADER_SEQUENCE, HEADER_SIGNATURE, LOG_ALIGNED,
    LOG_DESCRIPTOR, LOG_ENTRY, LOG_FILE_SIZE, LOG_INSIDE, LOG_RESERVED, LOG_SEQUENCE, LOG_SIZES,
    LOG_TARGET, LOG_VERSION, VERSION,
};
use crate::checker::Checker;
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::vhdx::layout::{HEADER_BYTES, HEADERS, Header, MIB, REGION_TABLES};
use crate::vhdx::log::{Entry, Problem, Replay, Ring, SECTOR};

/// Bytes of a header that have a meaning.
const USED: usize = 80;
/// The most entries of the log, and the most descriptors of each, that are looked at.
const LISTED: u64 = 1024;

pub(super) fn check(source: &Store, checker: &mut Checker) {
    for (index, at) in HEADERS.into_iter().enumerate() {
        let bytes = source.read_vec(at, HEADER_BYTES);
        let path = format!("header[{index}].signature");
        checker.require(
            bytes.starts_with(b"head"),
            (&path, at, HEADER_SIGNATURE),
            || format!("must be head, is {}", bytes[..4].escape_ascii()),
        );
        let unused = bytes[USED..].iter().position(|byte| *byte != 0);
        let path = format!("header[{index}]");
        checker.require(unused.is_none(), (&path, at, HEADER_RESERVED), || {
            let offset = unused.unwrap_or(0) + USED;
            format!("must be zeros from byte {USED} on, byte {offset} is not")
        });
    }
    let [one, two] = [0, 1].map(|index| Header::read(source, index));
    let valid = one.is_valid(source) && two.is_valid(source);
    let newer = !valid || one.sequence != two.sequence;
    let at = ("header[1].sequence_number", two.at + 8, HEADER_SEQUENCE);
    checker.require(newer, at, || {
        format!(
            "must differ from that of the other header, is {}",
            two.sequence
        )
    });
    let current = Header::current(source);
    let at = ("header[0]", one.at, CURRENT_HEADER);
    checker.require(current.is_some(), at, || {
        "no header is valid and newer than the other one".to_owned()
    });
    if let Some(header) = current {
        check_current(source, &header, checker);
    }
}

fn check_current(source: &Store, header: &Header, checker: &mut Checker) {
    let path = |name: &str| format!("header[{}].{name}", header.index);
    let version = header.version;
    checker.require(
        version == 1,
        (&path("version"), header.at + 66, VERSION),
        || format!("must be 1, is {version}"),
    );
    // Without a log to replay it does not matter where it is.
    let replayed = header.has_log();
    let version = header.log_version;
    let at = (
        path("log_version"),
        header.at + 64,
        LOG_VERSION.only_if(replayed),
    );
    checker.require(version == 0, (&at.0, at.1, at.2), || {
        format!("must be 0, is {version}")
    });
    let (offset, length) = (header.log_offset, header.log_length);
    let at = (
        path("log_offset"),
        header.at + 72,
        LOG_ALIGNED.only_if(replayed),
    );
    let aligned = offset.is_multiple_of(MIB) && offset > 0;
    checker.require(aligned, (&at.0, at.1, at.2), || {
        format!("must be a multiple of 1 MiB and not 0, is {offset:#x}")
    });
    let at = (
        path("log_length"),
        header.at + 68,
        LOG_ALIGNED.only_if(replayed),
    );
    let aligned = length.is_multiple_of(MIB) && (length > 0 || !replayed);
    checker.require(aligned, (&at.0, at.1, at.2), || {
        format!("must be a multiple of 1 MiB, is {length:#x}")
    });
    let end = offset.checked_add(length);
    let at = (
        path("log_offset"),
        header.at + 72,
        LOG_INSIDE.only_if(replayed),
    );
    let inside = end.is_some_and(|end| end <= source.len());
    checker.require(inside, (&at.0, at.1, at.2), || {
        format!("the log of {length:#x} bytes at {offset:#x} is not within the file")
    });
    if let Some(ring) = Ring::of(source, header) {
        for (index, entry) in ring.listed(LISTED as usize).iter().enumerate() {
            if replayed && entry.guid == header.log_guid {
                check_entry(&ring, (index, entry), header, checker);
            }
        }
    }
}

/// What an entry of a log that is to be replayed must be: if not, it does not count.
fn check_entry(
    ring: &Ring<'_>,
    (index, entry): (usize, &Entry),
    header: &Header,
    checker: &mut Checker,
) {
    let path = |name: &str| format!("log[{index}].{name}");
    let at = ring.at(entry.position);
    let descriptors = ring.descriptors(entry, LISTED);
    let data = descriptors.iter().filter(|found| found.is_data).count() as u64;
    let length = Entry::length_of(entry.descriptors, data);
    let listed = entry.descriptors <= LISTED;
    checker.require(
        entry.length == length || !listed,
        (&path("entry_length"), at + 8, LOG_ENTRY),
        || format!("must be {length}, is {}", entry.length),
    );
    let tail = entry.tail;
    let inside = tail.is_multiple_of(SECTOR) && tail < header.log_length;
    checker.require(inside, (&path("tail"), at + 12, LOG_ENTRY), || {
        format!("must be a multiple of 4 KiB within the log, is {tail:#x}")
    });
    checker.require(
        entry.sequence > 0,
        (&path("sequence_number"), at + 16, LOG_ENTRY),
        || "must not be 0".to_owned(),
    );
    let reserved = entry.reserved;
    checker.require(
        reserved == 0,
        (&path("reserved"), at + 28, LOG_RESERVED),
        || format!("must be 0, is {reserved:#x}"),
    );
    for (name, offset, size) in [
        ("flushed_file_offset", 48, entry.flushed),
        ("last_file_offset", 56, entry.last),
    ] {
        let unit = size.is_multiple_of(MIB);
        checker.require(unit, (&path(name), at + offset, LOG_SIZES), || {
            format!("must be a multiple of 1 MiB, is {size:#x}")
        });
    }
    for (number, found) in descriptors.iter().enumerate() {
        let at = ring.at(found.position);
        let path = |name: &str| format!("log[{index}].descriptor[{number}].{name}");
        checker.require(
            found.is_data || found.is_zero,
            (&path("signature"), at, LOG_DESCRIPTOR),
            || "must be zero or desc".to_owned(),
        );
        let (offset, length) = (found.offset, found.length);
        let aligned = offset.is_multiple_of(SECTOR) && length.is_multiple_of(SECTOR);
        let place = path("file_offset");
        checker.require(aligned, (&place, at + 16, LOG_DESCRIPTOR), || {
            format!("the {length:#x} bytes at {offset:#x} are not multiples of 4 KiB")
        });
        let end = offset.saturating_add(length);
        let log_end = header.log_offset.saturating_add(header.log_length);
        let outside = end <= header.log_offset || offset >= log_end;
        let allowed = offset >= REGION_TABLES[0] && outside;
        checker.require(allowed, (&place, at + 16, LOG_TARGET), || {
            format!("must not be in the headers or the log, is {offset:#x}")
        });
    }
}

/// Whether the log can be replayed.
pub(super) fn check_replay(source: &Store, replay: &Replay, checker: &mut Checker) {
    let Replay::Failed(problem) = replay else {
        return;
    };
    let header = Header::best(source);
    let path = format!("header[{}].log_guid", header.index);
    let rule = match problem {
        Problem::NoSequence => LOG_SEQUENCE,
        Problem::Truncated(_) => LOG_FILE_SIZE,
        // These have rules of their own, or are limits of this reader.
        Problem::Version(_) | Problem::Place | Problem::TooLarge => return,
    };
    checker.require(false, (&path, header.at + 48, rule), || problem.to_string());
}
