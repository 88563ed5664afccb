//! The builder.

use std::fmt::Write as _;

use data_encoding::BASE64;

use super::spec::{Compression, Directory, Spec};
use crate::block::{Block, Content, sorted};
use crate::built::BuiltFile;
use crate::dmg::codec::ChunkType;
use crate::dmg::layout::{CHUNK, MAGIC, SECTOR, TABLE_HEADER, TABLE_MAGIC, TRAILER};
use crate::spec_error::SpecError;
use crate::store::Store;

/// A chunk of the image.
struct Piece {
    kind: ChunkType,
    /// First sector on the disk.
    sector: u64,
    sectors: u64,
    data: Vec<u8>,
    /// Byte offset of the data in the data fork.
    at: u64,
}

/// The chunks of a block table.
struct Run {
    pieces: Vec<Piece>,
    sector: u64,
    sectors: u64,
}

/// The image that `spec` describes, called `name`.
///
/// # Errors
///
/// The parts of `spec` contradict each other or the format.
pub fn build(spec: &Spec, name: &str) -> Result<Vec<BuiltFile>, SpecError> {
    spec.validate()?;
    let mut runs = runs(spec)?;
    let fork = u64::from(spec.data_fork_offset);
    let mut store = Store::new();
    let data_len = place(spec, &mut runs);
    store.resize(fork + data_len);
    for piece in runs.iter().flat_map(|run| &run.pieces) {
        store.write(fork + piece.at, &piece.data);
    }
    let tables: Vec<Vec<u8>> = runs.iter().map(|run| table(spec, run)).collect();
    let mut append = |bytes: &[u8]| {
        let at = crate::io::ReadAt::len(&store);
        store.write(at, bytes);
        // The store keeps trailing zeros, and nothing has none.
        (at, bytes.len() as u64)
    };
    let resources = match spec.directory {
        Directory::Plist => (0, 0),
        _ => append(&resource_fork(&tables)),
    };
    let xml = match spec.directory {
        Directory::ResourceFork => (0, 0),
        _ => append(plist(spec, &tables).as_bytes()),
    };
    let data = store.read_vec(fork, data_len as usize);
    let parts = [(fork, data_len), resources, xml];
    let trailer = trailer(spec, parts, &data, &tables);
    let at = crate::io::ReadAt::len(&store);
    store.write(at, &trailer);
    Ok(vec![BuiltFile {
        name: name.to_owned(),
        bytes: store,
    }])
}

/// The chunks of each block table, with their data.
fn runs(spec: &Spec) -> Result<Vec<Run>, SpecError> {
    let count = spec.chunk_count();
    let blocks = sorted(&spec.blocks, count)?;
    let disk = spec.virtual_size / SECTOR;
    let unit = u64::from(spec.chunk_sectors);
    let mut ends: Vec<u64> = Vec::new();
    for chunks in &spec.tables {
        ends.push(ends.last().copied().unwrap_or(0) + chunks);
    }
    ends.push(count);
    let mut blocks = blocks.into_iter().peekable();
    let (mut runs, mut first) = (Vec::new(), 0);
    for end in ends {
        let sector = first * unit;
        let mut pieces: Vec<Piece> = Vec::new();
        // Free space up to a sector, in one chunk.
        let fill = |pieces: &mut Vec<Piece>, until: u64| {
            let from = pieces
                .last()
                .map_or(sector, |last| last.sector + last.sectors);
            if until > from {
                pieces.push(Piece {
                    kind: ChunkType::Ignore,
                    sector: from,
                    sectors: until - from,
                    data: Vec::new(),
                    at: 0,
                });
            }
        };
        while let Some(block) = blocks.next_if(|block| block.index < end) {
            let from = block.index * unit;
            fill(&mut pieces, from);
            let sectors = unit.min(disk - from);
            match pieces.last_mut() {
                Some(last) if last.kind == ChunkType::Zero && block.content == Content::Zero => {
                    last.sectors += sectors;
                }
                _ => pieces.push(piece(spec, block, from, sectors)?),
            }
        }
        let until = (end * unit).min(disk);
        fill(&mut pieces, until);
        runs.push(Run {
            pieces,
            sector,
            sectors: until - sector,
        });
        first = end;
    }
    Ok(runs)
}

fn piece(spec: &Spec, block: &Block, sector: u64, sectors: u64) -> Result<Piece, SpecError> {
    let unit = (u64::from(spec.chunk_sectors) * SECTOR) as usize;
    let used = (sectors * SECTOR) as usize;
    let (kind, data) = match &block.content {
        Content::Zero => (ChunkType::Zero, Vec::new()),
        Content::Data(pattern) => (ChunkType::Raw, pattern.bytes(unit)),
        Content::Compressed(pattern) => {
            let kind = match spec.compression {
                Compression::Adc => ChunkType::Adc,
                Compression::Zlib => ChunkType::Zlib,
                Compression::Bzip2 => ChunkType::Bzip2,
                Compression::Lzfse => ChunkType::Lzfse,
            };
            (kind, pattern.bytes(unit))
        }
    };
    let data = &data[..used.min(data.len())];
    let packed = kind.compress(data);
    Ok(Piece {
        kind,
        sector,
        sectors,
        data: packed.map_err(|error| SpecError(format!("chunk {}: {error}", block.index)))?,
        at: 0,
    })
}

