//! Building an image.

use super::log::write_log;
use super::places::{
    DATA_WRITE_GUID, DISK_GUID, FILE_WRITE_GUID, LOG_GUID, OTHER_GUID, Places, UNKNOWN_GUID,
    USER_GUID, arrange,
};
use super::spec::{Block, BlockState, Headers, Spec};
use crate::block::{sorted_by, write_runs};
use crate::built::BuiltFile;
use crate::guid::{self, Guid};
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;
use crate::value::Endian::Little;
use crate::vhdx::layout::{
    BAT, HEADER_BYTES, HEADERS, KNOWN, Known, MAGIC, METADATA, MIB, REGION_TABLES, TABLE_BYTES,
};
use crate::vhdx::locator::{self, VHDX_LOCATOR};

/// The most blocks that are in the file.
const MOST_BLOCKS: u64 = 1 << 20;

/// The image that `spec` describes, called `name`.
///
/// # Errors
///
/// The parts of `spec` contradict each other or the format.
pub fn build(spec: &Spec, name: &str) -> Result<Vec<BuiltFile>, SpecError> {
    spec.validate()?;
    let blocks = all_blocks(spec)?;
    let places = arrange(spec, &blocks)?;
    let mut store = Store::new();
    store.resize(places.end);
    write_identifier(spec, &mut store);
    write_regions(&places, &mut store);
    write_metadata(spec, &places, &mut store);
    write_blocks(spec, &blocks, &places, &mut store);
    write_headers(spec, &places, &mut store);
    if let Some(log) = &spec.log {
        write_log(spec, log, &places, &mut store)?;
    }
    Ok(vec![BuiltFile {
        name: name.to_owned(),
        bytes: store,
    }])
}

/// The blocks in rising order, with those that a fixed image has in any case.
fn all_blocks(spec: &Spec) -> Result<Vec<Block>, SpecError> {
    let count = spec.payload_blocks();
    let blocks = sorted_by(&spec.blocks, |block| block.index, count)?;
    let mut blocks: Vec<Block> = blocks.into_iter().cloned().collect();
    if spec.fixed {
        ensure!(count <= MOST_BLOCKS, "a fixed image of {count} blocks");
        let named: Vec<u64> = blocks.iter().map(|block| block.index).collect();
        let missing = (0..count).filter(|index| named.binary_search(index).is_err());
        blocks.extend(missing.map(|index| Block {
            index,
            state: BlockState::FullyPresent,
            runs: Vec::new(),
        }));
        blocks.sort_by_key(|block| block.index);
    }
    Ok(blocks)
}

fn write_identifier(spec: &Spec, store: &mut Store) {
    store.write(0, MAGIC);
    store.write(8, &Little.encode_utf16(&spec.creator));
}

/// Puts the checksum of a structure behind its signature.
fn seal(bytes: &mut [u8]) {
    let checksum = crc32c::crc32c(bytes);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
}

/// Writes both headers, the current one last.
fn write_headers(spec: &Spec, places: &Places, store: &mut Store) {
    let log_guid: Guid = match spec.log {
        Some(_) => spec.guid(LOG_GUID),
        None => [0; 16],
    };
    // Without a log its place is still to be one that readers accept.
    let log_at = if spec.log_length == 0 {
        MIB
    } else {
        places.log
    };
    let current = usize::from(spec.headers != Headers::First);
    for index in [0, 1] {
        let older = u64::from(index != current);
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..4].copy_from_slice(b"head");
        bytes[8..16].copy_from_slice(&(spec.sequence_number - older).to_le_bytes());
        bytes[16..32].copy_from_slice(&spec.guid(FILE_WRITE_GUID));
        bytes[32..48].copy_from_slice(&spec.guid(DATA_WRITE_GUID));
        // The older header is of the time before there was a log.
        if index == current {
            bytes[48..64].copy_from_slice(&log_guid);
        }
        bytes[66..68].copy_from_slice(&1_u16.to_le_bytes());
        bytes[68..72].copy_from_slice(&spec.log_length.to_le_bytes());
        bytes[72..80].copy_from_slice(&log_at.to_le_bytes());
        seal(&mut bytes);
        store.write(HEADERS[index], &bytes);
    }
}

