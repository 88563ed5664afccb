//! QED, as `docs/interop/qed_spec` of QEMU specifies it.

mod disk;
mod layout;
mod rules;
mod write;

use crate::model::Driver;
use crate::structured::{Schema, Structured};

pub use rules::RULES;
pub use write::{Backing, FEATURES, Spec, build};

/// QED in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "qed",
    probe: |ends| ends.head(0, layout::MAGIC),
    open: |store| Structured::open(store, &SCHEMA),
};

static SCHEMA: Schema = Schema {
    structure: layout::structure,
    check: rules::check,
    disk: disk::open,
    references: |store| {
        layout::Layout::read(store)
            .backing_name(store)
            .into_iter()
            .collect()
    },
    unit: |store| layout::Layout::read(store).cluster_size,
};
