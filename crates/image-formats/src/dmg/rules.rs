//! The rules of the format.

use super::codec::ChunkType;
use super::disk::{self, Placed};
use super::layout::{
    self, BlockTable, Chunk, Home, LONGEST_PLIST, MAGIC, SECTOR, TABLE_HEADER, TRAILER, Trailer,
    sections,
};
use crate::checker::{Checker, rules};
use crate::io::ReadAt as _;
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Big;

rules! {
    /// The image ends with a trailer, which begins with its magic bytes.
    IS_DMG = Must, sections::TRAILER, "trailer";
    /// The version is 4.
    VERSION = Must, sections::TRAILER, "version";
    /// The trailer has 512 bytes.
    TRAILER_SIZE = Must, sections::TRAILER, "trailer-size";
    /// The data fork is before the trailer.
    DATA_INSIDE = Must, sections::TRAILER, "data-fork-inside";
    /// The resource fork is before the trailer.
    FORK_INSIDE = Must, sections::TRAILER, "resource-fork-inside";
    /// The property list is before the trailer.
    PLIST_INSIDE = Must, sections::TRAILER, "plist-inside";
    /// The property list is not longer than 16 MiB.
    PLIST_LENGTH = Should, sections::TRAILER, "plist-length";
    /// There is a resource fork or a property list.
    DIRECTORY = Must, sections::TRAILER, "directory";
    /// The image is one file.
    SEGMENTS = Should, sections::TRAILER, "segments";
    /// The variant is known.
    VARIANT = Should, sections::TRAILER, "image-variant";
    /// Reserved bytes are zeros.
    RESERVED = Should, sections::TRAILER, "reserved";
    /// The disk has as many sectors as its tables, of no more bytes than can be counted.
    SECTORS = Must, sections::TRAILER, "sector-count";
    /// The property list is XML with one element.
    XML = Must, sections::PLIST, "plist-syntax";
    /// There is a block table.
    SOME_TABLE = Must, sections::PLIST, "some-table";
    /// Resources and their map are within the resource fork.
    RESOURCES = Must, sections::RESOURCES, "resources-inside";
    /// A block table begins with its magic bytes.
    TABLE_MAGIC = Must, sections::TABLE, "table-magic";
    /// The version of a block table is 1.
    TABLE_VERSION = Should, sections::TABLE, "table-version";
    /// A block table has room for its fields.
    TABLE_SIZE = Must, sections::TABLE, "table-size";
    /// A block table has as many chunks as it has room for.
    CHUNK_COUNT = Must, sections::TABLE, "chunk-count";
    /// The sectors of a block table are on the disk, and of no other table.
    TABLE_SECTORS = Must, sections::TABLE, "table-sectors";
    /// The buffers are as large as the largest chunk.
    BUFFERS = Should, sections::TABLE, "buffers-needed";
    /// Reserved bytes of a block table are zeros.
    TABLE_RESERVED = Should, sections::TABLE, "table-reserved";
    /// The last chunk of a table, and no other one, is a terminator.
    TERMINATOR = Should, sections::CHUNKS, "terminator";
    /// The type of a chunk is known.
    CHUNK_TYPE = Must, sections::CHUNKS, "chunk-type";
    /// The chunks of a table follow each other.
    CHUNK_SECTORS = Must, sections::CHUNKS, "chunk-sectors";
    /// The data of a chunk is before the trailer.
    CHUNK_INSIDE = Must, sections::CHUNKS, "chunk-inside";
    /// The data of a raw chunk is as long as its sectors.
    RAW_LENGTH = Must, sections::CHUNKS, "raw-length";
    /// Chunks and their data have up to 64 MiB.
    CHUNK_LENGTH = Should, sections::CHUNKS, "chunk-length";
    /// Compressed data expands to the sectors of its chunk.
    CHUNK_DATA = Must, sections::CHUNKS, "chunk-data";
    /// The type of a checksum is known, and its size is right.
    CHECKSUM_TYPE = Should, sections::CHECKSUMS, "checksum-type";
    /// The checksum of a table is that of its sectors, but for free space.
    TABLE_CHECKSUM = Must, sections::CHECKSUMS, "table-checksum";
    /// The checksum of the data fork is right.
    DATA_CHECKSUM = Should, sections::CHECKSUMS, "data-checksum";
    /// The checksum of the checksums of the tables is right.
    MASTER_CHECKSUM = Should, sections::CHECKSUMS, "master-checksum";
}

