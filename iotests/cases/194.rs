//! Bochs growing images of both versions are read: extents that are there, in
//! any order, sectors that are not, and nothing is written.
//!
//! group: rw auto quick formats
//! supported_fmt: raw
//! supported_proto: file
//! needs: driver:bochs

use iotests::prelude::*;

const EXTENT: usize = 4096;
/// Extents of the disk: which one of the file, if any.
const CATALOG: [u32; 4] = [1, u32::MAX, 0, 2];
/// The sectors that each extent of the file has.
const PRESENT: [u8; 3] = [0xff, 0b0101_0101, 0b1000_0001];

/// The byte that sector `sector` of the disk is full of.
fn content(sector: usize) -> u8 {
    let extent = CATALOG[sector / 8];
    let there = PRESENT.get(extent as usize).is_some_and(|bits| bits >> (sector % 8) & 1 == 1);
    if there { sector as u8 + 1 } else { 0 }
}

fn sample(version: u32) -> Vec<u8> {
    let size = (CATALOG.len() * EXTENT) as u64;
    let mut file = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"Bochs Virtual HD Image");
    put(32, b"Redolog");
    put(48, b"Growing");
    put(64, &version.to_le_bytes());
    put(68, &512u32.to_le_bytes());
    put(72, &(CATALOG.len() as u32).to_le_bytes());
    put(76, &512u32.to_le_bytes());
    put(80, &(EXTENT as u32).to_le_bytes());
    // The older version has no reserved word before the disk's size.
    put(if version == 0x10000 { 84 } else { 88 }, &size.to_le_bytes());
    for entry in CATALOG {
        file.extend(entry.to_le_bytes());
    }
    for (n, bits) in (0u32..).zip(PRESENT) {
        file.push(bits);
        file.extend([0; 511]);
        let disk = CATALOG.iter().position(|e| *e == n).unwrap_or_default();
        for sector in disk * 8..disk * 8 + 8 {
            // Sectors that are not there hold what nobody may see.
            let byte = if content(sector) == 0 { 0xee } else { content(sector) };
            file.extend([byte; 512]);
        }
    }
    file
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let wanted: Vec<u8> = (0..32).flat_map(|sector| [content(sector); 512]).collect();
    for version in [0x10000, 0x20000] {
        t.section(format!("version {version:#x}"));
        std::fs::write(t.path("s.bochs"), sample(version))?;
        t.img("info TEST_DIR/s.bochs").filter(iotests::filter::img::info).await?;
        t.img("convert -f bochs -O raw TEST_DIR/s.bochs TEST_DIR/flat").await?;
        ensure!(std::fs::read(t.path("flat"))? == wanted, "it reads as something else");
        t.log("every sector reads as expected");
    }

    t.section("writing");
    let before = std::fs::read(t.path("s.bochs"))?;
    t.io("TEST_DIR/s.bochs", ["write 0 512"]).options(["-f", "bochs"]).fails().quiet().await?;
    ensure!(std::fs::read(t.path("s.bochs"))? == before, "the file has changed");
    t.log("refused, and nothing has changed");

    t.section("invalid headers");
    for (what, at, value) in [
        ("a catalog that is too small", 72, 3u32),
        ("a catalog of 2^31 entries", 72, 1 << 31),
        ("an extent of 0 bytes", 80, 0),
        ("an extent of 3000 bytes", 80, 3000),
        ("an extent of 16 MiB", 80, 16 << 20),
        ("a disk of 2^63 bytes", 92, 0x8000_0000),
        ("another version", 64, 0x30000),
    ] {
        let mut file = before.clone();
        file[at..at + 4].copy_from_slice(&value.to_le_bytes());
        std::fs::write(t.path("s.bochs"), file)?;
        t.img("convert -f bochs -O raw TEST_DIR/s.bochs TEST_DIR/flat").status(1).quiet().await?;
        t.log(format!("{what}: refused"));
    }
    for file in ["s.bochs", "flat"] {
        let _ = std::fs::remove_file(t.path(file));
    }
    Ok(())
}
