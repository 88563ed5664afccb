//! Apple disk images (UDIF). There is no public specification: field names and rules are what
//! is known of the format from images and from the programs that read and write them.

mod adc;
mod checksums;
mod codec;
mod disk;
mod layout;
mod plist;
mod rules;
mod structure;
mod write;

use crate::model::Driver;
use crate::structured::{Schema, Structured};

pub use rules::RULES;
pub use write::{Compression, Directory, FEATURES, Spec, build};

/// DMG in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "dmg",
    probe: |ends| ends.tail(layout::MAGIC),
    open: |store| Structured::open(store, &SCHEMA),
};

static SCHEMA: Schema = Schema {
    structure: structure::structure,
    check: rules::check,
    disk: disk::open,
    references: |_| Vec::new(),
    unit: |_| layout::SECTOR,
};