fn write_regions(places: &Places, store: &mut Store) {
    let mut regions = vec![
        (BAT, places.bat, places.bat_bytes, 1_u32),
        (METADATA, places.metadata, MIB, 1),
    ];
    if let Some(at) = places.unknown {
        regions.insert(1, (guid::seeded(at, UNKNOWN_GUID), at, MIB, 0));
    }
    let mut bytes = vec![0; TABLE_BYTES];
    bytes[..4].copy_from_slice(b"regi");
    bytes[8..12].copy_from_slice(&(regions.len() as u32).to_le_bytes());
    for (entry, (guid, at, length, required)) in bytes[16..].chunks_exact_mut(32).zip(regions) {
        entry[..16].copy_from_slice(&guid);
        entry[16..24].copy_from_slice(&at.to_le_bytes());
        entry[24..28].copy_from_slice(&(length as u32).to_le_bytes());
        entry[28..].copy_from_slice(&required.to_le_bytes());
    }
    seal(&mut bytes);
    for at in REGION_TABLES {
        store.write(at, &bytes);
    }
}

/// The metadata items: GUID, flags, contents.
fn items(spec: &Spec) -> Vec<(Guid, u64, Vec<u8>)> {
    let flags = u32::from(spec.fixed) | u32::from(spec.parent.is_some()) << 1;
    let parameters = [spec.block_size.to_le_bytes(), flags.to_le_bytes()].concat();
    let value = |item: Known| match item {
        Known::FileParameters => Some(parameters.clone()),
        Known::DiskSize => Some(spec.virtual_size.to_le_bytes().to_vec()),
        Known::DiskId => Some(spec.guid(DISK_GUID).to_vec()),
        Known::LogicalSectorSize => Some(spec.logical_sector_size.to_le_bytes().to_vec()),
        Known::PhysicalSectorSize => Some(spec.physical_sector_size.to_le_bytes().to_vec()),
        Known::ParentLocator => parent_locator(spec),
    };
    let known = KNOWN.iter();
    let known = known.filter_map(|known| Some((known.guid, known.flags, value(known.item)?)));
    let users = spec.user_metadata.iter().zip(USER_GUID..);
    let users = users.map(|(bytes, index)| (spec.guid(index), 1, bytes.clone()));
    known.chain(users).collect()
}

fn parent_locator(spec: &Spec) -> Option<Vec<u8>> {
    let parent = spec.parent.as_ref()?;
    let linkage = guid::text(&guid::seeded(parent.seed, DATA_WRITE_GUID));
    let other = guid::text(&guid::seeded(parent.seed, OTHER_GUID));
    let mut pairs = match parent.linkage2 {
        true => vec![("parent_linkage", other), ("parent_linkage2", linkage)],
        false => vec![("parent_linkage", linkage)],
    };
    pairs.extend(parent.paths());
    Some(locator::bytes(&VHDX_LOCATOR, &pairs))
}

fn write_metadata(spec: &Spec, places: &Places, store: &mut Store) {
    let items = items(spec);
    let mut head = b"metadata\0\0".to_vec();
    head.extend_from_slice(&(items.len() as u16).to_le_bytes());
    head.resize(32, 0);
    let mut next = TABLE_BYTES as u64;
    for (guid, flags, bytes) in items {
        let at = if bytes.is_empty() { 0 } else { next };
        head.extend_from_slice(&guid);
        for number in [at, bytes.len() as u64, flags, 0] {
            head.extend_from_slice(&(number as u32).to_le_bytes());
        }
        store.write(places.metadata + next, &bytes);
        next += bytes.len() as u64;
    }
    store.write(places.metadata, &head);
}

fn write_blocks(spec: &Spec, blocks: &[Block], places: &Places, store: &mut Store) {
    let ratio = spec.chunk_ratio();
    let sector = u64::from(spec.logical_sector_size);
    let entry_at = |index: u64| places.bat + (index + index / ratio) * 8;
    for block in blocks {
        let entry = block.state.number();
        store.write(entry_at(block.index), &entry.to_le_bytes());
    }
    for (block, at) in &places.payload {
        let entry = block.state.number() | at;
        store.write(entry_at(block.index), &entry.to_le_bytes());
        write_runs(&block.runs, sector, *at, store);
    }
    for (chunk, at) in &places.bitmaps {
        let entry = at | BlockState::FullyPresent.number();
        let place = places.bat + (chunk * (ratio + 1) + ratio) * 8;
        store.write(place, &entry.to_le_bytes());
        let bytes = u64::from(spec.block_size) / sector / 8;
        for (block, _) in &places.payload {
            if block.state == BlockState::PartiallyPresent && block.index / ratio == *chunk {
                let bits = bitmap(block, bytes as usize);
                store.write(at + block.index % ratio * bytes, &bits);
            }
        }
    }
}

/// The bits of the sectors that a block has.
fn bitmap(block: &Block, bytes: usize) -> Vec<u8> {
    let mut bits = vec![0; bytes];
    for run in &block.runs {
        for sector in u64::from(run.first)..run.end() {
            bits[(sector / 8) as usize] |= 1 << (sector % 8);
        }
    }
    bits
}