/// The types of checksums that are known, and their bits.
const CHECKSUMS: [(u64, u64); 6] = [(0, 0), (1, 32), (2, 32), (4, 128), (6, 160), (8, 256)];
/// The most bytes of chunks that are expanded to check them.
const EXPANDED: u64 = 64 << 20;

/// Checks the rules of an image, but for those of fields that follow from others.
pub(super) fn check(source: &Store, checker: &mut Checker) {
    let trailer = Trailer::read(source);
    let magic = source.read_vec(trailer.at, 4);
    let right = magic == MAGIC && source.len() >= TRAILER;
    checker.require(right, ("trailer.signature", trailer.at, IS_DMG), || {
        format!("must be koly, is {}", magic.escape_ascii())
    });
    check_trailer(source, trailer, checker);
    parts(trailer, checker);
    let directory = layout::directory(source);
    if let Some(error) = directory.xml_error {
        let at = trailer.xml.0.saturating_add(error.at as u64);
        checker.require(false, ("plist", at, XML), || {
            format!("at byte {at:#x}: {}", error.what)
        });
    }
    fork(source, trailer, checker);
    let any = directory.used().next().is_some();
    checker.require(any, ("plist", trailer.xml.0, SOME_TABLE), || {
        "there is no block table".to_owned()
    });
    let mut budget = checker.scope.budget(EXPANDED);
    for table in &directory.tables {
        let is_fork = matches!(table.home, Home::File(_));
        if is_fork && !table.bytes.starts_with(layout::TABLE_MAGIC) {
            // Another resource.
            continue;
        }
        check_table(table, checker);
        chunks(source, trailer, table, &mut budget, checker);
    }
    sectors(trailer, &directory, checker);
}

fn check_trailer(source: &Store, trailer: Trailer, checker: &mut Checker) {
    let word = |at: u64| number(source, trailer.at.saturating_add(at), 4, Big);
    let place = |at: u64| trailer.at.saturating_add(at);
    for (path, at, wanted, rule) in [
        ("trailer.version", 4, 4..=4, VERSION),
        ("trailer.header_size", 8, 512..=512, TRAILER_SIZE),
        ("trailer.segment_number", 56, 0..=1, SEGMENTS),
        ("trailer.segment_count", 60, 0..=1, SEGMENTS),
        ("trailer.image_variant", 488, 0..=3, VARIANT),
    ] {
        let is = word(at);
        checker.require(wanted.contains(&is), (path, place(at), rule), || {
            match wanted.start() == wanted.end() {
                true => format!("must be {}, is {is}", wanted.start()),
                false => format!("must be {} to {}, is {is}", wanted.start(), wanted.end()),
            }
        });
    }
    for (path, at, len) in [
        ("trailer.reserved", 232, 120),
        ("trailer.reserved2", 500, 12),
    ] {
        let clean = source
            .read_vec(place(at), len)
            .iter()
            .all(|byte| *byte == 0);
        checker.require(clean, (path, place(at), RESERVED), || {
            "must be zeros".to_owned()
        });
    }
    for (path, at) in [
        ("trailer.data_checksum_type", 80),
        ("trailer.master_checksum_type", 352),
    ] {
        checksum_type(path, place(at), (word(at), word(at + 4)), checker);
    }
}

fn checksum_type(path: &str, at: u64, (kind, bits): (u64, u64), checker: &mut Checker) {
    let known = CHECKSUMS.contains(&(kind, bits)) || kind == 0;
    checker.require(known, (path, at, CHECKSUM_TYPE), || {
        format!("a checksum of type {kind} with {bits} bits is not known")
    });
}

