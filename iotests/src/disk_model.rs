//! A model of what the guest sees: sequences of writes, zeroes, discards,
//! resizes and snapshots are applied to it and to the image, and compared.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use anyhow::{Result, ensure};
use rand::{Rng, RngExt as _};

use crate::image::Image;
use crate::test::Test;

/// One thing done to an image. Offsets and lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Write a byte value over a range.
    Write {
        /// The byte.
        pattern: u8,
        /// Where.
        offset: u64,
        /// How much.
        length: u64,
    },
    /// Write zeroes as zeroes (`write -z`), perhaps freeing the clusters.
    Zero {
        /// Where.
        offset: u64,
        /// How much.
        length: u64,
        /// Whether clusters may be freed (`write -z -u`).
        unmap: bool,
    },
    /// Discard a range. What is read there afterwards is not specified.
    Discard {
        /// Where.
        offset: u64,
        /// How much.
        length: u64,
    },
    /// Compare a range with the model.
    Read {
        /// Where.
        offset: u64,
        /// How much.
        length: u64,
    },
    /// Flush.
    Flush,
}

impl Op {
    /// Write `pattern` over `length` bytes at `offset`.
    #[must_use]
    pub const fn write(pattern: u8, offset: u64, length: u64) -> Self {
        Self::Write {
            pattern,
            offset,
            length,
        }
    }
}

impl Op {
    /// Offset and length of what it is about (bytes); nothing for a flush.
    #[must_use]
    pub const fn range(&self) -> Option<(u64, u64)> {
        match *self {
            Self::Write { offset, length, .. }
            | Self::Zero { offset, length, .. }
            | Self::Discard { offset, length }
            | Self::Read { offset, length } => Some((offset, length)),
            Self::Flush => None,
        }
    }

    /// The same for another range.
    #[must_use]
    pub const fn over(mut self, to: u64, size: u64) -> Self {
        match &mut self {
            Self::Write { offset, length, .. }
            | Self::Zero { offset, length, .. }
            | Self::Discard { offset, length }
            | Self::Read { offset, length } => (*offset, *length) = (to, size),
            Self::Flush => {}
        }
        self
    }
}

impl Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write {
                pattern,
                offset,
                length,
            } => {
                write!(f, "write -P {pattern} {offset} {length}")
            }
            Self::Zero {
                offset,
                length,
                unmap: false,
            } => write!(f, "write -z {offset} {length}"),
            Self::Zero {
                offset,
                length,
                unmap: true,
            } => {
                write!(f, "write -z -u {offset} {length}")
            }
            Self::Discard { offset, length } => write!(f, "discard {offset} {length}"),
            Self::Read { offset, length } => write!(f, "read {offset} {length}"),
            Self::Flush => f.write_str("flush"),
        }
    }
}

/// The value of all bytes of a range, where it is known.
type Known = Option<u8>;

/// The guest's view of a disk: runs of bytes of one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskModel {
    /// The start of each run; the first is 0 and no two neighbours are alike.
    runs: BTreeMap<u64, Known>,
    size: u64,
    /// What is read where nothing was written.
    fresh: Known,
}

