//! LUKS volumes of both versions, and the LUKS 1 header inside a qcow2 image.

mod cipher;
mod disk;
mod hash;
mod layout;
mod limits;
mod rules;
mod split;
mod text;
mod v1;
mod v2;
mod volume;
mod write;

use crate::checker::Checker;
use crate::model::Driver;
use crate::store::Store;
use crate::structure::Structure;
use crate::structured::{Schema, Structured};

pub use cipher::{SECTOR, SectorCipher};
pub use hash::Hash;
pub use rules::RULES;
pub use volume::Volume;
pub use write::{FEATURES, Kdf, Slot, Spec, build};

pub(crate) use layout::MAGIC;
pub(crate) use v1::{HEADER_LENGTH, ROWS, SLOT_LENGTH, SLOT_ROWS, SLOTS, SLOTS_AT, unlock};

/// The name that the payload of a detached header has among the files of a disk, and in an
/// image that is built: the header does not name it.
pub const PAYLOAD_NAME: &str = "payload";

/// LUKS in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "luks",
    probe: |ends| ends.head(0, MAGIC) && (ends.head(6, &[0, 1]) || ends.head(6, &[0, 2])),
    open: |store| Structured::open(store, &SCHEMA),
};

static SCHEMA: Schema = Schema {
    structure,
    check,
    disk: disk::open,
    references: |store| match disk::is_detached(store) {
        true => vec![PAYLOAD_NAME.as_bytes().to_vec()],
        false => Vec::new(),
    },
    unit: |_| SECTOR,
};

fn structure(source: &Store) -> Structure {
    match v2::is_version_2(source) {
        true => v2::structure(source),
        false => v1::structure(source),
    }
}

fn check(source: &Store, checker: &mut Checker) {
    match v2::is_version_2(source) {
        true => v2::check(source, checker),
        false => v1::check(source, checker),
    }
}