/// The parts of the file that the trailer names.
fn parts(trailer: Trailer, checker: &mut Checker) {
    for (path, at, part, rule) in [
        ("trailer.data_fork_offset", 24, trailer.data, DATA_INSIDE),
        (
            "trailer.rsrc_fork_offset",
            40,
            trailer.resources,
            FORK_INSIDE,
        ),
        ("trailer.xml_offset", 216, trailer.xml, PLIST_INSIDE),
    ] {
        let at = trailer.at.saturating_add(at);
        checker.require(trailer.is_before(part), (path, at, rule), || {
            let (offset, len) = part;
            format!("{len} bytes at {offset:#x} are not before the trailer")
        });
    }
    let at = trailer.at.saturating_add(224);
    let short = trailer.xml.1 <= LONGEST_PLIST;
    checker.require(short, ("trailer.xml_length", at, PLIST_LENGTH), || {
        format!("must be at most {LONGEST_PLIST}, is {}", trailer.xml.1)
    });
    let any = trailer.xml.1 > 0 || trailer.resources.1 > 0;
    checker.require(any, ("trailer.xml_length", at, DIRECTORY), || {
        "there is neither a property list nor a resource fork".to_owned()
    });
}

/// The resource fork, where there is one.
fn fork(source: &Store, trailer: Trailer, checker: &mut Checker) {
    let (fork, len) = trailer.resources;
    if len == 0 || !trailer.is_before(trailer.resources) {
        return;
    }
    let word = |at: u64| number(source, fork + at, 4, Big);
    for (path, at, part) in [
        ("resource_fork.data_offset", 0, (word(0), word(8))),
        ("resource_fork.map_offset", 4, (word(4), word(12))),
    ] {
        let inside = part.0 >= 16 && part.0 + part.1 <= len && part.1 > 0;
        checker.require(inside, (path, fork + at, RESOURCES), || {
            let (offset, part_len) = part;
            format!("{part_len} bytes at {offset} are not within the fork of {len} bytes")
        });
    }
    let end = fork.saturating_add(word(0) + word(8)).min(fork + len);
    let mut at = fork + word(0);
    let mut index = 0;
    while at < end && index < 4096 {
        let size = number(source, at, 4, Big);
        let fits = size > 0 && at + 4 + size <= end;
        let path = format!("resource[{index}].length");
        checker.require(fits, (&path, at, RESOURCES), || {
            format!("a resource of {size} bytes does not fit, or is empty")
        });
        if !fits {
            break;
        }
        at += 4 + size;
        index += 1;
    }
}

/// The byte offset of a part of a table in the file.
fn place(table: &BlockTable, at: u64) -> u64 {
    match &table.home {
        Home::File(base) => base.saturating_add(at),
        Home::Text(text) => text.extent(at, 1).map_or(table.at, |(offset, ..)| offset),
    }
}

fn check_table(table: &BlockTable, checker: &mut Checker) {
    let path = |field: &str| format!("{}.table.{field}", table.path);
    let (len, at) = (table.bytes.len() as u64, table.at);
    let roomy = len >= TABLE_HEADER;
    checker.require(roomy, (&path("signature"), at, TABLE_SIZE), || {
        format!("must have at least {TABLE_HEADER} bytes, has {len}")
    });
    let magic = table.bytes.starts_with(layout::TABLE_MAGIC);
    if !magic {
        // Where it could not be one, no field stands for it.
        checker.require(false, (&path("signature"), at, TABLE_MAGIC), || {
            "must be mish".to_owned()
        });
        return;
    }
    let version = table.number(4, 4);
    let at = place(table, 4);
    checker.require(version == 1, (&path("version"), at, TABLE_VERSION), || {
        format!("must be 1, is {version}")
    });
    let clean = table.bytes.iter().skip(40).take(24).all(|byte| *byte == 0);
    let at = place(table, 40);
    checker.require(clean, (&path("reserved"), at, TABLE_RESERVED), || {
        "must be zeros".to_owned()
    });
    let kind = (table.number(64, 4), table.number(68, 4));
    checksum_type(&path("checksum_type"), place(table, 64), kind, checker);
    let stored = table.chunks().filter(is_stored);
    let largest = stored.map(|chunk| chunk.sectors).max().unwrap_or(0);
    let buffers = table.number(32, 4);
    let at = place(table, 32);
    checker.require(
        buffers >= largest,
        (&path("buffers_needed"), at, BUFFERS),
        || format!("must be at least {largest}, the sectors of a chunk, is {buffers}"),
    );
}

