//! Version 2, as the LUKS2 On-Disk Format Specification 1.1 has it.

mod area;
mod check;
mod json;
mod key;
mod layout;

pub(super) use check::check;
pub(super) use key::{Part, open};
pub(super) use layout::{
    BINARY, CHECKSUM_AT, SECOND_MAGIC, SIZES, checksum, is_detached, is_version_2, structure,
};