/// Places the data of the chunks; the length of the data fork.
fn place(spec: &Spec, runs: &mut [Run]) -> u64 {
    let mut pieces: Vec<&mut Piece> = runs.iter_mut().flat_map(|run| &mut run.pieces).collect();
    pieces.retain(|piece| piece.kind.is_stored());
    let lengths: Vec<u64> = pieces
        .iter()
        .map(|piece| (piece.data.len() as u64).div_ceil(SECTOR))
        .collect();
    let (firsts, end) = spec.placement.arrange(&lengths, 0);
    for (piece, first) in pieces.into_iter().zip(firsts) {
        piece.at = first * SECTOR;
    }
    end * SECTOR
}

/// A block table.
fn table(spec: &Spec, run: &Run) -> Vec<u8> {
    let stored = run.pieces.iter().filter(|piece| piece.kind.is_stored());
    let base = match spec.table_offsets {
        true => stored.clone().map(|piece| piece.at).min().unwrap_or(0),
        false => 0,
    };
    let largest = stored.map(|piece| piece.sectors).max().unwrap_or(0);
    let comments = usize::from(spec.comments);
    let count = run.pieces.len() + comments + 1;
    let mut bytes = Vec::with_capacity(TABLE_HEADER as usize + count * CHUNK as usize);
    bytes.extend_from_slice(TABLE_MAGIC);
    bytes.extend(1_u32.to_be_bytes());
    bytes.extend(run.sector.to_be_bytes());
    bytes.extend(run.sectors.to_be_bytes());
    bytes.extend(base.to_be_bytes());
    // Room for the stream's own overhead, as other writers leave it.
    bytes.extend((largest as u32 + 8).to_be_bytes());
    bytes.resize(64, 0);
    let sum = spec.checksums.then(|| {
        let mut sum = crc32fast::Hasher::new();
        // Free space is not counted.
        let counted = run.pieces.iter().filter(|p| p.kind != ChunkType::Ignore);
        for piece in counted {
            let len = (piece.sectors * SECTOR) as usize;
            // What was compressed a moment ago expands.
            sum.update(&piece.kind.expand(&piece.data, len).unwrap_or_default());
        }
        sum.finalize()
    });
    checksum(sum, &mut bytes);
    bytes.extend((count as u32).to_be_bytes());
    let end = run.sectors;
    for (index, piece) in run.pieces.iter().enumerate() {
        let offset = piece.at.saturating_sub(base);
        let stored = piece.kind.is_stored();
        let part = match stored {
            true => (offset, piece.data.len() as u64),
            false => (0, 0),
        };
        let sectors = (piece.sector - run.sector, piece.sectors);
        chunk(piece.kind, sectors, part, &mut bytes);
        if index == 0 && spec.comments {
            let next = piece.sector - run.sector + piece.sectors;
            chunk(ChunkType::Comment, (next, 0), (0, 0), &mut bytes);
        }
    }
    if run.pieces.is_empty() && spec.comments {
        chunk(ChunkType::Comment, (0, 0), (0, 0), &mut bytes);
    }
    // Readers take the offset of the terminator for the end of the data.
    let ends = run.pieces.iter().map(|piece| match piece.kind.is_stored() {
        true => piece.at + piece.data.len() as u64 - base,
        false => 0,
    });
    let data_end = ends.max().unwrap_or(0);
    chunk(ChunkType::Terminator, (end, 0), (data_end, 0), &mut bytes);
    bytes
}

fn chunk(
    kind: ChunkType,
    (sector, sectors): (u64, u64),
    (offset, len): (u64, u64),
    bytes: &mut Vec<u8>,
) {
    bytes.extend(kind.number().to_be_bytes());
    bytes.extend(0_u32.to_be_bytes());
    for number in [sector, sectors, offset, len] {
        bytes.extend(number.to_be_bytes());
    }
}

/// Type, bits and the 128 bytes of a checksum.
fn checksum(sum: Option<u32>, bytes: &mut Vec<u8>) {
    let (kind, bits) = if sum.is_some() {
        (2_u32, 32_u32)
    } else {
        (0, 0)
    };
    bytes.extend(kind.to_be_bytes());
    bytes.extend(bits.to_be_bytes());
    bytes.extend(sum.unwrap_or(0).to_be_bytes());
    bytes.extend([0; 124]);
}