fn is_stored(chunk: &Chunk) -> bool {
    chunk.kind().is_some_and(ChunkType::is_stored)
}

fn chunks(
    source: &Store,
    trailer: Trailer,
    table: &BlockTable,
    budget: &mut u64,
    checker: &mut Checker,
) {
    let count = table.chunks().count();
    let sectors = table.number(16, 8);
    let mut next = 0_u64;
    for (index, chunk) in table.chunks().enumerate() {
        let path = |field: &str| format!("{}.chunk[{index}].{field}", table.path);
        let base = TABLE_HEADER + index as u64 * layout::CHUNK;
        let kind = chunk.kind();
        let at = place(table, base);
        checker.require(kind.is_some(), (&path("type"), at, CHUNK_TYPE), || {
            format!("{:#x} is not known", chunk.type_number)
        });
        let last = index + 1 == count;
        let ends = (kind == Some(ChunkType::Terminator)) == last;
        checker.require(ends, (&path("type"), at, TERMINATOR), || match last {
            true => "must be 0xffffffff, since it is the last one".to_owned(),
            false => "a terminator before the last chunk".to_owned(),
        });
        if !kind.is_some_and(ChunkType::is_data) {
            continue;
        }
        let follows = chunk.sector == next;
        let end = chunk.sector.checked_add(chunk.sectors);
        let within = end.is_some_and(|end| end <= sectors) && chunk.sectors > 0;
        let at = place(table, base + 8);
        checker.require(
            follows && within,
            (&path("sector_number"), at, CHUNK_SECTORS),
            || {
                let (first, count) = (chunk.sector, chunk.sectors);
                format!("{count} sectors at {first} of {sectors}; the next one is {next}")
            },
        );
        next = end.unwrap_or(u64::MAX);
        if is_stored(&chunk) {
            stored(source, trailer, (table, index, chunk), budget, checker);
        }
    }
    let path = format!("{}.table.sector_count", table.path);
    let whole = next == sectors;
    checker.require(whole, (&path, place(table, 16), CHUNK_SECTORS), || {
        format!("the chunks have {next} sectors, the table {sectors}")
    });
}

/// The data of a chunk.
fn stored(
    source: &Store,
    trailer: Trailer,
    (table, index, chunk): (&BlockTable, usize, Chunk),
    budget: &mut u64,
    checker: &mut Checker,
) {
    let path = |field: &str| format!("{}.chunk[{index}].{field}", table.path);
    let base = TABLE_HEADER + index as u64 * layout::CHUNK;
    let (data_at, len) = (disk::bases(trailer, table).1, chunk.len);
    let part = data_at
        .checked_add(chunk.offset)
        .map_or((u64::MAX, len), |at| (at, len));
    let inside = trailer.is_before(part);
    let at = place(table, base + 24);
    checker.require(inside, (&path("offset"), at, CHUNK_INSIDE), || {
        format!("{len} bytes at {:#x} are not before the trailer", part.0)
    });
    let size = chunk.sectors.saturating_mul(SECTOR);
    let at = place(table, base + 32);
    let short = size <= disk::LONGEST_CHUNK && len <= disk::LONGEST_CHUNK;
    checker.require(short, (&path("length"), at, CHUNK_LENGTH), || {
        format!("{len} bytes of data for {size} bytes: at most 64 MiB of each")
    });
    if chunk.kind() == Some(ChunkType::Raw) {
        checker.require(len == size, (&path("length"), at, RAW_LENGTH), || {
            format!("must be {size}, is {len}")
        });
        return;
    }
    let readable = inside && short && chunk.kind() != Some(ChunkType::Lzma);
    let Some(left) = budget.checked_sub(size).filter(|_| readable) else {
        return;
    };
    *budget = left;
    let placed = Placed::new(chunk, disk::bases(trailer, table));
    let expanded = placed.map(|placed| placed.expand(source));
    let at = place(table, base);
    if let Some(Err(error)) = expanded {
        checker.require(false, (&path("type"), at, CHUNK_DATA), || error.to_string());
    }
}

