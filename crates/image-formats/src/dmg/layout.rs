//! What the bytes of an image say: the trailer, the directory of block tables, and their
//! chunks.

use super::codec::ChunkType;
use super::plist::{self, Element, XmlError};
use crate::encoded::{Base64Text, DecimalPad, Encoding};
use crate::field::Place;
use crate::io::ReadAt as _;
use crate::row::{Row, rows};
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Big;

/// `"koly"`.
pub(super) const MAGIC: &[u8; 4] = b"koly";
/// `"mish"`.
pub(super) const TABLE_MAGIC: &[u8; 4] = b"mish";
/// Bytes in the trailer.
pub(super) const TRAILER: u64 = 512;
/// Bytes in a block table before its chunks.
pub(super) const TABLE_HEADER: u64 = 204;
/// Bytes in a chunk of a block table.
pub(super) const CHUNK: u64 = 40;
/// Bytes in a sector.
pub(super) const SECTOR: u64 = 512;
/// The longest property list that is read, in bytes.
pub(super) const LONGEST_PLIST: u64 = 16 << 20;
/// The most block tables that are read.
const MOST_TABLES: usize = 4096;
/// The most chunks of all tables that are read.
const MOST_CHUNKS: usize = 1 << 20;
/// The number of the checksum CRC-32.
pub(super) const CRC32: u64 = 2;

/// Sections of what is known of the format.
pub(super) mod sections {
    pub(in crate::dmg) const TRAILER: &str = "Trailer";
    pub(in crate::dmg) const PLIST: &str = "Property list";
    pub(in crate::dmg) const RESOURCES: &str = "Resource fork";
    pub(in crate::dmg) const TABLE: &str = "Block table";
    pub(in crate::dmg) const CHUNKS: &str = "Chunks";
    pub(in crate::dmg) const CHECKSUMS: &str = "Checksums";
}

pub(super) const TRAILER_ROWS: &[Row] = rows![
    "signature", 0, 4, Bytes, "must be koly";
    "version", 4, 4, Version, "must be 4";
    "header_size", 8, 4, Length, "must be 512";
    "flags", 12, 4, Flags, "";
    "running_data_fork_offset", 16, 8, Offset, "";
    "data_fork_offset", 24, 8, Offset, "within the file";
    "data_fork_length", 32, 8, Length, "within the file";
    "rsrc_fork_offset", 40, 8, Offset, "within the file";
    "rsrc_fork_length", 48, 8, Length, "within the file";
    "segment_number", 56, 4, Number, "0 or 1 in an image of one file";
    "segment_count", 60, 4, Count, "0 or 1 in an image of one file";
    "segment_id", 64, 16, Bytes, "";
    "data_checksum_type", 80, 4, Choice, "0 none, 2 CRC-32, or another known one";
    "data_checksum_bits", 84, 4, Length, "as many as the checksum has";
    "data_checksum", 88, 4, Checksum, "of the data fork, where it is a CRC-32";
    "data_checksum_rest", 92, 124, Bytes, "";
    "xml_offset", 216, 8, Offset, "within the file";
    "xml_length", 224, 8, Length, "within the file, up to 16 MiB";
    "reserved", 232, 120, Reserved, "zeros";
    "master_checksum_type", 352, 4, Choice, "0 none, 2 CRC-32, or another known one";
    "master_checksum_bits", 356, 4, Length, "as many as the checksum has";
    "master_checksum", 360, 4, Checksum, "of the checksums of all tables, where it is a CRC-32";
    "master_checksum_rest", 364, 124, Bytes, "";
    "image_variant", 488, 4, Choice, "1 device, 2 partition, 3 mounted system";
    "sector_count", 492, 8, Count, "as many sectors as the tables have";
    "reserved2", 500, 12, Reserved, "zeros";
];

pub(super) const TABLE_ROWS: &[Row] = rows![
    "signature", 0, 4, Bytes, "must be mish";
    "version", 4, 4, Version, "must be 1";
    "sector_number", 8, 8, Count, "the first sector of the table";
    "sector_count", 16, 8, Count, "within the disk";
    "data_offset", 24, 8, Offset, "in the data fork; added to the offsets of chunks";
    "buffers_needed", 32, 4, Count, "sectors of the largest chunk, at least";
    "block_descriptors", 36, 4, Number, "";
    "reserved", 40, 24, Reserved, "zeros";
    "checksum_type", 64, 4, Choice, "0 none, 2 CRC-32, or another known one";
    "checksum_bits", 68, 4, Length, "as many as the checksum has";
    "checksum", 72, 4, Checksum, "of the sectors of the table, where it is a CRC-32";
    "checksum_rest", 76, 124, Bytes, "";
    "chunk_count", 200, 4, Count, "as many chunks as there is room for";
];