impl DiskModel {
    /// A disk of `size` bytes that reads as zeroes.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self::fresh(size, Some(0))
    }

    /// A disk where `fresh` is read where nothing was written: `None` for
    /// formats such as luks, where that is not specified.
    #[must_use]
    pub fn fresh(size: u64, fresh: Option<u8>) -> Self {
        Self {
            runs: BTreeMap::from([(0, fresh)]),
            size,
            fresh,
        }
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Sets a range, truncated at the end of the disk.
    pub fn set(&mut self, offset: u64, length: u64, value: Known) {
        let end = offset.saturating_add(length).min(self.size);
        if offset >= end {
            return;
        }
        let after = self.at(end);
        let before = offset.checked_sub(1).map(|b| self.at(b));
        let inside: Vec<u64> = self.runs.range(offset..=end).map(|(k, _)| *k).collect();
        for key in inside {
            self.runs.remove(&key);
        }
        if before != Some(value) {
            self.runs.insert(offset, value);
        }
        if after != value && end < self.size {
            self.runs.insert(end, after);
        }
    }

    fn at(&self, offset: u64) -> Known {
        self.runs.range(..=offset).next_back().and_then(|(_, v)| *v)
    }

    /// Makes the disk longer, with what is fresh, or shorter.
    pub fn resize(&mut self, size: u64) {
        let old = self.size;
        self.size = size;
        self.runs.retain(|start, _| *start < size.max(1));
        if size > old {
            // The last run reaches the old end; what is new is fresh.
            self.runs.insert(old, self.fresh);
            let before = old.checked_sub(1).map(|b| self.at(b));
            if before == Some(self.fresh) {
                self.runs.remove(&old);
            }
        }
    }

    /// Applies an operation; [`Op::Read`] and [`Op::Flush`] change nothing.
    pub fn apply(&mut self, op: &Op) {
        match *op {
            Op::Write {
                pattern,
                offset,
                length,
            } => self.set(offset, length, Some(pattern)),
            Op::Zero { offset, length, .. } => self.set(offset, length, Some(0)),
            Op::Discard { offset, length } => self.set(offset, length, None),
            Op::Read { .. } | Op::Flush => {}
        }
    }

    /// The runs inside a range: offset, length, value.
    pub fn runs(&self, offset: u64, length: u64) -> impl Iterator<Item = (u64, u64, Known)> {
        let end = offset.saturating_add(length).min(self.size);
        let starts = std::iter::once(offset).filter(move |o| *o < end).chain(
            self.runs
                .range(offset.saturating_add(1)..end.max(offset + 1))
                .map(|(k, _)| *k),
        );
        let starts: Vec<u64> = starts.collect();
        let ends: Vec<u64> = starts.iter().skip(1).copied().chain([end]).collect();
        starts
            .into_iter()
            .zip(ends)
            .map(|(start, end)| (start, end - start, self.at(start)))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// `qemu-io` commands that verify a range: one a run whose value is known.
    #[must_use]
    pub fn reads(&self, offset: u64, length: u64) -> Vec<String> {
        // One request of qemu-io is less than 2 GiB, and has a buffer as long.
        const MOST: u64 = 64 << 20;
        let mut reads = Vec::new();
        for (start, length, value) in self.runs(offset, length) {
            let Some(value) = value else { continue };
            let mut done = 0;
            while done < length {
                let part = MOST.min(length - done);
                reads.push(format!("read -P {value} {} {part}", start + done));
                done += part;
            }
        }
        reads
    }

    /// Does these operations to the model, and gives the `qemu-io` commands that do them to
    /// the image; reads among them are verified.
    pub fn commands(&mut self, ops: &[Op]) -> Vec<String> {
        let mut commands = Vec::new();
        for op in ops {
            match op {
                Op::Read { offset, length } => commands.extend(self.reads(*offset, *length)),
                op => commands.push(op.to_string()),
            }
            self.apply(op);
        }
        commands
    }
}

/// What random sequences are made of.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many operations.
    pub count: usize,
    /// Offsets and lengths are multiples of this (bytes).
    pub align: u64,
    /// The longest range (bytes).
    pub longest: u64,
    /// With zero writes.
    pub zeroes: bool,
    /// With discards.
    pub discards: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            count: 40,
            align: 512,
            longest: 256 << 10,
            zeroes: true,
            discards: false,
        }
    }
}

impl Plan {
    /// Random operations on a disk of `size` bytes. Ranges often start or end at
    /// a power of two, where clusters do.
    pub fn ops(&self, rng: &mut impl Rng, size: u64) -> Vec<Op> {
        (0..self.count).filter_map(|_| self.op(rng, size)).collect()
    }

    fn op(&self, rng: &mut impl Rng, size: u64) -> Option<Op> {
        let align = self.align.max(1);
        let units = size / align;
        if units == 0 {
            return None;
        }
        let mut offset = rng.random_range(0..units) * align;
        if rng.random_bool(0.3) {
            let edge = 1u64 << rng.random_range(12..=21);
            offset = (offset / edge * edge)
                .next_multiple_of(align)
                .min((units - 1) * align);
        }
        let longest = (self.longest / align).max(1).min(units - offset / align);
        let length = rng.random_range(1..=longest) * align;
        Some(match rng.random_range(0..10) {
            0..=1 if self.zeroes => Op::Zero {
                offset,
                length,
                unmap: rng.random_bool(0.5),
            },
            2 if self.discards => Op::Discard { offset, length },
            3..=4 => Op::Read { offset, length },
            5 => Op::Flush,
            _ => Op::Write {
                pattern: rng.random_range(1..=255),
                offset,
                length,
            },
        })
    }
}

