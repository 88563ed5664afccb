//! Sparse extents of hosted products.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::{Block, Content, Part, Spec, Subformat, check_sectors};
use crate::pattern::Pattern;
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;
use crate::vmdk::layout::{
    AT_END, CHECK_BYTES, COMPRESSED, DIRECTORY_MARKER, FOOTER_MARKER, GRAIN_MARKER_LEN,
    HOSTED_MAGIC, MARKERS, NEWLINE_TEST, REDUNDANT, SECTOR, TABLE_ENTRIES, TABLE_MARKER,
    ZEROED_GRAINS,
};

/// Sectors in a grain table.
const TABLE_SECTORS: u64 = TABLE_ENTRIES * 4 / SECTOR;

/// A sparse extent, with the descriptor in it if there is one.
///
/// # Errors
///
/// It would be too large, or has contents that it cannot have.
pub(super) fn build(spec: &Spec, part: &Part<'_>, text: Option<&str>) -> Result<Store, SpecError> {
    let mut extent = Extent::lay_out(spec, part, text)?;
    extent.write_text();
    extent.write_tables();
    extent.write_grains();
    extent.write_headers();
    Ok(extent.store)
}

/// An extent that is built.
struct Extent<'a> {
    spec: &'a Spec,
    part: &'a Part<'a>,
    text: Option<&'a str>,
    store: Store,
    /// The grains that are stored: their numbers, and their bytes with their markers.
    grains: Vec<(u64, Vec<u8>)>,
    /// The numbers of the grain tables.
    tables: Vec<u64>,
    /// The sectors where everything is.
    places: Places,
    /// Sectors in the file.
    sectors: u64,
}

/// The sectors where the parts of an extent are.
#[derive(Default)]
struct Places {
    directory: u64,
    tables: Vec<u64>,
    redundant: Option<(u64, Vec<u64>)>,
    grains: Vec<u64>,
}

/// What is placed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    Redundant,
    RedundantTable,
    Directory,
    Table,
    Grain,
}

impl<'a> Extent<'a> {
    fn lay_out(
        spec: &'a Spec,
        part: &'a Part<'a>,
        text: Option<&'a str>,
    ) -> Result<Self, SpecError> {
        let grains = grains(spec, part)?;
        let tables = part.tables(spec);
        let directory = (part.directory_entries(spec) * 4).div_ceil(SECTOR);
        let mut from = 1;
        if let Some(text) = text {
            let (at, room) = (spec.descriptor_offset, spec.descriptor_sectors);
            let fits = at > 0 && text.len() as u64 <= u64::from(room) * SECTOR;
            let len = text.len();
            ensure!(
                fits,
                "a descriptor of {len} bytes in {room} sectors from {at} on"
            );
            from = u64::from(at) + u64::from(room);
        }
        let marker = u64::from(spec.footer);
        let size = |grain: &(u64, Vec<u8>)| (grain.1.len() as u64).div_ceil(SECTOR);
        let mut pieces: Vec<(Piece, u64)> = Vec::new();
        let table = (Piece::Table, TABLE_SECTORS + marker);
        if spec.footer {
            for index in &tables {
                let own = grains
                    .iter()
                    .filter(|(grain, _)| grain / TABLE_ENTRIES == *index);
                pieces.extend(own.map(|grain| (Piece::Grain, size(grain))));
                pieces.push(table);
            }
            pieces.push((Piece::Directory, directory + marker));
        } else {
            if spec.redundant {
                pieces.push((Piece::Redundant, directory));
                pieces.extend(
                    tables
                        .iter()
                        .map(|_| (Piece::RedundantTable, TABLE_SECTORS)),
                );
            }
            pieces.push((Piece::Directory, directory));
            pieces.extend(tables.iter().map(|_| table));
            pieces.extend(grains.iter().map(|grain| (Piece::Grain, size(grain))));
        }
        let lengths: Vec<u64> = pieces.iter().map(|(_, len)| *len).collect();
        let (firsts, end) = spec.placement.arrange(&lengths, from);
        let sectors = end.saturating_add(3 * marker);
        check_sectors(sectors)?;
        let at = |wanted: Piece, marker: u64| {
            let all = pieces.iter().zip(&firsts);
            let all = all.filter(move |((piece, _), _)| *piece == wanted);
            all.map(|(_, first)| first + marker).collect::<Vec<u64>>()
        };
        let first = |all: Vec<u64>| all.first().copied();
        let redundant = first(at(Piece::Redundant, 0));
        let places = Places {
            directory: first(at(Piece::Directory, marker)).unwrap_or(0),
            tables: at(Piece::Table, marker),
            redundant: redundant.map(|first| (first, at(Piece::RedundantTable, 0))),
            grains: at(Piece::Grain, 0),
        };
        let mut store = Store::new();
        store.resize(sectors * SECTOR);
        Ok(Self {
            spec,
            part,
            text,
            store,
            grains,
            tables,
            places,
            sectors,
        })
    }

