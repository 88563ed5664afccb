//! VHDX, of the kinds that QEMU reads: sectors of 512 bytes and no parent.

use image_formats::vhdx::{Block, BlockState, Headers, Log, LogWrite, Spec};
use image_formats::{AnySpec, Pattern, SectorRun};

use super::common::{alone, placement};
use crate::base::OtherBase;
use crate::rng::Rng;

/// Bytes in a MiB, the smallest block.
const MIB: u64 = 1 << 20;

/// A random valid image. One with a log to be replayed is only read where it can be written to.
pub(super) fn draw(rng: &mut Rng) -> OtherBase {
    let block_size = [MIB, 2 * MIB, 16 * MIB][rng.weighted(&[75, 15, 10]).unwrap_or(0)];
    let virtual_size = (rng.between(1, 12) * MIB) - if rng.chance(20) { 4096 } else { 0 };
    let count = virtual_size.div_ceil(block_size);
    let mut indexes: Vec<u64> = (0..rng.between(0, 4)).map(|_| rng.below(count)).collect();
    indexes.sort_unstable();
    indexes.dedup();
    let blocks = indexes
        .into_iter()
        .map(|index| block(index, block_size, rng))
        .collect();
    let log = rng.chance(35).then(|| log(rng));
    alone(AnySpec::Vhdx(Spec {
        virtual_size,
        block_size: block_size as u32,
        physical_sector_size: if rng.chance(30) { 512 } else { 4096 },
        fixed: rng.chance(10),
        blocks,
        headers: if rng.chance(50) {
            Headers::First
        } else {
            Headers::Second
        },
        sequence_number: rng.between(1, 1000),
        log_length: MIB as u32,
        log,
        unknown_region: rng.chance(10),
        seed: rng.below(1 << 16),
        placement: placement(false, rng),
        ..Spec::default()
    }))
}

fn block(index: u64, block_size: u64, rng: &mut Rng) -> Block {
    let states = [
        BlockState::FullyPresent,
        BlockState::Zero,
        BlockState::Unmapped,
        BlockState::Undefined,
    ];
    let state = states[rng.weighted(&[80, 8, 6, 6]).unwrap_or(0)];
    let first = rng.below(block_size / 512 - 8);
    let run = SectorRun {
        first: first as u32,
        count: rng.between(1, 8) as u32,
        data: Pattern::Fill(rng.between(1, 255) as u8),
    };
    let stored = state == BlockState::FullyPresent;
    Block {
        index,
        state,
        runs: if stored { vec![run] } else { Vec::new() },
    }
}

/// A log that is to be replayed, as QEMU replays it: it fits without wrapping, and begins with
/// its first entry.
fn log(rng: &mut Rng) -> Log {
    let writes = [LogWrite::Bat, LogWrite::Metadata, LogWrite::RegionTables];
    let mut writes = writes.to_vec();
    writes.retain(|_| rng.chance(60));
    Log {
        writes,
        sequence_number: rng.between(2, 1000),
        sector: 0,
        applied: false,
        stale: rng.chance(20),
        extends: false,
    }
}
