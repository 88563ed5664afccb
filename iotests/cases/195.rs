//! Compressed loop images (cloop) are read block by block; blocks that do not
//! unpack to their size, and tables that cannot be, are errors.
//!
//! group: rw auto quick formats
//! supported_fmt: raw
//! supported_proto: file
//! needs: driver:cloop

use iotests::prelude::*;
use iotests::sample::zlib_stored as stored;

const BLOCK: usize = 4096;

/// An image of these packed blocks.
fn sample(blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vec![0; 128];
    let script =
        b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n";
    file[..script.len()].copy_from_slice(script);
    file.extend((BLOCK as u32).to_be_bytes());
    file.extend((blocks.len() as u32).to_be_bytes());
    let mut offset = (file.len() + 8 * (blocks.len() + 1)) as u64;
    file.extend(offset.to_be_bytes());
    for block in blocks {
        offset += block.len() as u64;
        file.extend(offset.to_be_bytes());
    }
    file.extend(blocks.concat());
    file
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let disk: Vec<u8> = (0..6 * BLOCK).map(|n| (n / 512 * 7 + n % 251) as u8).collect();
    let blocks: Vec<Vec<u8>> = disk.chunks(BLOCK).map(stored).collect();
    let good = sample(&blocks);

    std::fs::write(t.path("s.cloop"), &good)?;
    t.img("info TEST_DIR/s.cloop").filter(iotests::filter::img::info).await?;
    t.img("convert -f cloop -O raw TEST_DIR/s.cloop TEST_DIR/flat").await?;
    ensure!(std::fs::read(t.path("flat"))? == disk, "it reads as something else");
    t.log("every block reads as expected");

    t.section("writing");
    t.io("TEST_DIR/s.cloop", ["write 0 512"]).options(["-f", "cloop"]).fails().quiet().await?;
    ensure!(std::fs::read(t.path("s.cloop"))? == good, "the file has changed");
    t.log("refused, and nothing has changed");

    t.section("one bad block");
    for (what, bad) in [
        ("too short", stored(&disk[BLOCK..2 * BLOCK - 512])),
        ("too long", stored(&disk[BLOCK..2 * BLOCK + 512])),
        ("not packed", disk[BLOCK..2 * BLOCK].to_vec()),
    ] {
        let mut blocks = blocks.clone();
        blocks[1] = bad;
        std::fs::write(t.path("s.cloop"), sample(&blocks))?;
        t.log(format!("{what}:"));
        let reads = ["read 0 4k", "read 4k 512", "read 8k 4k"];
        t.io("TEST_DIR/s.cloop", reads).options(["-r", "-f", "cloop"]).fails().await?;
    }

    t.section("invalid tables");
    for (what, at, bytes) in [
        ("blocks of 0 bytes", 128, 0u32.to_be_bytes()),
        ("blocks of 513 bytes", 128, 513u32.to_be_bytes()),
        ("blocks of 1 GiB", 128, (1u32 << 30).to_be_bytes()),
        ("2^32 - 1 blocks", 132, u32::MAX.to_be_bytes()),
        ("an offset that goes back", 144 + 4, 1u32.to_be_bytes()),
        ("a block of 2^32 bytes", 144, 1u32.to_be_bytes()),
    ] {
        let mut file = good.clone();
        file[at..at + 4].copy_from_slice(&bytes);
        std::fs::write(t.path("s.cloop"), file)?;
        t.img("convert -f cloop -O raw TEST_DIR/s.cloop TEST_DIR/flat").status(1).quiet().await?;
        t.log(format!("{what}: refused"));
    }
    for file in ["s.cloop", "flat"] {
        let _ = std::fs::remove_file(t.path(file));
    }
    Ok(())
}