    fn write_text(&mut self) {
        if let Some(text) = self.text {
            let at = u64::from(self.spec.descriptor_offset) * SECTOR;
            self.store.write(at, text.as_bytes());
        }
    }

    fn write_tables(&mut self) {
        let entry = |sector: u64| (sector as u32).to_le_bytes();
        let mut entries: Vec<(u64, u64)> = Vec::new();
        let placed = self.grains.iter().zip(&self.places.grains);
        entries.extend(placed.map(|((grain, _), first)| (*grain, *first)));
        let zeros = self.part.blocks.iter();
        let zeros = zeros.filter(|(_, content)| **content == Content::Zero);
        entries.extend(zeros.map(|(grain, _)| (*grain, 1)));
        let one = (self.places.directory, self.places.tables.clone());
        for (directory, tables) in [Some(one), self.places.redundant.take()].iter().flatten() {
            for (index, table) in self.tables.iter().zip(tables) {
                let at = directory * SECTOR + index * 4;
                self.store.write(at, &entry(*table));
            }
            for (grain, first) in &entries {
                let table = self
                    .tables
                    .partition_point(|index| *index < grain / TABLE_ENTRIES);
                let at = tables[table] * SECTOR + grain % TABLE_ENTRIES * 4;
                self.store.write(at, &entry(*first));
            }
            if *directory != self.places.directory {
                self.places.redundant = Some((*directory, tables.clone()));
            }
        }
        if self.spec.footer {
            for table in &self.places.tables {
                marker(&mut self.store, table - 1, TABLE_SECTORS, TABLE_MARKER);
            }
            let len = (self.part.directory_entries(self.spec) * 4).div_ceil(SECTOR);
            let at = self.places.directory - 1;
            marker(&mut self.store, at, len, DIRECTORY_MARKER);
        }
    }

    fn write_grains(&mut self) {
        for ((_, bytes), first) in self.grains.iter().zip(&self.places.grains) {
            self.store.write(first * SECTOR, bytes);
        }
    }

    fn write_headers(&mut self) {
        if !self.spec.footer {
            self.header(0, self.places.directory);
            return;
        }
        let footer = self.sectors - 2;
        marker(&mut self.store, footer - 1, 1, FOOTER_MARKER);
        self.header(0, AT_END);
        self.header(footer * SECTOR, self.places.directory);
    }

    fn header(&mut self, at: u64, directory: u64) {
        let spec = self.spec;
        let stream = spec.subformat == Subformat::StreamOptimized;
        let flag = |set: bool, flag: u64| if set { flag } else { 0 };
        let flags = NEWLINE_TEST
            | flag(spec.redundant, REDUNDANT)
            | flag(spec.zeroed_grains, ZEROED_GRAINS)
            | flag(stream, COMPRESSED | MARKERS);
        let first_grain = self.places.grains.iter().min().copied();
        let (text_at, text_len) = match self.text {
            Some(_) => (
                spec.descriptor_offset.into(),
                spec.descriptor_sectors.into(),
            ),
            None => (0, 0),
        };
        let redundant = self
            .places
            .redundant
            .as_ref()
            .map_or(0, |(first, _)| *first);
        let store = &mut self.store;
        let mut number = |offset: u64, bytes: usize, value: u64| {
            store.write(at + offset, &value.to_le_bytes()[..bytes]);
        };
        number(4, 4, spec.version.into());
        number(8, 4, flags);
        number(12, 8, self.part.sectors);
        number(20, 8, u64::from(spec.grain_size) / SECTOR);
        number(28, 8, text_at);
        number(36, 8, text_len);
        number(44, 4, TABLE_ENTRIES);
        number(48, 8, redundant);
        number(56, 8, directory);
        number(64, 8, first_grain.unwrap_or(self.sectors));
        number(72, 1, spec.unclean.into());
        number(77, 2, stream.into());
        store.write(at, HOSTED_MAGIC);
        store.write(at + 73, CHECK_BYTES);
    }
}

