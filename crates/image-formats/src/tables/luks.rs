//! The LUKS header with its key slots.

use super::{record, text};
use crate::field::Endian::Big;
use crate::fixed::Structure;
use crate::luks;
use crate::value::Value;

pub(super) fn structure() -> Structure {
    let slot = |index| {
        let at = luks::SLOTS_AT + index * luks::SLOT_LENGTH;
        record(&format!("key_slot[{index}]"), at, luks::SLOT_ROWS, Big)
    };
    let mut records = vec![record("header", 0, luks::ROWS, Big)];
    records.extend((0..luks::SLOTS).map(slot));
    Structure {
        records,
        arrays: Vec::new(),
        marks: vec![
            ("header.magic", text(luks::MAGIC)),
            ("header.version", Value::Uint(1)),
        ],
        ..Structure::default()
    }
}
