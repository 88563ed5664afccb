//! Parallels expandable images, as `docs/interop/parallels` of QEMU specifies them.

mod check;
mod disk;
mod extension;
mod layout;
mod rules;
mod write;

use crate::model::Driver;
use crate::structured::{Schema, Structured};

pub use rules::RULES;
pub use write::{Bitmap, BitmapCluster, Extension, FEATURES, Feature, Spec, State, build};

/// Parallels in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "parallels",
    probe: |ends| ends.head(0, layout::MAGIC) || ends.head(0, layout::MAGIC_EXT),
    open: |store| Structured::open(store, &SCHEMA),
};

static SCHEMA: Schema = Schema {
    structure: |store| {
        let layout = layout::Layout::read(store);
        extension::add(store, layout, layout::structure(layout))
    },
    check: check::check,
    disk: disk::open,
    references: |_| Vec::new(),
    unit: |store| layout::Layout::read(store).cluster_size(),
};
