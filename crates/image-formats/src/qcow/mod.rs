//! qcow, version 1, as Mark McLoughlin's `The QCOW Image Format` describes it; the sections are
//! its own.

mod check;
mod disk;
mod layout;
mod rules;
mod write;

use crate::model::Driver;
use crate::structured::{Schema, Structured};

pub use rules::RULES;
pub use write::{FEATURES, Spec, build};

/// qcow, version 1, in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "qcow",
    probe: |ends| ends.head(0, b"QFI\xfb\0\0\0\x01"),
    open: |store| Structured::open(store, &SCHEMA),
};

static SCHEMA: Schema = Schema {
    structure: layout::structure,
    check: check::check,
    disk: disk::open,
    references: |store| {
        let layout = layout::Layout::read(store);
        layout.backing_name(store).into_iter().collect()
    },
    unit: |store| layout::Layout::read(store).cluster_size().unwrap_or(512),
};
