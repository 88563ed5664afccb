//! The bitmap directory, the bitmaps' tables and their data.

use super::{Builder, Contents, Piece};
use crate::qcow2::records::BITMAP_FIXED;
use crate::qcow2::write::spec::{Bitmap, BitmapCluster};
use crate::spec_error::{SpecError, ensure};

/// An entry of a bitmap table, before the data is placed.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Plain(u64),
    Part(usize),
}

/// The part of a bitmap's table, and its entries.
pub(super) struct BitmapPlan {
    table: usize,
    words: Vec<Entry>,
}

impl Builder<'_> {
    pub(super) fn plan_bitmaps(
        &mut self,
        contents: &mut Contents,
    ) -> Result<Vec<BitmapPlan>, SpecError> {
        let mut plans = Vec::new();
        for bitmap in &self.spec.bitmaps {
            let size = self.geometry.cluster_size();
            let granularity = 1_u64 << bitmap.granularity_bits;
            let bits = self.spec.virtual_size.div_ceil(granularity);
            let entries = self.geometry.clusters_for(bits.div_ceil(8));
            let given = bitmap.clusters.len() as u64;
            ensure!(
                given <= entries,
                "bitmap '{}' has {entries} clusters of data, {given} are described",
                bitmap.name
            );
            let table = self.add((entries * 8).max(1));
            let mut words = vec![Entry::Plain(0); usize::try_from(entries).unwrap_or(0)];
            for (index, (cluster, word)) in (0_u64..).zip(bitmap.clusters.iter().zip(&mut words)) {
                *word = match cluster {
                    BitmapCluster::Zeros => Entry::Plain(0),
                    BitmapCluster::Ones => Entry::Plain(1),
                    BitmapCluster::Data(pattern) => {
                        let mut data = pattern.bytes(size as usize);
                        clear_tail(&mut data, bits.saturating_sub(index * size * 8));
                        let part = self.add(size);
                        contents.push(Piece::plain(part, data));
                        Entry::Part(part)
                    }
                };
            }
            plans.push(BitmapPlan { table, words });
        }
        if !plans.is_empty() {
            let len: u64 = self
                .spec
                .bitmaps
                .iter()
                .map(|bitmap| bitmap_entry(bitmap, 0, 0).len() as u64)
                .sum();
            let directory = self.add(len);
            plans.push(BitmapPlan {
                table: directory,
                words: Vec::new(),
            });
        }
        Ok(plans)
    }

    /// Writes tables and directory; returns offset and length of the directory.
    pub(super) fn write_bitmaps(&mut self, plans: &[BitmapPlan]) -> Option<(u64, u64)> {
        let (last, tables) = plans.split_last()?;
        let mut directory = Vec::new();
        for (bitmap, plan) in self.spec.bitmaps.iter().zip(tables) {
            let at = self.at(plan.table);
            let word = |entry: &Entry| match *entry {
                Entry::Plain(word) => word,
                Entry::Part(part) => self.at(part),
            };
            let table: Vec<u8> = plan
                .words
                .iter()
                .flat_map(|entry| word(entry).to_be_bytes())
                .collect();
            self.store.write(at, &table);
            directory.extend(bitmap_entry(bitmap, at, plan.words.len() as u32));
        }
        let at = self.at(last.table);
        self.store.write(at, &directory);
        Some((at, directory.len() as u64))
    }
}

/// Clears all bits after the first `bits` ones.
fn clear_tail(data: &mut [u8], bits: u64) {
    let whole = usize::try_from(bits / 8)
        .unwrap_or(usize::MAX)
        .min(data.len());
    if let Some(byte) = data.get_mut(whole) {
        *byte &= ((1_u16 << (bits % 8)) - 1) as u8;
    }
    if let Some(rest) = data.get_mut(whole + 1..) {
        rest.fill(0);
    }
}

/// Bytes of an entry of the bitmap directory.
fn bitmap_entry(bitmap: &Bitmap, table: u64, entries: u32) -> Vec<u8> {
    let flags = u32::from(bitmap.in_use) | u32::from(bitmap.enabled) << 1;
    let mut entry = Vec::with_capacity(BITMAP_FIXED as usize + bitmap.name.len());
    entry.extend(table.to_be_bytes());
    entry.extend(entries.to_be_bytes());
    entry.extend(flags.to_be_bytes());
    entry.push(1);
    entry.push(bitmap.granularity_bits);
    entry.extend((bitmap.name.len() as u16).to_be_bytes());
    entry.extend(0_u32.to_be_bytes());
    entry.extend(bitmap.name.as_bytes());
    entry.resize(entry.len().next_multiple_of(8), 0);
    entry
}
