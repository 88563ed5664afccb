//! Building an image.

use super::spec::{Block, Locator, Spec};
use crate::block::{sorted_by, write_runs};
use crate::built::BuiltFile;
use crate::guid;
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;
use crate::value::Endian::Big;
use crate::vpc::layout::{
    COOKIE, DIFFERENCING, DYNAMIC, DYNAMIC_BYTES, DYNAMIC_COOKIE, FIXED, SECTOR, UNUSED,
    complement_sum,
};
use crate::vpc::locator::{LOCATOR_BYTES, LOCATORS_AT};

/// The most sectors of a file: entries of the table have no larger ones.
const MOST_SECTORS: u64 = UNUSED;
/// The most entries of a table: one of 2 MiB for each block of the largest disk.
const MOST_ENTRIES: u64 = 1 << 22;

/// The image that `spec` describes, called `name`.
///
/// # Errors
///
/// The parts of `spec` contradict each other or the format.
pub fn build(spec: &Spec, name: &str) -> Result<Vec<BuiltFile>, SpecError> {
    spec.validate()?;
    let blocks = sorted(spec)?;
    let mut store = Store::new();
    if spec.fixed {
        fixed(spec, &blocks, &mut store)?;
    } else {
        sparse(spec, &blocks, &mut store)?;
    }
    Ok(vec![BuiltFile {
        name: name.to_owned(),
        bytes: store,
    }])
}

/// The blocks in rising order.
fn sorted(spec: &Spec) -> Result<Vec<&Block>, SpecError> {
    let count = spec.virtual_size.div_ceil(spec.block_size.into());
    sorted_by(&spec.blocks, |block| block.index, count)
}

/// The data, and behind it the footer.
fn fixed(spec: &Spec, blocks: &[&Block], store: &mut Store) -> Result<(), SpecError> {
    // What does not count of the current size is in the file all the same.
    let size = spec.current_size.unwrap_or(spec.virtual_size);
    for block in blocks {
        let at = block.index * u64::from(spec.block_size);
        let end = block.runs.last().map_or(0, |run| run.end() * SECTOR);
        ensure!(
            at + end <= spec.virtual_size,
            "block {} has data past the disk",
            block.index
        );
        write_runs(&block.runs, SECTOR, at, store);
    }
    store.resize(size);
    store.write(size, &footer(spec, FIXED, u64::MAX));
    Ok(())
}

/// Headers, tables and blocks, and behind them the footer.
fn sparse(spec: &Spec, blocks: &[&Block], store: &mut Store) -> Result<(), SpecError> {
    let block_size = u64::from(spec.block_size);
    // The table is made for the size that the footer has.
    let size = spec.current_size.unwrap_or(spec.virtual_size);
    let needed = size.max(spec.virtual_size).div_ceil(block_size);
    let entries = needed + u64::from(spec.spare_entries);
    ensure!(entries <= MOST_ENTRIES, "a table of {entries} entries");
    let bitmap = (block_size / SECTOR).div_ceil(8).next_multiple_of(SECTOR);
    let locators = spec
        .parent
        .as_ref()
        .map_or(&[][..], |parent| &parent.locators);
    let space = |locator: &Locator| (locator.encoded().1.len() as u64).div_ceil(SECTOR);
    let mut lengths = vec![DYNAMIC_BYTES / SECTOR, (entries * 4).div_ceil(SECTOR)];
    lengths.extend(locators.iter().map(space));
    lengths.resize(lengths.len() + blocks.len(), (bitmap + block_size) / SECTOR);
    let (firsts, total) = spec.placement.arrange(&lengths, 1);
    ensure!(total < MOST_SECTORS, "an image of {total} sectors");
    let at: Vec<u64> = firsts.iter().map(|sector| sector * SECTOR).collect();
    let (locator_places, block_places) = at[2..].split_at(locators.len());
    let kind = match spec.parent {
        Some(_) => DIFFERENCING,
        None => DYNAMIC,
    };
    store.resize(total * SECTOR);
    let footer = footer(spec, kind, at[0]);
    store.write(0, &footer);
    store.write(total * SECTOR, &footer);
    let header = dynamic_header(spec, at[1], entries, locators, locator_places);
    store.write(at[0], &header);
    for (locator, at) in locators.iter().zip(locator_places) {
        store.write(*at, &locator.encoded().1);
    }
    let table_end = (entries * 4).next_multiple_of(SECTOR);
    store.write(at[1], &vec![0xff; table_end as usize]);
    for (block, place) in blocks.iter().zip(block_places) {
        let entry = (place / SECTOR) as u32;
        store.write(at[1] + block.index * 4, &entry.to_be_bytes());
        store.write(*place, &bits(block, block_size / SECTOR));
        write_runs(&block.runs, SECTOR, place + bitmap, store);
    }
    Ok(())
}