/// Writes a marker at a sector.
fn marker(store: &mut Store, sector: u64, sectors: u64, kind: u64) {
    store.write(sector * SECTOR, &sectors.to_le_bytes());
    store.write(sector * SECTOR + 12, &(kind as u32).to_le_bytes());
}

/// The grains that are stored: their numbers, and their bytes with their markers.
fn grains(spec: &Spec, part: &Part<'_>) -> Result<Vec<(u64, Vec<u8>)>, SpecError> {
    let stream = spec.subformat == Subformat::StreamOptimized;
    let len = spec.grain_size as usize;
    let mut grains = Vec::new();
    for (index, content) in &part.blocks {
        let bytes = match content {
            Content::Zero => {
                ensure!(
                    spec.zeroed_grains,
                    "block {index}: zeros need zeroed_grains"
                );
                continue;
            }
            Content::Data(pattern) if stream => compress(spec, *index, pattern, 0)?,
            Content::Data(pattern) => pattern.bytes(len),
            Content::Compressed(pattern) => {
                ensure!(stream, "block {index}: only streamOptimized is compressed");
                compress(spec, *index, pattern, spec.level)?
            }
        };
        grains.push((*index, bytes));
    }
    Ok(grains)
}

/// A stored block of no bytes that is not the last one (RFC 1951, section 3.2.4).
const EMPTY: [u8; 5] = [0, 0, 0, 0xff, 0xff];

impl Spec {
    /// The most [`Spec::empty_blocks`] that each of the compressed grains has room for; 0 where
    /// there are no such grains.
    pub fn max_empty_blocks(&self) -> u32 {
        let len = |block: &Block| match &block.content {
            Content::Zero => None,
            Content::Data(pattern) => Some(deflated(self, pattern, 0)),
            Content::Compressed(pattern) => Some(deflated(self, pattern, self.level)),
        };
        let most = 2 * u64::from(self.grain_size);
        let longest = self.blocks.iter().filter_map(len).map(|stream| {
            let len = stream.map_or(u64::MAX, |stream| stream.len() as u64);
            most.saturating_sub(len) / EMPTY.len() as u64
        });
        longest.min().unwrap_or(0) as u32
    }
}

/// The stream of a grain that is filled with a pattern.
fn deflated(spec: &Spec, pattern: &Pattern, level: u32) -> std::io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(&pattern.bytes(spec.grain_size as usize))?;
    encoder.finish()
}

/// The marker of a grain and its compressed data.
fn compress(spec: &Spec, index: u64, pattern: &Pattern, level: u32) -> Result<Vec<u8>, SpecError> {
    let stream = deflated(spec, pattern, level);
    let mut stream = stream.map_err(|error| SpecError(format!("block {index}: {error}")))?;
    // The header of the stream has two bytes, and the first block begins with the next one.
    let empty = EMPTY.repeat(spec.empty_blocks as usize);
    stream.splice(2..2, empty);
    let (len, most) = (stream.len() as u64, 2 * u64::from(spec.grain_size));
    ensure!(
        len <= most,
        "block {index}: a stream of {len} bytes, at most {most}"
    );
    let sector = index * u64::from(spec.grain_size) / SECTOR;
    let mut bytes = Vec::with_capacity(stream.len() + GRAIN_MARKER_LEN as usize);
    bytes.extend_from_slice(&sector.to_le_bytes());
    bytes.extend_from_slice(&(len as u32).to_le_bytes());
    bytes.extend_from_slice(&stream);
    Ok(bytes)
}
