//! The block table of a VPC image has an entry for each block of the disk, whatever its size, is
//! on whole sectors of its own, and the last block can be used.
//!
//! group: rw auto quick formats create
//! supported_fmt: vpc
//! supported_proto: file
//! unsupported_imgopts: subformat force_size

use iotests::prelude::*;

/// The header of a dynamic disk (Virtual Hard Disk Image Format Specification, Dynamic Disk
/// Header Format), in the image's file.
struct Table {
    offset: u64,
    entries: u64,
    block: u64,
}

fn table(t: &Test, img: &Image) -> Result<Table> {
    let number = |bytes: Vec<u8>| bytes.iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
    let header = number(t.peek_at(img, 16, 8)?);
    Ok(Table {
        offset: number(t.peek_at(img, header + 16, 8)?),
        entries: number(t.peek_at(img, header + 28, 4)?),
        block: number(t.peek_at(img, header + 32, 4)?),
    })
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let block = 2 * MIB;
    // Tables of one entry, of a sector and one more or less, and in between.
    for blocks in [1, 2, 127, 128, 129, 255, 256, 257, 1000] {
        for more in [0, 512] {
            let size = blocks * block + more;
            let img = t.create(size).quiet().options("subformat=dynamic,force_size=on").await?;
            let needed = size.div_ceil(block);
            let table = table(t, &img)?;
            ensure!(table.block == block, "blocks of {} bytes", table.block);
            ensure!(table.entries >= needed, "{} entries for {needed} blocks", table.entries);
            ensure!(table.offset % 512 == 0, "the table is at {}", table.offset);
            let last = size - 512;
            t.write(&img, &[(1, 0, 512), (2, last, 512)]).await?;
            // The first block in the file is behind the table and its padding.
            let end = table.offset + (table.entries * 4).next_multiple_of(512);
            for entry in [0, needed - 1] {
                let bytes = t.peek_at(&img, table.offset + 4 * entry, 4)?;
                let at = bytes.iter().fold(0, |n, &byte| n << 8 | u64::from(byte)) * 512;
                ensure!(at >= end, "block {entry} at {at} begins in the table, up to {end}");
            }
            t.verify(&img, &[(1, 0, 512), (2, last, 512)]).await?;
            t.check(&img).await?;
            ensure!(t.virtual_size(&img).await? == size, "the size is not {size}");
        }
        t.log(format!("{blocks} blocks, and a sector more: as they have to be"));
    }
    Ok(())
}
