//! Growing images of Bochs. There is no specification of its own; the sections are the
//! structures of the format.

mod check;
mod disk;
mod layout;
mod rules;
mod write;

use crate::model::Driver;
use crate::structured::{Schema, Structured};

pub use rules::RULES;
pub use write::{FEATURES, Spec, build};

/// Bochs in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "bochs",
    probe: |ends| ends.head(0, layout::MAGIC),
    open: |store| Structured::open(store, &SCHEMA),
};

static SCHEMA: Schema = Schema {
    structure: layout::structure,
    check: check::check,
    disk: disk::open,
    references: |_| Vec::new(),
    unit: |store| layout::Layout::read(store).extent,
};
