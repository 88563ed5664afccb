//! VHDX, as [MS-VHDX] specifies it.
//!
//! A file whose log is to be replayed is described as it is after that, where structures are
//! looked for and rules are checked; the fields themselves hold what the file has.
//!
//! [MS-VHDX]: https://learn.microsoft.com/openspecs/windows_protocols/ms-vhdx

mod disk;
mod layout;
mod locator;
mod log;
mod rules;
mod structure;
mod write;

use crate::model::Driver;
use crate::structured::{Schema, Structured};

pub use rules::RULES;
pub use write::{Block, BlockState, FEATURES, Headers, Log, LogWrite, Parent, Spec, build};

/// VHDX in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "vhdx",
    probe: |ends| ends.head(0, layout::MAGIC),
    open: |store| Structured::open(store, &SCHEMA),
};

static SCHEMA: Schema = Schema {
    structure: structure::structure,
    check: rules::check,
    disk: disk::open,
    references: |store| {
        let bytes = log::Replay::of(store).bytes(store);
        let layout = layout::Layout::read(&bytes);
        locator::Locator::read(&bytes, &layout).map_or_else(Vec::new, |locator| {
            // The one that is tried first is the parent's name.
            locator.paths().into_iter().rev().collect()
        })
    },
    unit: |store| {
        let bytes = log::Replay::of(store).bytes(store);
        let layout = layout::Layout::read(&bytes);
        match layout.has_geometry() {
            true => layout.block_size,
            false => layout::MIB,
        }
    },
};