pub(super) const CHUNK_ROWS: &[Row] = rows![
    "type", 0, 4, Choice, "a known one; the last chunk is a terminator";
    "comment", 4, 4, Number, "";
    "sector_number", 8, 8, Count, "from the first sector of the table on; chunks do not overlap";
    "sector_count", 16, 8, Count, "within the table";
    "offset", 24, 8, Offset, "from the data of the table on, within the file";
    "length", 32, 8, Length, "within the file; that of the sectors where it is raw";
];

pub(super) const RESOURCE_ROWS: &[Row] = rows![
    "data_offset", 0, 4, Offset, "of the resources, within the fork";
    "map_offset", 4, 4, Offset, "of the map, within the fork";
    "data_length", 8, 4, Length, "of the resources, within the fork";
    "map_length", 12, 4, Length, "of the map, within the fork";
];

pub(super) const MAP_ROWS: &[Row] = rows![
    "types_offset", 24, 2, Offset, "of the list of types, within the map";
    "names_offset", 26, 2, Offset, "of the names, within the map";
    "type_count", 28, 2, Count, "one less than there are";
];

pub(super) const LENGTH_ROW: &[Row] = rows![
    "length", 0, 4, Length, "of the resource, within the data";
];

/// The numbers of the trailer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trailer {
    /// Byte offset of the trailer.
    pub(super) at: u64,
    /// The data fork: byte offset and length.
    pub(super) data: (u64, u64),
    /// The resource fork.
    pub(super) resources: (u64, u64),
    /// The property list.
    pub(super) xml: (u64, u64),
    /// Sectors on the disk.
    pub(super) sectors: u64,
}

impl Trailer {
    /// Reads the last 512 bytes.
    pub(super) fn read(source: &Store) -> Self {
        let at = source.len().saturating_sub(TRAILER);
        let word = |offset| number(source, at.saturating_add(offset), 8, Big);
        Self {
            at,
            data: (word(24), word(32)),
            resources: (word(40), word(48)),
            xml: (word(216), word(224)),
            sectors: word(492),
        }
    }

    /// Whether a part of the file is before the trailer.
    pub(super) fn is_before(&self, (offset, len): (u64, u64)) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.at)
    }

    /// The text of the property list, if it is within the file and not too long.
    pub(super) fn plist(&self, source: &Store) -> Option<Vec<u8>> {
        let (offset, len) = self.xml;
        let there = len > 0 && len <= LONGEST_PLIST && self.is_before(self.xml);
        there.then(|| source.read_vec(offset, len as usize))
    }
}

/// Where the bytes of a block table are.
#[derive(Clone, Debug)]
pub(super) enum Home {
    /// In the file, at this byte.
    File(u64),
    /// In base64.
    Text(Base64Text),
}

/// A block table.
#[derive(Clone, Debug)]
pub(super) struct BlockTable {
    /// What its paths begin with.
    pub(super) path: String,
    /// Byte offset in the file, of the text where it is in one.
    pub(super) at: u64,
    pub(super) home: Home,
    /// All its bytes.
    pub(super) bytes: Vec<u8>,
}

/// A chunk of a block table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    /// The number of its type.
    pub(super) type_number: u32,
    /// Its first sector, from that of the table on.
    pub(super) sector: u64,
    pub(super) sectors: u64,
    /// From the data of the table on.
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl Directory {
    /// Sectors on the disk: what the trailer says, or where it says nothing, as some writers
    /// leave it, those of the tables.
    pub(super) fn sectors(&self, trailer: Trailer) -> u64 {
        match trailer.sectors {
            0 => self.end(),
            sectors => sectors,
        }
    }

    /// Sectors of the block tables.
    pub(super) fn end(&self) -> u64 {
        let ends = self.used().map(|table| {
            let (first, count) = (table.number(8, 8), table.number(16, 8));
            first.saturating_add(count)
        });
        ends.max().unwrap_or(0)
    }

    /// The block tables that readers take: those of the resource fork, where it has any.
    pub(super) fn used(&self) -> impl Iterator<Item = &BlockTable> {
        let is_file = |table: &BlockTable| matches!(table.home, Home::File(_));
        let tables = || self.tables.iter().filter(|table| table.is_table());
        let in_fork = tables().any(is_file);
        tables().filter(move |table| is_file(table) == in_fork)
    }
}

impl Chunk {
    /// Its type, if it is known.
    pub(super) fn kind(&self) -> Option<ChunkType> {
        ChunkType::from_number(self.type_number)
    }
}

