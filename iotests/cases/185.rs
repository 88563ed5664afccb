//! What the log of a VHDX image holds is applied before the image is used; a
//! reader that may not write refuses it, and a log entry with a wrong checksum
//! is not applied.
//!
//! group: rw auto quick formats
//! supported_fmt: vhdx
//! supported_proto: file
//! unsupported_imgopts: subformat block_size log_size

use iotests::prelude::*;
use iotests::sample::crc32c;

/// The file's unit of logging.
const SECTOR: usize = 4096;
const HEADERS: [u64; 2] = [64 * KIB, 128 * KIB];

fn number(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// One log entry: `data` for `offset` of the file, and 4 KiB of zeroes for
/// `zeroes`. Numbers are little-endian.
fn entry(guid: &[u8; 16], file_size: u64, (offset, data): (u64, u8), zeroes: u64) -> Vec<u8> {
    let sequence = 1u64;
    let mut log = vec![0; 2 * SECTOR];
    let mut put = |at: usize, bytes: &[u8]| log[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"loge");
    put(8, &(2 * 4096u32).to_le_bytes());
    put(16, &sequence.to_le_bytes());
    put(24, &2u32.to_le_bytes());
    put(32, guid);
    put(48, &file_size.to_le_bytes());
    put(56, &file_size.to_le_bytes());
    // Two descriptors behind the header of 64 bytes.
    put(64, b"desc");
    put(68, &[data; 12]);
    put(80, &offset.to_le_bytes());
    put(88, &sequence.to_le_bytes());
    put(96, b"zero");
    put(104, &4096u64.to_le_bytes());
    put(112, &zeroes.to_le_bytes());
    put(120, &sequence.to_le_bytes());
    // The data sector; its first 8 and last 4 bytes are in the descriptor.
    put(SECTOR, b"data");
    put(SECTOR + 8, &[data; 4084]);
    put(2 * SECTOR - 4, &1u32.to_le_bytes());
    let crc = crc32c(&log);
    log[4..8].copy_from_slice(&crc.to_le_bytes());
    log
}

/// Says in both headers that the log is in use, and gives the log's place.
fn claim_log(t: &Test, img: &Image, guid: &[u8; 16]) -> Result<u64> {
    let mut place = 0;
    for at in HEADERS {
        let mut header = t.peek_at(img, at, SECTOR)?;
        ensure!(header.starts_with(b"head"), "there is no header at {at}");
        header[48..64].copy_from_slice(guid);
        header[4..8].fill(0);
        let crc = crc32c(&header);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        t.poke_at(img, at, &header)?;
        place = number(&header, 72);
    }
    Ok(place)
}

/// An image of whose first block 8 KiB are in the log: data, then zeroes.
async fn logged(t: &Test, break_it: bool) -> Result<Image> {
    let img = t.create(8 * MIB).options("block_size=1M").quiet().await?;
    t.io(&img, ["write -P 1 0 64k"]).quiet().await?;
    let file = std::fs::read(img.file())?;
    let data = file
        .windows(SECTOR)
        .step_by(SECTOR)
        .position(|s| s == [1; SECTOR])
        .context("the data is not there")?;
    let data = (data * SECTOR) as u64;
    let guid = *b"a log of its own";
    let place = claim_log(t, &img, &guid)?;
    let mut log = entry(&guid, file.len() as u64, (data, 0xab), data + 8192);
    if break_it {
        log[SECTOR + 100] ^= 1;
    }
    t.poke_at(&img, place, &log)?;
    Ok(img)
}

pub(crate) async fn run(t: &Test) -> Result<()> {
    t.section("without permission to write");
    let img = logged(t, false).await?;
    t.io(&img, ["read 0 512"]).options(["-r"]).fails().quiet().await?;
    t.log("refused");

    t.section("applied");
    t.io(&img, ["read -P 0xab 0 4k", "read -P 1 4k 4k", "read -P 0 8k 4k", "read -P 1 12k 52k"])
        .await?;
    t.section("and empty from then on");
    t.io(&img, ["read -P 0xab 0 4k", "read -P 0 8k 4k"]).options(["-r"]).await?;
    for at in HEADERS {
        let guid = t.peek_at(&img, at + 48, 16)?;
        t.log(format!("the header at {at} names a log: {}", guid.iter().any(|b| *b != 0)));
    }
    t.check(&img).await?;

    t.section("with a wrong checksum");
    let img = logged(t, true).await?;
    t.io(&img, ["read -P 1 0 64k"]).any_status().quiet().await?;
    let file = std::fs::read(img.file())?;
    let applied = file.windows(SECTOR).step_by(SECTOR).any(|s| s == [0xab; SECTOR]);
    t.log(format!("applied: {applied}"));
    Ok(())
}
