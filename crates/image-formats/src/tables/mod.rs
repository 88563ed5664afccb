//! Headers and tables of the formats other than qcow2, as far as they are flat; each
//! format has a file.

mod bochs;
mod cloop;
mod dmg;
mod luks;
mod parallels;
mod qcow;
mod qed;
mod vdi;
mod vhdx;
mod vmdk;
mod vpc;

use crate::field::Endian;
use crate::field::Endian::Little;
use crate::fixed::{Record, Structure};
use crate::format::Format;
use crate::io::{ReadAt, read_vec};
use crate::row::Row;
use crate::value::Value;

/// Finds the structures of an image.
pub(crate) fn structure(source: &dyn ReadAt, format: Format) -> Structure {
    match format {
        Format::Qcow2 => Structure::default(),
        Format::Qcow => qcow::structure(source),
        Format::Vmdk => vmdk::structure(source),
        Format::Vhdx => vhdx::structure(source),
        Format::Vdi => vdi::structure(source),
        Format::Vpc => vpc::structure(source),
        Format::Qed => qed::structure(source),
        Format::Parallels => parallels::structure(source),
        Format::Luks => luks::structure(),
        Format::Bochs => bochs::structure(source),
        Format::Cloop => cloop::structure(source),
        Format::Dmg => dmg::structure(source),
    }
}

/// A record of the given fields.
fn record(name: &str, at: u64, rows: &'static [Row], endian: Endian) -> Record {
    Record {
        name: name.to_owned(),
        at,
        rows,
        endian,
    }
}

/// A number of `bytes` bytes in the file.
fn number(source: &dyn ReadAt, at: u64, bytes: usize, endian: Endian) -> u64 {
    let mut raw = read_vec(source, at, bytes);
    if endian == Little {
        raw.reverse();
    }
    raw.iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Text as a mark.
fn text(bytes: &[u8]) -> Value {
    bytes.into()
}