impl Test {
    /// The model of a new image of the format under test.
    #[must_use]
    pub fn disk_model(&self, size: u64) -> DiskModel {
        DiskModel::fresh(size, (self.format() != "luks").then_some(0))
    }

    /// Does these operations to the image (or an export, by its name), in one
    /// `qemu-io`, and to its model; reads among them are compared. Logs how many.
    ///
    /// # Errors
    ///
    /// Fails if one fails or finds other bytes than the model.
    pub async fn apply(
        &self,
        image: impl Display,
        model: &mut DiskModel,
        ops: &[Op],
    ) -> Result<()> {
        let image = image.to_string();
        self.io(&image, model.commands(ops)).quiet().await?;
        self.log(format!("{image}: {} operations match the model", ops.len()));
        Ok(())
    }

    /// The whole image matches its model, read by a new process.
    ///
    /// # Errors
    ///
    /// Fails if sizes or bytes differ.
    pub async fn matches(&self, image: &Image, model: &DiskModel) -> Result<()> {
        let size = self.virtual_size(image).await?;
        ensure!(
            size == model.size(),
            "{image} has {size} bytes, its model has {}",
            model.size()
        );
        self.io(image, model.reads(0, model.size()))
            .options(["-r"])
            .quiet()
            .await?;
        self.log(format!("{image}: matches the model"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The plain model: one entry a byte.
    fn slow(size: u64, sets: &[(u64, u64, Known)]) -> Vec<Known> {
        let mut bytes = vec![Some(0); usize::try_from(size).expect("small")];
        for (offset, length, value) in sets {
            for at in *offset..(offset + length).min(size) {
                bytes[usize::try_from(at).expect("small")] = *value;
            }
        }
        bytes
    }

    fn flat(model: &DiskModel) -> Vec<Known> {
        let runs = model.runs(0, model.size());
        runs.flat_map(|(_, n, v)| std::iter::repeat_n(v, usize::try_from(n).expect("small")))
            .collect()
    }

    fn value() -> impl Strategy<Value = Known> {
        prop_oneof![Just(None), (0u8..3).prop_map(Some)]
    }

    proptest! {
        #[test]
        fn runs_are_the_bytes(size in 0u64..60, sets in prop::collection::vec((0u64..70, 0u64..30, value()), 0..12)) {
            let mut model = DiskModel::new(size);
            for (offset, length, value) in &sets {
                model.set(*offset, *length, *value);
            }
            prop_assert_eq!(flat(&model), slow(size, &sets));
            let values: Vec<_> = model.runs(0, size).map(|(_, _, v)| v).collect();
            prop_assert!(values.windows(2).all(|w| w[0] != w[1]), "neighbours alike: {:?}", values);
        }

        #[test]
        fn growth_is_zeroes(size in 0u64..60, new in 0u64..90, at in 0u64..60) {
            let mut model = DiskModel::new(size);
            model.set(at, 20, Some(7));
            let mut bytes = slow(size, &[(at, 20, Some(7))]);
            bytes.resize(usize::try_from(new).expect("small"), Some(0));
            model.resize(new);
            prop_assert_eq!(flat(&model), bytes);
        }

        #[test]
        fn ops_stay_inside(seed: u64, size in 1u64..10_000_000, align in prop::sample::select(vec![1u64, 512, 65536])) {
            use rand::SeedableRng as _;
            let plan = Plan { align, discards: true, ..Plan::default() };
            for op in plan.ops(&mut rand::rngs::StdRng::seed_from_u64(seed), size) {
                if let Op::Write { offset, length, .. } | Op::Zero { offset, length, .. }
                    | Op::Discard { offset, length } | Op::Read { offset, length } = op {
                    prop_assert!(length > 0 && offset + length <= size);
                    prop_assert_eq!((offset % align, length % align), (0, 0));
                }
            }
        }
    }
}
