//! Putting structures into the log instead of their places.

use super::places::{LOG_GUID, Places};
use super::spec::{Log, LogWrite, Spec};
use crate::guid::{self, Guid};
use crate::io::ReadAt as _;
use crate::pattern::Pattern;
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;
use crate::vhdx::layout::{MIB, REGION_TABLES, TABLE_BYTES};
use crate::vhdx::log::{Entry, SECTOR, Update, entry_bytes};

/// How much of the BAT and of each sector bitmap goes through the log, in bytes.
const LOGGED: u64 = 64 << 10;

/// Moves what `log` names from its place in `store` into the log.
pub(super) fn write_log(
    spec: &Spec,
    log: &Log,
    places: &Places,
    store: &mut Store,
) -> Result<(), SpecError> {
    ensure!(
        log.sequence_number > 1,
        "the first entry has a sequence number of at least 2"
    );
    let most = u64::MAX - 2 - log.writes.len() as u64;
    ensure!(
        log.sequence_number <= most,
        "sequence numbers up to {most} only"
    );
    let sectors = spec.log_length / SECTOR as u32;
    ensure!(
        log.sector < sectors,
        "sector {} of a log of {sectors}",
        log.sector
    );
    let whole = store.clone();
    let mut entries = Vec::new();
    for write in &log.writes {
        let ranges = ranges(*write, places);
        let updates = ranges.iter().flat_map(|range| updates(&whole, *range));
        entries.push(updates.collect());
        for (at, len) in ranges {
            // A reader that does not replay the log finds this.
            store.write(at, &Pattern::Noise(spec.seed ^ at).bytes(len as usize));
        }
    }
    if entries.is_empty() {
        entries.push(Vec::new());
    }
    if log.extends {
        let end = last_byte(store).next_multiple_of(MIB);
        ensure!(
            end < store.len(),
            "the file ends with its last byte that is not 0"
        );
        store.resize(end);
    }
    if log.applied {
        entries.insert(0, vec![applied(spec, places)?]);
    }
    put(spec, log, places, entries, store)
}

/// Writes the entries in sequence.
fn put(
    spec: &Spec,
    log: &Log,
    places: &Places,
    entries: Vec<Vec<(u64, Update)>>,
    store: &mut Store,
) -> Result<(), SpecError> {
    let length = u64::from(spec.log_length);
    let file = store.len();
    let mut position = u64::from(log.sector) * SECTOR;
    let mut sequence = log.sequence_number - u64::from(log.applied);
    let (mut tail, mut used) = (position, 0);
    let mut put = |updates: &[(u64, Update)], tail, sequence, guid: Guid, position: &mut u64| {
        let entry = Entry {
            position: *position,
            length: 0,
            tail,
            sequence,
            descriptors: updates.len() as u64,
            reserved: 0,
            guid,
            flushed: file,
            last: places.end,
        };
        for sector in entry_bytes(&entry, updates).chunks(SECTOR as usize) {
            store.write(places.log + *position, sector);
            *position = (*position + SECTOR) % length;
            used += SECTOR;
        }
    };
    for (index, updates) in entries.iter().enumerate() {
        // An entry that was applied is before the tail of those behind it.
        if log.applied && index == 1 {
            tail = position;
        }
        put(updates, tail, sequence, spec.guid(LOG_GUID), &mut position);
        sequence += 1;
    }
    if log.stale {
        let update = [(places.metadata, Update::Data(vec![0xee; SECTOR as usize]))];
        let other = guid::seeded(spec.seed, u64::MAX);
        put(&update, position, sequence, other, &mut position);
    }
    ensure!(
        used <= length,
        "{used} bytes of entries in a log of {length}"
    );
    Ok(())
}

/// What an entry has that was applied long ago: since then a payload block was put there.
fn applied(spec: &Spec, places: &Places) -> Result<(u64, Update), SpecError> {
    let (_, at) = places
        .payload
        .first()
        .ok_or_else(|| SpecError("no block was put where an entry wrote".to_owned()))?;
    let sector = Pattern::Noise(!spec.seed).bytes(SECTOR as usize);
    Ok((*at, Update::Data(sector)))
}

/// The parts of the file that a write covers: byte offset and bytes.
fn ranges(write: LogWrite, places: &Places) -> Vec<(u64, u64)> {
    match write {
        LogWrite::RegionTables => REGION_TABLES.map(|at| (at, TABLE_BYTES as u64)).to_vec(),
        LogWrite::Bat => vec![(places.bat, LOGGED)],
        LogWrite::Metadata => vec![(places.metadata, TABLE_BYTES as u64 + LOGGED)],
        LogWrite::SectorBitmaps => {
            let bitmaps = places.bitmaps.iter();
            bitmaps.map(|(_, at)| (*at, LOGGED)).collect()
        }
    }
}

/// The sectors of a part of the file, zeros taken together.
fn updates(whole: &Store, (at, len): (u64, u64)) -> Vec<(u64, Update)> {
    let mut updates: Vec<(u64, Update)> = Vec::new();
    for at in (at..at + len).step_by(SECTOR as usize) {
        let sector = whole.read_vec(at, SECTOR as usize);
        if sector.iter().any(|byte| *byte != 0) {
            updates.push((at, Update::Data(sector)));
        } else if let Some((_, Update::Zero(length))) = updates.last_mut() {
            *length += SECTOR;
        } else {
            updates.push((at, Update::Zero(SECTOR)));
        }
    }
    updates
}

/// Where the bytes end that are not all zeros.
fn last_byte(store: &Store) -> u64 {
    let mut end = 0;
    while let Some(range) = store.next_data(end) {
        end = range.end;
    }
    end
}
