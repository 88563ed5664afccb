//! The fields of an image.

use super::layout::{
    BlockTable, CHUNK, CHUNK_ROWS, Home, LENGTH_ROW, MAP_ROWS, RESOURCE_ROWS, TABLE_HEADER,
    TABLE_MAGIC, TABLE_ROWS, TRAILER_ROWS, Trailer, directory, sections,
};
use super::{checksums, rules};
use crate::field::Kind;
use crate::store::Store;
use crate::structure::{Derivation, Structure, Table, number};
use crate::value::Endian::Big;

/// The structures of an image.
pub(super) fn structure(source: &Store) -> Structure {
    let trailer = Trailer::read(source);
    let found = Structure::new(Big)
        .section(sections::TRAILER)
        .record("trailer", trailer.at, TRAILER_ROWS)
        .section(sections::PLIST);
    let xml = trailer.plist(source).map_or((0, 0), |_| trailer.xml);
    let mut found = found.run("plist", xml, Kind::Text, "a property list in XML");
    let directory = directory(source);
    for (path, place) in &directory.texts {
        let kind = if place.is_number() {
            Kind::Number
        } else {
            Kind::Text
        };
        found = found.leaf(path, kind, *place, "");
    }
    found = resource_fork(found, source, trailer);
    for table in &directory.tables {
        found = add_table(found, table);
    }
    checksums::add(found, source, trailer, &directory)
}

fn resource_fork(found: Structure, source: &Store, trailer: Trailer) -> Structure {
    let (fork, len) = trailer.resources;
    if len < 16 || !trailer.is_before(trailer.resources) {
        return found;
    }
    let map = fork + number(source, fork + 4, 4, Big);
    found
        .section(sections::RESOURCES)
        .record("resource_fork", fork, RESOURCE_ROWS)
        .record("resource_map", map, MAP_ROWS)
}

fn add_table(found: Structure, table: &BlockTable) -> Structure {
    let (text, at) = match &table.home {
        Home::File(at) => (None, *at),
        Home::Text(text) => (Some(text.clone()), 0),
    };
    let path = &table.path;
    let mut found = found.section(sections::RESOURCES);
    if let Home::File(at) = table.home {
        found = found.record(path, at - 4, LENGTH_ROW);
    }
    if !table.bytes.starts_with(TABLE_MAGIC) {
        return found;
    }
    let chunks = Table::of_records(
        format!("{path}.chunk"),
        (at + TABLE_HEADER, table.room(), CHUNK),
        CHUNK_ROWS,
    );
    let count = table.room();
    found
        .section(sections::TABLE)
        .within(text)
        .record(&format!("{path}.table"), at, TABLE_ROWS)
        .section(sections::CHUNKS)
        .table(chunks)
        .within(None)
        .derived(
            &format!("{path}.table.signature"),
            Derivation::Value,
            rules::TABLE_MAGIC,
            |_| TABLE_MAGIC[..].into(),
        )
        .derived(
            &format!("{path}.table.chunk_count"),
            Derivation::Value,
            rules::CHUNK_COUNT,
            move |_| count.into(),
        )
}
