//! Apple disk images (dmg) are read: plain, packed, zero and unused runs of
//! sectors, from a resource fork and from a property list.
//!
//! group: rw auto quick formats
//! supported_fmt: raw
//! supported_proto: file
//! needs: driver:dmg

use iotests::prelude::*;
use iotests::sample::zlib_stored as stored;

const ZERO: u32 = 0;
const PLAIN: u32 = 1;
const UNUSED: u32 = 2;
const ZLIB: u32 = 0x8000_0005;
const END: u32 = 0xffff_ffff;

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let n = (0..3).fold(0, |n, i| n << 8 | u32::from(group.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let digit = DIGITS[(n >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= group.len() { digit as char } else { '=' });
        }
    }
    text
}

/// A run of sectors: how it is kept, what it holds.
type Run<'a> = (u32, &'a [u8]);

/// The data fork and the table of these runs; the disk starts at sector 0.
fn fork_and_table(runs: &[Run]) -> (Vec<u8>, Vec<u8>) {
    let mut fork = Vec::new();
    let mut table = vec![0; 204];
    table[..4].copy_from_slice(b"mish");
    table[4..8].copy_from_slice(&1u32.to_be_bytes());
    let mut sector = 0u64;
    for (kind, data) in runs {
        let kept = match *kind {
            PLAIN => data.to_vec(),
            ZLIB => stored(data),
            _ => Vec::new(),
        };
        let count = data.len() as u64 / 512;
        table.extend(kind.to_be_bytes());
        table.extend([0; 4]);
        for number in [sector, count, fork.len() as u64, kept.len() as u64] {
            table.extend(number.to_be_bytes());
        }
        fork.extend(kept);
        sector += count;
    }
    table.extend(END.to_be_bytes());
    table.extend([0; 36]);
    (fork, table)
}

/// The whole file; its table is in a property list or in a resource fork.
fn sample(runs: &[Run], plist: bool) -> Vec<u8> {
    let sectors: usize = runs.iter().map(|(_, data)| data.len() / 512).sum();
    let (mut file, table) = fork_and_table(runs);
    let at = file.len() as u64;
    let index = if plist {
        let data = base64(&table);
        format!("<plist><dict><key>blkx</key><data>\n{data}\n</data></dict></plist>\n").into_bytes()
    } else {
        // The header of a resource fork, then one resource with its length.
        let length = table.len() as u32;
        let mut fork = vec![0; 256];
        fork[..4].copy_from_slice(&256u32.to_be_bytes());
        fork[8..12].copy_from_slice(&(length + 4).to_be_bytes());
        fork.extend(length.to_be_bytes());
        fork.extend(table);
        fork
    };
    let length = index.len() as u64;
    file.extend(index);
    let mut trailer = vec![0; 512];
    trailer[..4].copy_from_slice(b"koly");
    trailer[4..8].copy_from_slice(&4u32.to_be_bytes());
    trailer[8..12].copy_from_slice(&512u32.to_be_bytes());
    trailer[0x20..0x28].copy_from_slice(&at.to_be_bytes());
    let place = if plist { 0xd8 } else { 0x28 };
    trailer[place..place + 8].copy_from_slice(&at.to_be_bytes());
    trailer[place + 8..place + 16].copy_from_slice(&length.to_be_bytes());
    trailer[0x1ec..0x1f4].copy_from_slice(&(sectors as u64).to_be_bytes());
    file.extend(trailer);
    file
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    let text: Vec<u8> = (0..8192).map(|n| (n / 512 * 3 + n % 253) as u8).collect();
    let zeroes = vec![0; 64 * 512];
    let runs: [Run; 6] = [
        (PLAIN, &text[..1536]),
        (ZLIB, &text[512..6144]),
        (ZERO, &zeroes),
        (ZLIB, &text[..512]),
        (UNUSED, &zeroes[..1024]),
        (PLAIN, &text[4096..]),
    ];
    let disk: Vec<u8> = runs.iter().flat_map(|(_, data)| data.iter().copied()).collect();
    let file = t.path("s.dmg");

    for (what, plist) in [("a resource fork", false), ("a property list", true)] {
        t.section(what);
        std::fs::write(&file, sample(&runs, plist))?;
        t.img("info -f dmg TEST_DIR/s.dmg").filter(iotests::filter::img::info).await?;
        t.img("convert -f dmg -O raw TEST_DIR/s.dmg TEST_DIR/flat").await?;
        ensure!(std::fs::read(t.path("flat"))? == disk, "it reads as something else");
        t.log("every sector reads as expected");
    }

    t.section("a packed run that unpacks to another length");
    let (_, whole) = runs[1];
    let short = [runs[0], (ZLIB, &whole[..512]), (ZERO, &zeroes)];
    let mut bytes = sample(&short, false);
    // The count of sectors in the second entry of the table: one more than are
    // packed there.
    let fork = 1536 + stored(&whole[..512]).len();
    let count = fork + 256 + 4 + 204 + 40 + 16;
    bytes[count..count + 8].copy_from_slice(&2u64.to_be_bytes());
    std::fs::write(&file, &bytes)?;
    t.io("TEST_DIR/s.dmg", ["read 0 1536", "read 1536 512"])
        .options(["-r", "-f", "dmg"])
        .fails()
        .await?;

    t.section("without a trailer");
    let good = sample(&runs, false);
    std::fs::write(&file, &good[..good.len() - 512])?;
    t.img("info -f dmg TEST_DIR/s.dmg").status(1).await?;

    t.section("what the trailer cannot represent");
    let end = good.len() - 512;
    for (what, at) in
        [("the data fork", 0x18), ("the resource fork", 0x28), ("the list's end", 0xd8)]
    {
        let mut bytes = good.clone();
        bytes[end + at..end + at + 8].copy_from_slice(&(u64::MAX / 3).to_be_bytes());
        std::fs::write(&file, &bytes)?;
        t.img("convert -f dmg -O raw TEST_DIR/s.dmg TEST_DIR/flat").status(1).quiet().await?;
        t.log(format!("{what} far behind the file: refused"));
    }
    for name in ["s.dmg", "flat"] {
        let _ = std::fs::remove_file(t.path(name));
    }
    Ok(())
}
