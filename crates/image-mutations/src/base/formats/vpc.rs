//! VPC (VHD), of the kinds that QEMU reads: no parent, blocks of 4 KiB or more.

use image_formats::vpc::{Block, Geometry, Spec};
use image_formats::{AnySpec, Pattern, SectorRun};

use super::common::{alone, placement, virtual_size};
use crate::base::OtherBase;
use crate::rng::Rng;

/// Programs that write such images, whose size is in the footer; that of the images of `qemu`
/// and `vpc ` follows from the geometry.
const CREATORS: [&str; 4] = ["win ", "qem2", "d2v ", "vbox"];

/// Heads and sectors of disks whose size follows from the geometry.
const HEADS: u8 = 4;
const SECTORS: u8 = 17;
/// Bytes in a cylinder of these.
const CYLINDER: u64 = HEADS as u64 * SECTORS as u64 * 512;

/// A random valid image.
pub(super) fn draw(rng: &mut Rng) -> OtherBase {
    let block_size: u32 = [4096, 65536, 2 << 20][rng.weighted(&[45, 40, 15]).unwrap_or(0)];
    let virtual_size = virtual_size(block_size.into(), 6 << 20, rng);
    let by_geometry = rng.chance(40);
    let virtual_size = match by_geometry {
        true => (virtual_size / CYLINDER).max(1) * CYLINDER,
        false => virtual_size,
    };
    let count = virtual_size.div_ceil(block_size.into());
    let fixed = rng.chance(20);
    let mut indexes: Vec<u64> = (0..rng.between(0, 8)).map(|_| rng.below(count)).collect();
    indexes.sort_unstable();
    indexes.dedup();
    let block = |index| block(index, block_size, virtual_size, rng);
    let blocks: Vec<Block> = indexes.into_iter().map(block).collect();
    alone(AnySpec::Vpc(Spec {
        virtual_size,
        fixed,
        block_size,
        blocks,
        creator_app: match by_geometry {
            true => {
                if rng.chance(50) {
                    "qemu"
                } else {
                    "vpc "
                }
            }
            false => rng.pick(&CREATORS).copied().unwrap_or("win "),
        }
        .to_owned(),
        geometry: match by_geometry {
            true => Geometry::Given {
                cylinders: (virtual_size / CYLINDER) as u16,
                heads: HEADS,
                sectors: SECTORS,
            },
            false => Geometry::Computed,
        },
        spare_entries: if rng.chance(20) {
            rng.between(1, 600) as u32
        } else {
            0
        },
        timestamp: rng.below(1 << 31) as u32,
        temporary: rng.chance(10),
        saved_state: rng.chance(10),
        seed: rng.below(1 << 16),
        placement: placement(false, rng),
        ..Spec::default()
    }))
}

/// A block with one or two runs of sectors.
fn block(index: u64, block_size: u32, disk: u64, rng: &mut Rng) -> Block {
    let rest = (disk - index * u64::from(block_size)).min(block_size.into());
    let sectors = (rest / 512).max(1);
    let first = rng.below(sectors);
    let count = rng.between(1, (sectors - first).min(16));
    Block {
        index,
        runs: vec![SectorRun {
            first: first as u32,
            count: count as u32,
            data: Pattern::Fill(rng.between(1, 255) as u8),
        }],
        all_sectors: rng.chance(50),
    }
}
