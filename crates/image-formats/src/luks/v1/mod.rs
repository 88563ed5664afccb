//! Version 1, as the LUKS On-Disk Format Specification 1.2.3 has it.

mod check;
mod key;
mod layout;

pub(super) use check::check;
pub(crate) use key::unlock;
pub(super) use layout::{DISABLED, ENABLED, Header, structure};
pub(crate) use layout::{HEADER_LENGTH, ROWS, SLOT_LENGTH, SLOT_ROWS, SLOTS, SLOTS_AT};
