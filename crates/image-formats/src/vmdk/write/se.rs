//! Space-efficient sparse extents of ESX Server.

use super::{Content, Part, Spec, check_sectors};
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;
use crate::vmdk::layout::{
    LARGE_TABLE_ENTRIES, SE_MAGIC, SE_REGIONS, SE_VERSION, SE_VOLATILE_MAGIC, SECTOR,
};

/// Sectors in a grain.
const GRAIN: u64 = 8;
/// Sectors in a grain table.
const TABLE: u64 = LARGE_TABLE_ENTRIES * 8 / SECTOR;

/// An extent.
///
/// # Errors
///
/// It would be too large, or has contents that it cannot have.
pub(super) fn build(spec: &Spec, part: &Part<'_>) -> Result<Store, SpecError> {
    let tables = part.tables(spec);
    let stored = part.blocks.iter();
    let stored = stored.filter(|(_, content)| matches!(content, Content::Data(_)));
    let count = stored.count();
    let (numbers, grains) = spec.placement.arrange(&vec![1; count], 0);
    let directory = (part.directory_entries(spec) * 8).div_ceil(SECTOR);
    // In the order of the header, each behind the one before it.
    let sizes = [
        1,
        1,
        1,
        directory,
        (tables.len() as u64).max(1) * TABLE,
        grains.div_ceil(8 * SECTOR).max(1),
        (grains * 8).div_ceil(SECTOR).max(1),
        grains.max(1) * GRAIN,
    ];
    let mut regions = [0; SE_REGIONS.len()];
    let mut next = 1;
    for (first, size) in regions.iter_mut().zip(sizes) {
        (*first, next) = (next, next + size);
    }
    check_sectors(next)?;
    let mut store = Store::new();
    store.resize(next * SECTOR);
    header(part, regions, sizes, &mut store);
    let [volatile, _, _, directory_at, tables_at, _, _, grains_at] = regions.map(|it| it * SECTOR);
    store.write(volatile, &SE_VOLATILE_MAGIC.to_le_bytes());
    store.write(volatile + 8, &(tables.len() as u64).to_le_bytes());
    for (number, index) in tables.iter().enumerate() {
        let entry = 1 << 60 | number as u64;
        store.write(directory_at + index * 8, &entry.to_le_bytes());
    }
    let mut numbers = numbers.into_iter();
    for (index, content) in &part.blocks {
        let entry = match content {
            Content::Zero if spec.unmapped => 1 << 60,
            Content::Zero => 2 << 60,
            Content::Data(pattern) => {
                let number = numbers.next().unwrap_or(0);
                let at = grains_at + number * GRAIN * SECTOR;
                store.write(at, &pattern.bytes((GRAIN * SECTOR) as usize));
                3 << 60 | (number & 0xfff) << 48 | number >> 12
            }
            Content::Compressed(_) => {
                return Err(SpecError(format!(
                    "block {index}: seSparse is not compressed"
                )));
            }
        };
        let table = tables.partition_point(|table| *table < index / LARGE_TABLE_ENTRIES) as u64;
        let at = tables_at + table * TABLE * SECTOR + index % LARGE_TABLE_ENTRIES * 8;
        store.write(at, &u64::to_le_bytes(entry));
    }
    ensure!(!spec.unclean, "seSparse that is not closed has a journal");
    Ok(store)
}

fn header(
    part: &Part<'_>,
    regions: [u64; SE_REGIONS.len()],
    sizes: [u64; SE_REGIONS.len()],
    store: &mut Store,
) {
    for (offset, value) in [
        (0, SE_MAGIC),
        (8, SE_VERSION),
        (16, part.sectors),
        (24, GRAIN),
        (32, TABLE),
    ] {
        store.write(offset, &value.to_le_bytes());
    }
    for ((offset, _), (first, size)) in SE_REGIONS.iter().zip(regions.iter().zip(sizes)) {
        store.write(*offset, &first.to_le_bytes());
        store.write(offset + 8, &size.to_le_bytes());
    }
}
