//! Fields of images changed by name, behind QEMU's back.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::image::Image;
use crate::test::Test;

/// The fields of the qcow2 header: name, offset and width in bytes (big-endian;
/// section "Header" of the format's specification).
const QCOW2_HEADER: &[(&str, u64, usize)] = &[
    ("magic", 0, 4),
    ("version", 4, 4),
    ("backing_file_offset", 8, 8),
    ("backing_file_size", 16, 4),
    ("cluster_bits", 20, 4),
    ("size", 24, 8),
    ("crypt_method", 32, 4),
    ("l1_size", 36, 4),
    ("l1_table_offset", 40, 8),
    ("refcount_table_offset", 48, 8),
    ("refcount_table_clusters", 56, 4),
    ("nb_snapshots", 60, 4),
    ("snapshots_offset", 64, 8),
    ("incompatible_features", 72, 8),
    ("compatible_features", 80, 8),
    ("autoclear_features", 88, 8),
    ("refcount_order", 96, 4),
    ("header_length", 100, 4),
    ("compression_type", 104, 1),
];

/// Bits of a table entry that hold an offset (L1, L2 and refcount tables).
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;

/// Reads `width` bytes at `offset` as a big-endian number.
///
/// # Errors
/// Where the file is shorter.
pub(crate) fn read_be(file: &File, offset: u64, width: usize) -> Result<u64> {
    let mut bytes = [0; 8];
    let Some(place) = bytes.len().checked_sub(width) else {
        bail!("no number has {width} bytes")
    };
    file.read_exact_at(&mut bytes[place..], offset)
        .with_context(|| format!("failed to read {width} bytes at {offset}"))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Where a field lies in a qcow2 image.
///
/// Paths: `header.NAME`; `l1[N]`; `l2[I].entry[N]` (the I-th entry of the active
/// L1 table leads to the table); `refcount_table[N]`; `refcount_block[I].entry[N]`
/// (16-bit refcounts only).
fn locate(file: &File, path: &str) -> Result<(u64, usize)> {
    if let Some(name) = path.strip_prefix("header.") {
        let field = QCOW2_HEADER.iter().find(|(n, _, _)| *n == name);
        let Some((_, offset, width)) = field else {
            bail!("no qcow2 header field {name}")
        };
        return Ok((*offset, *width));
    }
    let header = |name: &str| -> Result<u64> {
        let (offset, width) = locate(file, &format!("header.{name}"))?;
        read_be(file, offset, width)
    };
    let table = |offset: u64, n: u64| -> Result<u64> {
        let entry = read_be(file, offset + 8 * n, 8)? & OFFSET_MASK;
        if entry == 0 {
            bail!("{path}: there is no such table");
        }
        Ok(entry)
    };
    let nowhere = || anyhow!("{path} is no path of a qcow2 field");
    let (name, first, second) = parts(path).ok_or_else(nowhere)?;
    match (name, first, second) {
        ("l1", n, None) => Ok((header("l1_table_offset")? + 8 * n, 8)),
        ("l2", at, Some(n)) => Ok((table(header("l1_table_offset")?, at)? + 8 * n, 8)),
        ("refcount_table", n, None) => Ok((header("refcount_table_offset")? + 8 * n, 8)),
        ("refcount_block", at, Some(n)) => {
            Ok((table(header("refcount_table_offset")?, at)? + 2 * n, 2))
        }
        _ => Err(nowhere()),
    }
}

/// Takes `name[1]` or `name[1].entry[2]` apart. Indices are below 2^32.
fn parts(path: &str) -> Option<(&str, u64, Option<u64>)> {
    let index = |text: &str| text.parse::<u32>().ok().map(u64::from);
    let (name, rest) = path.split_once('[')?;
    let (first, rest) = rest.split_once(']')?;
    let second = match rest {
        "" => None,
        rest => Some(index(rest.strip_prefix(".entry[")?.strip_suffix(']')?)?),
    };
    Some((name, index(first)?, second))
}

impl Test {
    /// The value of a qcow2 field, such as `header.nb_snapshots` or
    /// `l2[0].entry[3]`.
    ///
    /// # Errors
    /// Where there is no such field.
    pub fn peek(&self, image: &Image, path: &str) -> Result<u64> {
        let file = open(image, false)?;
        let (offset, width) = locate(&file, path)?;
        read_be(&file, offset, width)
    }

    /// Sets a qcow2 field and logs it.
    ///
    /// # Errors
    /// Where there is no such field, or the value does not fit in it.
    pub fn poke(&self, image: &Image, path: &str, value: u64) -> Result<()> {
        let file = open(image, true)?;
        let (offset, width) = locate(&file, path)?;
        if width < 8 && value >> (8 * width) != 0 {
            bail!("{value:#x} does not fit in {path} ({width} bytes)");
        }
        write_at(&file, offset, &value.to_be_bytes()[8 - width..])?;
        self.log(format!("poke {image} {path} = {value:#x}"));
        Ok(())
    }

    /// Sets bytes of the image's file; not logged.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn poke_at(&self, image: &Image, offset: u64, bytes: &[u8]) -> Result<()> {
        write_at(&open(image, true)?, offset, bytes)
    }

    /// Bytes of the image's file.
    ///
    /// # Errors
    /// Where the file is shorter.
    pub fn peek_at(&self, image: &Image, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        open(image, false)?
            .read_exact_at(&mut bytes, offset)
            .with_context(|| format!("failed to read {length} bytes at {offset} of {image}"))?;
        Ok(bytes)
    }
}

fn open(image: &Image, write: bool) -> Result<File> {
    File::options()
        .read(true)
        .write(write)
        .open(image.file())
        .with_context(|| format!("failed to open the file of {image}"))
}

fn write_at(file: &File, offset: u64, bytes: &[u8]) -> Result<()> {
    file.write_all_at(bytes, offset)
        .with_context(|| format!("failed to write {} bytes at {offset}", bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> File {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(1 << 20).expect("room");
        write_at(&file, 40, &0x10000u64.to_be_bytes()).expect("written");
        write_at(&file, 48, &0x20000u64.to_be_bytes()).expect("written");
        write_at(&file, 0x10000 + 8, &(0x30000u64 | 1 << 63).to_be_bytes()).expect("written");
        write_at(&file, 0x20000, &0x40000u64.to_be_bytes()).expect("written");
        file
    }

    #[test]
    fn paths_lead_to_fields() {
        let file = image();
        for (path, place) in [
            ("header.nb_snapshots", (60, 4)),
            ("header.compression_type", (104, 1)),
            ("l1[3]", (0x10018, 8)),
            ("l2[1].entry[17]", (0x30000 + 8 * 17, 8)),
            ("refcount_table[2]", (0x20010, 8)),
            ("refcount_block[0].entry[5]", (0x4000a, 2)),
        ] {
            assert_eq!(locate(&file, path).expect(path), place, "{path}");
        }
    }

    #[test]
    fn paths_that_lead_nowhere_say_so() {
        let file = image();
        for path in [
            "header.x",
            "l3[0]",
            "l2[0].entry[1]",
            "l1[99999999999999999999]",
            "",
            "l1",
        ] {
            assert!(locate(&file, path).is_err(), "{path}");
        }
    }
}
