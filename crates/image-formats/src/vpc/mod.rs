//! VPC, which is VHD: as Microsoft's Virtual Hard Disk Image Format Specification, version 1.0,
//! has it. Sections are headings of that document.

mod disk;
mod layout;
mod locator;
mod rules;
mod structure;
mod write;

use crate::model::Driver;
use crate::structured::{Schema, Structured};

pub use rules::RULES;
pub use write::{Block, FEATURES, Geometry, Locator, Parent, Platform, Spec, build};

/// VPC in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "vpc",
    probe: |ends| ends.head(0, layout::COOKIE) || ends.tail(layout::COOKIE),
    open: |store| Structured::open(store, &SCHEMA),
};

static SCHEMA: Schema = Schema {
    structure: structure::structure,
    check: rules::check,
    disk: disk::open,
    references: |store| {
        let layout = layout::Layout::read(store);
        // The one that is tried first is the parent's name.
        let mut names = locator::names(store, &layout);
        names.reverse();
        names
    },
    unit: |store| {
        let dynamic = layout::Layout::read(store).dynamic;
        let dynamic = dynamic.filter(layout::Dynamic::has_geometry);
        dynamic.map_or(layout::SECTOR, |dynamic| dynamic.block_size)
    },
};
