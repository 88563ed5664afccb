//! Images of the compressed loop device of Linux, version 2. There is no specification of its
//! own; the sections are the structures of the format.

mod check;
mod disk;
mod layout;
mod rules;
mod write;

use crate::model::Driver;
use crate::structured::{Schema, Structured};

pub use rules::RULES;
pub use write::{FEATURES, Spec, build};

/// cloop in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "cloop",
    probe: |ends| ends.head(0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop"),
    open: |store| Structured::open(store, &SCHEMA),
};

static SCHEMA: Schema = Schema {
    structure: layout::structure,
    check: check::check,
    disk: disk::open,
    references: |_| Vec::new(),
    unit: |store| layout::Layout::read(store).block_size,
};