/// The bitmap of a block.
fn bits(block: &Block, sectors: u64) -> Vec<u8> {
    let mut bits = vec![0; sectors.div_ceil(8) as usize];
    let mut set = |sector: u64| bits[(sector / 8) as usize] |= 0x80 >> (sector % 8);
    if block.all_sectors {
        (0..sectors).for_each(&mut set);
    }
    for run in &block.runs {
        (u64::from(run.first)..run.end()).for_each(&mut set);
    }
    bits
}

/// Puts the checksum of a structure to byte `at` of it.
fn seal(bytes: &mut [u8], at: usize) {
    let sum = complement_sum(bytes);
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
}

fn footer(spec: &Spec, kind: u64, data_offset: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SECTOR as usize);
    let size = spec.current_size.unwrap_or(spec.virtual_size);
    let (cylinders, heads, sectors) = spec.chs();
    bytes.extend_from_slice(COOKIE);
    bytes.extend_from_slice(&(2 | u32::from(spec.temporary)).to_be_bytes());
    bytes.extend_from_slice(&0x1_0000_u32.to_be_bytes());
    bytes.extend_from_slice(&data_offset.to_be_bytes());
    bytes.extend_from_slice(&spec.timestamp.to_be_bytes());
    bytes.extend_from_slice(&Spec::padded(&spec.creator_app));
    bytes.extend_from_slice(&0x5_0003_u32.to_be_bytes());
    bytes.extend_from_slice(&Spec::padded(&spec.creator_os));
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes.extend_from_slice(&cylinders.to_be_bytes());
    bytes.extend_from_slice(&[heads, sectors]);
    bytes.extend_from_slice(&(kind as u32).to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&spec.uuid());
    bytes.push(spec.saved_state.into());
    bytes.resize(SECTOR as usize, 0);
    seal(&mut bytes, 64);
    bytes
}

fn dynamic_header(
    spec: &Spec,
    table: u64,
    entries: u64,
    locators: &[Locator],
    places: &[u64],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(DYNAMIC_BYTES as usize);
    bytes.extend_from_slice(DYNAMIC_COOKIE);
    bytes.extend_from_slice(&u64::MAX.to_be_bytes());
    bytes.extend_from_slice(&table.to_be_bytes());
    bytes.extend_from_slice(&0x1_0000_u32.to_be_bytes());
    bytes.extend_from_slice(&(entries as u32).to_be_bytes());
    bytes.extend_from_slice(&spec.block_size.to_be_bytes());
    bytes.resize(DYNAMIC_BYTES as usize, 0);
    if let Some(parent) = &spec.parent {
        bytes[40..56].copy_from_slice(&guid::seeded(parent.seed, 0));
        bytes[56..60].copy_from_slice(&parent.timestamp.to_be_bytes());
        let name = Big.encode_utf16(&parent.name);
        bytes[64..64 + name.len()].copy_from_slice(&name);
    }
    let entries = bytes[LOCATORS_AT as usize..].chunks_exact_mut(LOCATOR_BYTES as usize);
    for ((entry, locator), at) in entries.zip(locators).zip(places) {
        let (code, name) = locator.encoded();
        let sectors = name.len().div_ceil(SECTOR as usize) as u32;
        let space = match locator.space_in_sectors {
            true => sectors,
            false => sectors * SECTOR as u32,
        };
        entry[..4].copy_from_slice(code);
        entry[4..8].copy_from_slice(&space.to_be_bytes());
        entry[8..12].copy_from_slice(&(name.len() as u32).to_be_bytes());
        entry[16..].copy_from_slice(&at.to_be_bytes());
    }
    seal(&mut bytes, 36);
    bytes
}