impl BlockTable {
    /// The number of `bytes` bytes at `at`; zeros past the end.
    pub(super) fn number(&self, at: u64, bytes: usize) -> u64 {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let end = at.saturating_add(bytes).min(self.bytes.len());
        let mut found = self.bytes.get(at..end).unwrap_or(&[]).to_vec();
        found.resize(bytes, 0);
        Big.number(&found)
    }

    /// Whether it has the magic bytes and room for its fields.
    pub(super) fn is_table(&self) -> bool {
        self.bytes.starts_with(TABLE_MAGIC) && self.bytes.len() as u64 >= TABLE_HEADER
    }

    /// Chunks that there is room for.
    pub(super) fn room(&self) -> u64 {
        (self.bytes.len() as u64).saturating_sub(TABLE_HEADER) / CHUNK
    }

    /// Its chunks, as many as it says and has.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Chunk> + '_ {
        let count = self.room().min(self.number(200, 4)).min(MOST_CHUNKS as u64);
        (0..count).map(|index| {
            let at = |offset: u64| TABLE_HEADER + index * CHUNK + offset;
            Chunk {
                type_number: self.number(at(0), 4) as u32,
                sector: self.number(at(8), 8),
                sectors: self.number(at(16), 8),
                offset: self.number(at(24), 8),
                len: self.number(at(32), 8),
            }
        })
    }
}

/// The block tables of an image, and how they were found.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) tables: Vec<BlockTable>,
    /// What is wrong with the property list, where there is one.
    pub(super) xml_error: Option<XmlError>,
    /// Texts of the property list: their paths and places.
    pub(super) texts: Vec<(String, Place)>,
}

/// Finds the block tables: those of the resource fork where there is one, else those of the
/// property list.
pub(super) fn directory(source: &Store) -> Directory {
    let trailer = Trailer::read(source);
    let mut found = Directory::default();
    if let Some(text) = trailer.plist(source) {
        match plist::parse(&text) {
            Ok(root) => tables_in_plist(&text, trailer.xml.0, &root, &mut found),
            Err(error) => found.xml_error = Some(error),
        }
    }
    if trailer.resources.1 > 0 {
        // What readers take; the property list should say the same.
        let plist = std::mem::take(&mut found.tables);
        tables_in_fork(source, trailer, &mut found);
        found.tables.extend(plist);
    }
    found
}

fn tables_in_plist(text: &[u8], base: u64, root: &Element, found: &mut Directory) {
    let Some(array) = root
        .get(text, "resource-fork")
        .and_then(|fork| fork.get(text, "blkx"))
    else {
        return;
    };
    let entries = array.children.iter().filter(|entry| entry.name == "dict");
    for (index, entry) in entries.take(MOST_TABLES).enumerate() {
        let path = format!("blkx[{index}]");
        for (key, name) in [("ID", "id"), ("Attributes", "attributes"), ("Name", "name")] {
            let Some(value) = entry.get(text, key).filter(|v| !v.inner.is_empty()) else {
                continue;
            };
            let inner = &text[value.inner.clone()];
            let decimal = inner.iter().all(u8::is_ascii_digit) && key == "ID";
            let encoding = match decimal {
                true => Encoding::Decimal {
                    pad: DecimalPad::Zeros,
                },
                false => Encoding::Blanks,
            };
            let place = Place::Encoded {
                offset: base + value.inner.start as u64,
                len: inner.len() as u64,
                encoding,
            };
            found.texts.push((format!("{path}.{name}"), place));
        }
        if let Some(data) = entry.get(text, "Data").filter(|data| data.name == "data") {
            let at = base + data.inner.start as u64;
            let home = Base64Text::new(at, &text[data.inner.clone()]);
            let bytes = home.decode(&text[data.inner.clone()]);
            found.tables.push(BlockTable {
                path,
                at,
                home: Home::Text(home),
                bytes,
            });
        }
    }
}

/// The resources one after the other, as readers find them, whatever the map says.
fn tables_in_fork(source: &Store, trailer: Trailer, found: &mut Directory) {
    if !trailer.is_before(trailer.resources) {
        return;
    }
    let (fork, fork_len) = trailer.resources;
    let word = |at: u64| number(source, at, 4, Big);
    let mut at = fork + word(fork);
    let end = at.saturating_add(word(fork + 8)).min(fork + fork_len);
    for index in 0..MOST_TABLES {
        let len = word(at);
        let first = at + 4;
        if first >= end || len == 0 || len > end - first {
            break;
        }
        let len_read = len.min(LONGEST_PLIST) as usize;
        found.tables.push(BlockTable {
            path: format!("resource[{index}]"),
            at: first,
            home: Home::File(first),
            bytes: source.read_vec(first, len_read),
        });
        at = first + len;
    }
}
