//! Copy-on-write extents of ESX Server.

use super::{Content, Part, Spec, check_sectors};
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;
use crate::vmdk::layout::{COWD_MAGIC, LARGE_TABLE_ENTRIES, SECTOR};

/// Sectors of the header.
const HEADER: u64 = 4;
/// Sectors of a grain table.
const TABLE: u64 = LARGE_TABLE_ENTRIES * 4 / SECTOR;

/// An extent.
///
/// # Errors
///
/// It would be too large, or has contents that it cannot have.
pub(super) fn build(spec: &Spec, part: &Part<'_>) -> Result<Store, SpecError> {
    let sectors = part.sectors;
    let fits = u32::try_from(sectors).is_ok();
    ensure!(fits, "{sectors} sectors: vmfsSparse has 32-bit numbers");
    let grain = u64::from(spec.grain_size) / SECTOR;
    let tables = part.tables(spec);
    let entries = part.directory_entries(spec);
    let mut lengths = vec![(entries * 4).div_ceil(SECTOR)];
    lengths.resize(1 + tables.len(), TABLE);
    lengths.resize(1 + tables.len() + part.blocks.len(), grain);
    let (firsts, total) = spec.placement.arrange(&lengths, HEADER);
    check_sectors(total)?;
    let mut store = Store::new();
    store.resize(total * SECTOR);
    let (table_places, grain_places) = firsts[1..].split_at(tables.len());
    let entry = |sector: u64| (sector as u32).to_le_bytes();
    for (index, first) in tables.iter().zip(table_places) {
        store.write(firsts[0] * SECTOR + index * 4, &entry(*first));
    }
    for ((index, content), first) in part.blocks.iter().zip(grain_places) {
        let Content::Data(pattern) = content else {
            return Err(SpecError(format!(
                "block {index}: vmfsSparse has data only"
            )));
        };
        store.write(first * SECTOR, &pattern.bytes(spec.grain_size as usize));
        let table = tables.partition_point(|table| *table < index / LARGE_TABLE_ENTRIES);
        let at = table_places[table] * SECTOR + index % LARGE_TABLE_ENTRIES * 4;
        store.write(at, &entry(*first));
    }
    header(spec, part, (firsts[0], entries, total), &mut store)?;
    Ok(store)
}

fn header(
    spec: &Spec,
    part: &Part<'_>,
    (directory, entries, total): (u64, u64, u64),
    store: &mut Store,
) -> Result<(), SpecError> {
    let mut number = |offset: u64, value: u64| {
        store.write(offset, &(value as u32).to_le_bytes());
    };
    number(4, 1);
    number(8, 3);
    number(12, part.sectors);
    number(16, u64::from(spec.grain_size) / SECTOR);
    number(20, directory);
    number(24, entries);
    number(28, total);
    number(1648, spec.unclean.into());
    match &spec.parent {
        Some(parent) => {
            let len = parent.name.len();
            ensure!((4..1024).contains(&len), "a parent's name of {len} bytes");
            store.write(32, parent.name.as_bytes());
        }
        None => {
            number(32, (part.sectors / 16 / 63).clamp(1, 16383));
            number(36, 16);
            number(40, 63);
        }
    }
    store.write(0, COWD_MAGIC);
    Ok(())
}
