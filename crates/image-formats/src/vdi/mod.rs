//! VDI, the format of VirtualBox. There is no specification of its own; the sections are the
//! structures of the header that VirtualBox publishes.

mod check;
mod disk;
mod layout;
mod rules;
mod write;

use crate::model::Driver;
use crate::structured::{Schema, Structured};

pub use rules::RULES;
pub use write::{FEATURES, ImageType, Spec, build};

/// VDI in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "vdi",
    probe: |ends| ends.head(64, &layout::SIGNATURE.to_le_bytes()),
    open: |store| Structured::open(store, &SCHEMA),
};

static SCHEMA: Schema = Schema {
    structure: layout::structure,
    check: check::check,
    disk: disk::open,
    references: |store| {
        let layout = layout::Layout::read(store);
        layout.parent_name().into_iter().collect()
    },
    unit: |store| layout::Layout::read(store).block_size,
};
