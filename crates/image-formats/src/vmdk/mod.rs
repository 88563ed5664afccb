//! VMDK: descriptors, the extents of hosted products, of ESX Server, and space-efficient ones,
//! as "VMware Virtual Disks: Virtual Disk Format 5.0" specifies them, the last as far as is
//! publicly known.
//!
//! An image is a file with a text, the descriptor, that names the files with the data, the
//! extents; or one sparse extent with the text in it. Any of these files can be opened, and
//! an extent is read as the disk that it holds.

mod check;
mod descriptor;
mod disk;
mod fields;
mod layout;
mod map;
mod rules;
mod write;

use crate::model::Driver;
use crate::store::Store;
use crate::structured::{Schema, Structured};

pub use rules::RULES;
pub use write::{Access, FEATURES, Parent, Spec, Subformat, build};

/// VMDK in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "vmdk",
    probe: |ends| layout::Shape::probe(ends.start()).is_some(),
    open: |store| Structured::open(store, &SCHEMA),
};

static SCHEMA: Schema = Schema {
    structure: fields::structure,
    check: check::check,
    disk: disk::open,
    references,
    unit: |store| map::Map::read(store).map_or(layout::SECTOR, |map| map.grain_bytes()),
};

/// The names of the extents in other files, and of the parent.
fn references(source: &Store) -> Vec<Vec<u8>> {
    let Some(descriptor) = fields::descriptor(source) else {
        return Vec::new();
    };
    let is_embedded = layout::Shape::of(source) != layout::Shape::Descriptor;
    let header = layout::Hosted::in_force(source);
    let extents = match is_embedded && header.capacity > 0 {
        true => &[][..],
        false => &descriptor.extents[..],
    };
    let names = extents.iter().filter_map(|extent| extent.name);
    let names = names.map(|name| descriptor.bytes(name));
    let names = names.chain(descriptor.parent());
    names.map(<[u8]>::to_vec).collect()
}