/// The sectors of the tables, one after the other.
fn sectors(trailer: Trailer, directory: &layout::Directory, checker: &mut Checker) {
    let tables = directory.used().map(|table| {
        let (first, count) = (table.number(8, 8), table.number(16, 8));
        (first, first.saturating_add(count), table)
    });
    let disk = directory.sectors(trailer);
    let mut tables: Vec<_> = tables.collect();
    tables.sort_by_key(|(first, end, _)| (*first, *end));
    let mut next = 0;
    for (first, end, table) in tables {
        let follows = first == next && end <= disk;
        let path = format!("{}.table.sector_number", table.path);
        checker.require(follows, (&path, place(table, 8), TABLE_SECTORS), || {
            format!("sectors {first} to {end} of {disk}; those before end at {next}")
        });
        next = next.max(end);
    }
    let at = trailer.at.saturating_add(492);
    let fits = trailer.sectors == next && trailer.sectors <= i64::MAX as u64 / SECTOR;
    // Some writers leave it 0.
    let rule = SECTORS.only_if(trailer.sectors > 0);
    checker.require(fits, ("trailer.sector_count", at, rule), || {
        format!(
            "the tables have {next} sectors, the trailer {}",
            trailer.sectors
        )
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::block::{Block, Content};
    use crate::dmg::{Directory, Spec, build};
    use crate::format::{AnyImage, Format};
    use crate::pattern::Pattern;
    use crate::value::Value;

    fn image(directory: Directory) -> AnyImage {
        let block = |index, content| Block { index, content };
        let spec = Spec {
            blocks: vec![
                block(0, Content::Compressed(Pattern::Count(1))),
                block(1, Content::Data(Pattern::Fill(1))),
                block(2, Content::Zero),
            ],
            tables: vec![8],
            directory,
            ..Spec::default()
        };
        let bytes = build(&spec, "i").unwrap().swap_remove(0).bytes;
        AnyImage::open(Arc::new(bytes), Format::Dmg).unwrap()
    }

    fn expect(directory: Directory, path: &str, value: Value, rule: &str) {
        let mut image = image(directory);
        assert_eq!(image.defects().unwrap(), []);
        let text = value.to_string();
        image.set(path, value).unwrap();
        let defects = image.defects().unwrap();
        let found = defects.iter().any(|defect| defect.name == rule);
        assert!(found, "{path} = {text}: no {rule}: {defects:?}");
    }

    /// Each rule of the trailer, broken by one field.
    #[test]
    fn every_rule_of_the_trailer_is_noticed() {
        let far = i64::MAX as u64;
        for (path, value, rule) in [
            ("signature", "KOLY".into(), "trailer"),
            ("version", 5.into(), "version"),
            ("header_size", 511.into(), "trailer-size"),
            ("data_fork_offset", far.into(), "data-fork-inside"),
            ("data_fork_length", far.into(), "data-fork-inside"),
            ("rsrc_fork_length", far.into(), "resource-fork-inside"),
            ("rsrc_fork_offset", far.into(), "resource-fork-inside"),
            ("xml_offset", far.into(), "plist-inside"),
            ("xml_length", far.into(), "plist-length"),
            ("xml_length", 0.into(), "directory"),
            ("xml_length", 10.into(), "plist-syntax"),
            ("segment_number", 2.into(), "segments"),
            ("segment_count", 2.into(), "segments"),
            ("image_variant", 9.into(), "image-variant"),
            ("reserved", "x".into(), "reserved"),
            ("reserved2", "x".into(), "reserved"),
            ("sector_count", 7.into(), "sector-count"),
            ("sector_count", u64::MAX.into(), "sector-count"),
            ("data_checksum_type", 9.into(), "checksum-type"),
            ("data_checksum_bits", 33.into(), "checksum-type"),
            ("data_checksum", 1.into(), "data-checksum"),
            ("master_checksum_type", 9.into(), "checksum-type"),
            ("master_checksum", 1.into(), "master-checksum"),
        ] {
            let path = format!("trailer.{path}");
            expect(Directory::Plist, &path, value, rule);
        }
    }

    /// Each rule of block tables, broken by one field, in base64 and in a resource fork.
    #[test]
    fn every_rule_of_the_tables_is_noticed() {
        let rules = [
            ("table.signature", "MISH".into(), "table-magic"),
            ("table.version", 2.into(), "table-version"),
            ("table.chunk_count", 1.into(), "chunk-count"),
            (
                "table.chunk_count",
                u64::from(u32::MAX).into(),
                "chunk-count",
            ),
            ("table.sector_number", 1.into(), "table-sectors"),
            ("table.sector_count", 1.into(), "chunk-sectors"),
            ("table.sector_count", u64::MAX.into(), "table-sectors"),
            ("table.data_offset", u64::MAX.into(), "chunk-inside"),
            ("table.buffers_needed", 1.into(), "buffers-needed"),
            ("table.reserved", "x".into(), "table-reserved"),
            ("table.checksum_type", 9.into(), "checksum-type"),
            ("table.checksum", 9.into(), "table-checksum"),
            ("chunk[0].type", 9.into(), "chunk-type"),
            ("chunk[0].type", 0x8000_0006.into(), "chunk-data"),
            ("chunk[0].type", 0xffff_ffff.into(), "terminator"),
            ("chunk[4].type", 0.into(), "terminator"),
            ("chunk[1].sector_number", 7.into(), "chunk-sectors"),
            ("chunk[1].sector_count", 0.into(), "chunk-sectors"),
            ("chunk[1].sector_count", u64::MAX.into(), "chunk-sectors"),
            ("chunk[1].offset", u64::MAX.into(), "chunk-inside"),
            ("chunk[0].length", 10.into(), "chunk-data"),
            ("chunk[0].length", (65 << 20).into(), "chunk-length"),
            ("chunk[1].length", 10.into(), "raw-length"),
        ];
        for (path, value, rule) in rules {
            let value: Value = value;
            let text = format!("blkx[0].{path}");
            expect(Directory::Plist, &text, value.clone(), rule);
            if rule != "table-magic" {
                let fork = format!("resource[0].{path}");
                expect(Directory::ResourceFork, &fork, value, rule);
            }
        }
        for (path, value) in [
            ("resource_fork.data_offset", 1 << 30),
            ("resource_fork.map_length", 1 << 30),
            ("resource_fork.data_length", 1 << 30),
            ("resource[0].length", 1 << 30),
            ("resource[1].length", 0),
        ] {
            let value = Value::Uint(value);
            expect(Directory::ResourceFork, path, value, "resources-inside");
        }
    }

    /// A table that is too short, and a property list without any.
    #[test]
    fn short_and_missing_tables_are_noticed() {
        for (from, to, rule) in [
            ("</data>", "<data/>", "plist-syntax"),
            ("<key>blkx</key>", "<key>bulk</key>", "some-table"),
            ("<data>\n", "<data>=", "table-size"),
        ] {
            let mut image = image(Directory::Plist);
            let text = image.field("plist").unwrap().value;
            let text = String::from_utf8(text.as_bytes().unwrap().to_vec()).unwrap();
            image.set("plist", &text.replacen(from, to, 1)[..]).unwrap();
            let defects = image.defects().unwrap();
            let found = defects.iter().any(|defect| defect.name == rule);
            assert!(found, "{rule}: {defects:?}");
        }
    }
}