fn plist(spec: &Spec, tables: &[Vec<u8>]) -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple Computer//DTD PLIST 1.0//EN\" \
         \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n\t<key>resource-fork</key>\n\t<dict>\n\
         \t\t<key>blkx</key>\n\t\t<array>\n",
    );
    for (index, table) in tables.iter().enumerate() {
        let base64 = BASE64.encode(table);
        let width = match spec.line_characters {
            0 => base64.len().max(4),
            width => width as usize,
        };
        let _ = write!(
            text,
            "\t\t\t<dict>\n\t\t\t\t<key>Attributes</key>\n\t\t\t\t<string>0x0050</string>\n\
             \t\t\t\t<key>CFName</key>\n\t\t\t\t<string>{name}</string>\n\
             \t\t\t\t<key>Data</key>\n\t\t\t\t<data>\n",
            name = table_name(index),
        );
        for line in base64.as_bytes().chunks(width) {
            let _ = writeln!(text, "\t\t\t\t{}", String::from_utf8_lossy(line));
        }
        let _ = write!(
            text,
            "\t\t\t\t</data>\n\t\t\t\t<key>ID</key>\n\t\t\t\t<string>{index}</string>\n\
             \t\t\t\t<key>Name</key>\n\t\t\t\t<string>{name}</string>\n\t\t\t</dict>\n",
            name = table_name(index),
        );
    }
    text.push_str("\t\t</array>\n\t</dict>\n</dict>\n</plist>\n");
    text
}

fn table_name(index: usize) -> String {
    format!("partition (Apple_Free : {index})")
}

/// A resource fork with the tables as its resources: header, data, and the map.
fn resource_fork(tables: &[Vec<u8>]) -> Vec<u8> {
    const DATA_AT: u32 = 256;
    let mut data = Vec::new();
    let (mut references, mut names) = (Vec::new(), Vec::new());
    for (index, table) in tables.iter().enumerate() {
        references.extend((index as u16).to_be_bytes());
        references.extend((names.len() as u16).to_be_bytes());
        let at = data.len() as u32;
        references.extend((0x5000_0000 | at & 0xff_ffff).to_be_bytes());
        references.extend([0; 4]);
        let name = table_name(index);
        names.push(name.len() as u8);
        names.extend(name.into_bytes());
        data.extend((table.len() as u32).to_be_bytes());
        data.extend(table);
    }
    // Types from byte 28 of the map on: their count, one type, its references.
    let names_at = 28 + 10 + references.len() as u16;
    let map_len = u32::from(names_at) + names.len() as u32;
    let map_at = DATA_AT + data.len() as u32;
    let mut header = Vec::new();
    for number in [DATA_AT, map_at, data.len() as u32, map_len] {
        header.extend(number.to_be_bytes());
    }
    let mut fork = header.clone();
    fork.resize(DATA_AT as usize, 0);
    fork.extend(data);
    fork.extend(header);
    fork.extend([0; 8]);
    fork.extend(28_u16.to_be_bytes());
    fork.extend(names_at.to_be_bytes());
    fork.extend(0_u16.to_be_bytes());
    fork.extend(b"blkx");
    fork.extend((tables.len() as u16).wrapping_sub(1).to_be_bytes());
    fork.extend(10_u16.to_be_bytes());
    fork.extend(references);
    fork.extend(names);
    fork
}

/// The trailer; `parts` are data fork, resource fork and property list, `data` what is in the
/// first.
fn trailer(spec: &Spec, parts: [(u64, u64); 3], data: &[u8], tables: &[Vec<u8>]) -> Vec<u8> {
    let [fork, resources, xml] = parts;
    let mut bytes = Vec::with_capacity(TRAILER as usize);
    bytes.extend(MAGIC);
    bytes.extend(4_u32.to_be_bytes());
    bytes.extend((TRAILER as u32).to_be_bytes());
    bytes.extend(1_u32.to_be_bytes());
    bytes.extend(0_u64.to_be_bytes());
    for number in [fork.0, fork.1, resources.0, resources.1] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(1_u32.to_be_bytes());
    bytes.extend(1_u32.to_be_bytes());
    bytes.resize(80, 0);
    checksum(spec.checksums.then(|| crc32fast::hash(data)), &mut bytes);
    bytes.extend(xml.0.to_be_bytes());
    bytes.extend(xml.1.to_be_bytes());
    bytes.resize(352, 0);
    let master = spec.checksums.then(|| {
        let mut sum = crc32fast::Hasher::new();
        tables.iter().for_each(|table| sum.update(&table[72..76]));
        sum.finalize()
    });
    checksum(master, &mut bytes);
    bytes.extend(1_u32.to_be_bytes());
    bytes.extend((spec.virtual_size / SECTOR).to_be_bytes());
    bytes.resize(TRAILER as usize, 0);
    bytes
}
