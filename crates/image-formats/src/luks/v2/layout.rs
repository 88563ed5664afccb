//! Both binary headers, their JSON areas as text and as fields, and the areas they name.

use std::collections::BTreeMap;
use std::ops::Range;

use sha2::{Digest as _, Sha256, Sha512};

use super::json::{self, Json, JsonError, Node};
use crate::encoded::{Base64Text, DecimalPad, Encoding};
use crate::field::{Kind, Place};
use crate::io::ReadAt as _;
use crate::luks::layout::{MAGIC, payload_run, sections};
use crate::luks::rules;
use crate::luks::text::until_zero;
use crate::row::{Row, rows};
use crate::store::Store;
use crate::structure::{Derivation, Structure, number};
use crate::value::{Endian::Big, Value};

/// `"SKUL\xba\xbe"`, the magic bytes of the second header.
pub(in crate::luks) const SECOND_MAGIC: &[u8; 6] = b"SKUL\xba\xbe";
/// Bytes in a binary header, without its JSON area.
pub(in crate::luks) const BINARY: u64 = 4096;
/// The lengths that a header can have with its JSON area, in bytes; the second header follows
/// the first one.
pub(in crate::luks) const SIZES: [u64; 9] = [
    0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000,
];
/// Byte offset of the checksum in a binary header.
pub(in crate::luks) const CHECKSUM_AT: u64 = 448;
/// Bytes that it has at most.
pub(in crate::luks) const CHECKSUM_LEN: usize = 64;
/// The most values of a JSON area that are fields.
const MOST_FIELDS: usize = 4096;

const ROWS: &[Row] = rows![
    "magic", 0, 6, Bytes, "LUKS, 0xba, 0xbe; SKUL, 0xba, 0xbe in the second header";
    "version", 6, 2, Version, "must be 2";
    "hdr_size", 8, 8, Length, "of header and JSON area: a power of two, 16 KiB to 4 MiB";
    "seqid", 16, 8, Number, "rises with each change; the same in both headers";
    "label", 24, 48, Text, "ends in a zero byte";
    "csum_alg", 72, 32, Text, "the hash of the checksum; ends in a zero byte";
    "salt", 104, 64, Bytes, "random, other in each header";
    "uuid", 168, 40, Text, "ends in a zero byte";
    "subsystem", 208, 48, Text, "ends in a zero byte";
    "hdr_offset", 256, 8, Offset, "where the header itself is";
    "padding", 264, 184, Reserved, "zeros";
    "csum", 448, 64, Bytes, "of the header, with zeros here, and the JSON area";
];

/// A header with its JSON area.
#[derive(Clone, Debug)]
pub(in crate::luks) struct Header {
    /// Its byte offset in the file.
    pub(in crate::luks) at: u64,
    /// Bytes that it says it has, with its JSON area.
    pub(in crate::luks) size: u64,
    /// What is in its JSON area.
    pub(in crate::luks) json: Result<Json, JsonErrorAt>,
}

/// What is wrong with a JSON area, and at which byte of the file.
#[derive(Clone, Copy, Debug)]
pub(in crate::luks) struct JsonErrorAt {
    pub(in crate::luks) at: u64,
    pub(in crate::luks) what: &'static str,
}

impl Header {
    /// Reads the header at byte `at`.
    pub(in crate::luks) fn read(source: &Store, at: u64) -> Self {
        let size = number(source, at.saturating_add(8), 8, Big);
        let base = at.saturating_add(BINARY);
        let json = json::parse(&json_text(source, at, size));
        let json = json.map_err(|JsonError { at, what }| JsonErrorAt {
            at: base.saturating_add(at as u64),
            what,
        });
        Self { at, size, json }
    }

    /// Byte offset of a value of its JSON area in the file.
    pub(in crate::luks) fn place(&self, json: &Json) -> u64 {
        (self.at + BINARY).saturating_add(json.at as u64)
    }

    /// Whether its checksum is right, where the algorithm is known.
    pub(in crate::luks) fn is_intact(&self, source: &Store) -> bool {
        let is = source.read_vec(self.at + CHECKSUM_AT, CHECKSUM_LEN);
        checksum(source, self.at).is_some_and(|wanted| wanted == is)
    }

    /// The number of the version of its contents.
    pub(in crate::luks) fn sequence(&self, source: &Store) -> u64 {
        number(source, self.at + 16, 8, Big)
    }
}

/// Bytes of JSON area in a header of that size at byte `at`, at most 4 MiB and what the file
/// has.
fn json_range(source: &Store, at: u64, size: u64) -> Range<u64> {
    let from = at.saturating_add(BINARY);
    let most = SIZES[SIZES.len() - 1];
    let end = at.saturating_add(size.min(most)).min(source.len());
    from..end.max(from)
}

fn json_text(source: &Store, at: u64, size: u64) -> Vec<u8> {
    let range = json_range(source, at, size);
    source.read_vec(range.start, (range.end - range.start) as usize)
}

/// What the field of the checksum of the header at byte `at` must hold; `None` where its
/// algorithm is not known.
pub(in crate::luks) fn checksum(source: &Store, at: u64) -> Option<Vec<u8>> {
    let mut binary = source.read_vec(at, BINARY as usize);
    let algorithm = until_zero(binary[72..104].to_vec());
    let size = number(source, at.saturating_add(8), 8, Big);
    binary[CHECKSUM_AT as usize..][..CHECKSUM_LEN].fill(0);
    let json = json_text(source, at, size);
    let mut sum = match &algorithm[..] {
        b"sha256" => Sha256::new()
            .chain_update(&binary)
            .chain_update(&json)
            .finalize()
            .to_vec(),
        b"sha512" => Sha512::new()
            .chain_update(&binary)
            .chain_update(&json)
            .finalize()
            .to_vec(),
        _ => return None,
    };
    sum.resize(CHECKSUM_LEN, 0);
    Some(sum)
}

/// Whether a header of version 2 is at byte `at`, with these magic bytes.
pub(in crate::luks) fn is_header(source: &Store, at: u64, magic: &[u8]) -> bool {
    source.read_vec(at, 6) == magic && number(source, at + 6, 2, Big) == 2
}

/// Where the second header is: behind the first one, or where its magic bytes are found.
pub(in crate::luks) fn second_at(source: &Store) -> Option<u64> {
    let size = number(source, 8, 8, Big);
    let first = is_header(source, 0, MAGIC) && SIZES.contains(&size);
    let found = || {
        let mut all = SIZES.into_iter();
        all.find(|at| is_header(source, *at, SECOND_MAGIC))
    };
    let at = if first { Some(size) } else { found() };
    at.filter(|at| *at < source.len())
}

/// Whether the volume is of version 2: one of its headers says so.
pub(in crate::luks) fn is_version_2(source: &Store) -> bool {
    let version = number(source, 6, 2, Big);
    match (source.read_vec(0, 6) == MAGIC, version) {
        (true, 1) => false,
        (true, 2) => true,
        _ => second_at(source).is_some(),
    }
}

/// The structures of a volume.
pub(in crate::luks) fn structure(source: &Store) -> Structure {
    let second = second_at(source);
    let mut found = Structure::new(Big);
    let mut areas = None;
    for (index, at) in std::iter::once(0).chain(second).enumerate() {
        let header = Header::read(source, at);
        found = add_header(found, source, index, &header);
        areas = areas.or_else(|| header.json.ok());
    }
    if let Some(second) = second {
        found = add_copies(found, second);
    }
    if let Some(json) = areas {
        found = add_areas(found, source, &json);
    }
    found
}

fn add_header(found: Structure, source: &Store, index: usize, header: &Header) -> Structure {
    let (at, name) = (header.at, format!("header[{index}]"));
    let magic = if index == 0 { MAGIC } else { SECOND_MAGIC };
    let is_magic = if index == 0 {
        rules::MAGIC
    } else {
        rules::SECOND_MAGIC
    };
    let area = json_range(source, at, header.size);
    let magic = Value::from(&magic[..]);
    let why = Derivation::Value;
    let requirement = |rule: crate::defect::Rule| rule.only_if(index == 0);
    let mut found = found
        .section(sections::BINARY_HEADER)
        .record(&name, at, ROWS)
        .derived(&format!("{name}.magic"), why, is_magic, move |_| {
            magic.clone()
        })
        .derived(
            &format!("{name}.hdr_offset"),
            why,
            requirement(rules::HEADER_OFFSET),
            move |_| Value::Uint(at),
        )
        .derived(
            &format!("{name}.csum"),
            Derivation::Checksum,
            requirement(rules::CHECKSUM),
            move |bytes| {
                let sum = checksum(bytes, at);
                let is = || bytes.read_vec(at + CHECKSUM_AT, CHECKSUM_LEN);
                Value::Bytes(sum.unwrap_or_else(is))
            },
        )
        .section(sections::JSON_AREA)
        .run(
            &format!("{name}.json"),
            (area.start, area.end - area.start),
            Kind::Text,
            "an object in JSON, then zeros",
        );
    if let Ok(json) = &header.json {
        let mut leaves = BTreeMap::new();
        collect(json, &format!("{name}.json"), &mut leaves);
        let mut leaves: Vec<_> = leaves.into_iter().collect();
        leaves.sort_by_key(|(_, value)| value.at);
        for (path, value) in leaves {
            found = add_value(found, source, header, &path, value);
        }
    }
    found
}

/// The values of `json` by their paths; of two with the same path the first one.
fn collect<'j>(json: &'j Json, path: &str, leaves: &mut BTreeMap<String, &'j Json>) {
    if leaves.len() >= MOST_FIELDS {
        return;
    }
    match &json.node {
        Node::Object(members) => {
            for (name, value) in members {
                let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let name = name.replace(|c: char| !is_word(c), "_");
                if !name.is_empty() {
                    collect(value, &format!("{path}.{name}"), leaves);
                }
            }
        }
        Node::Array(elements) => {
            for (index, value) in elements.iter().enumerate() {
                collect(value, &format!("{path}[{index}]"), leaves);
            }
        }
        _ => {
            leaves.entry(path.to_owned()).or_insert(json);
        }
    }
}

/// Adds a value of the JSON area: a number, one in quotes, base64, or text.
fn add_value(
    found: Structure,
    source: &Store,
    header: &Header,
    path: &str,
    json: &Json,
) -> Structure {
    let name = path.rsplit('.').next().unwrap_or(path);
    let (at, len) = (header.place(json), json.len as u64);
    // Between the quotes.
    let (inner, inner_len) = (at.saturating_add(1), len.saturating_sub(2));
    let (kind, rule) = meaning(name);
    match &json.node {
        Node::Number(Some(_)) => {
            let pad = DecimalPad::Blanks;
            let encoding = Encoding::Decimal { pad };
            let place = Place::Encoded {
                offset: at,
                len,
                encoding,
            };
            found.leaf(path, kind, place, rule)
        }
        Node::String(_) if json.number_in_text().is_some() && inner_len > 0 => {
            let pad = DecimalPad::Zeros;
            let encoding = Encoding::Decimal { pad };
            let place = Place::Encoded {
                offset: inner,
                len: inner_len,
                encoding,
            };
            found.leaf(path, kind, place, rule)
        }
        Node::String(_) if matches!(name, "salt" | "digest") => {
            let text = source.read_vec(inner, inner_len as usize);
            let text = Base64Text::new(inner, &text);
            let len = text.len();
            found
                .within(Some(text))
                .run(path, (0, len), Kind::Bytes, rule)
                .within(None)
        }
        Node::String(_) => {
            let encoding = Encoding::Quoted;
            let place = Place::Encoded {
                offset: at,
                len,
                encoding,
            };
            found.leaf(path, Kind::Text, place, rule)
        }
        _ => found.run(path, (at, len), Kind::Text, rule),
    }
}

/// What a member means by its name, and the rule for it.
fn meaning(name: &str) -> (Kind, &'static str) {
    match name {
        "offset" => (Kind::Offset, "in bytes, within the file"),
        "size" => (Kind::Length, "in bytes"),
        "json_size" => (Kind::Length, "the header's size less 4096"),
        "keyslots_size" => (Kind::Length, "a multiple of 4096, before the payload"),
        "key_size" => (Kind::Length, "in bytes, as the cipher demands"),
        "sector_size" => (Kind::Size, "512, 1024, 2048 or 4096"),
        "stripes" => (Kind::Count, "must be 4000"),
        "iterations" | "time" | "cpus" => (Kind::Count, "not 0"),
        "memory" => (Kind::Count, "in KiB, not 0"),
        "iv_tweak" => (Kind::Number, "the number of the first sector"),
        "priority" => (Kind::Choice, "0, 1 or 2"),
        "salt" | "digest" => (Kind::Bytes, "in base64"),
        "type" => (Kind::Text, "a known type"),
        _ => (Kind::Number, ""),
    }
}

/// Adds what the second header repeats.
fn add_copies(found: Structure, second: u64) -> Structure {
    let repeated = |found: Structure, name: &str, at: u64, len: usize| {
        let path = format!("header[1].{name}");
        let textual = len > 8;
        let rule = rules::SECOND_COPY;
        found.derived(&path, Derivation::Copy, rule, move |bytes| match textual {
            true => Value::Bytes(bytes.read_vec(at, len)),
            false => Value::Uint(number(bytes, at, len, Big)),
        })
    };
    let mut found = found;
    for (name, at, len) in [
        ("version", 6, 2),
        ("hdr_size", 8, 8),
        ("seqid", 16, 8),
        ("label", 24, 48),
        ("csum_alg", 72, 32),
        ("uuid", 168, 40),
        ("subsystem", 208, 48),
    ] {
        found = repeated(found, name, at, len);
    }
    let json = (BINARY, second + BINARY, second - BINARY);
    found.copy("header[1].json", rules::SECOND_COPY, json)
}

/// Adds the areas of the keyslots and the payload.
fn add_areas(found: Structure, source: &Store, json: &Json) -> Structure {
    let objects = |name: &str| json.get(name).map_or(&[][..], Json::members);
    let mut found = found.section(sections::KEYSLOTS_AREA);
    for (index, keyslot) in objects("keyslots") {
        let of_area = |name: &str| keyslot.get("area")?.get(name)?.number_in_text();
        let index: Option<u32> = index.parse().ok();
        if let (Some(at), Some(size), Some(index)) = (of_area("offset"), of_area("size"), index) {
            let len = size.min(source.len().saturating_sub(at));
            let name = format!("keyslot[{index}].area");
            let rule = "encrypted stripes of the key";
            found = found.run(&name, (at, len), Kind::Bytes, rule);
        }
    }
    let segments = objects("segments").iter();
    let mut offsets = segments.filter_map(|(_, segment)| segment.get("offset")?.number_in_text());
    let payload = payload_run(source, offsets.next().unwrap_or(0));
    found
        .section(sections::PAYLOAD)
        .run("payload", payload, Kind::Bytes, "encrypted data")
}

/// Whether the payload is in a file of its own: a segment starts where the header is.
pub(in crate::luks) fn is_detached(source: &Store) -> bool {
    let headers = std::iter::once(0).chain(second_at(source));
    let mut areas = headers.filter_map(|at| Header::read(source, at).json.ok());
    areas.next().is_some_and(|json| {
        let segments = json.get("segments").map_or(&[][..], Json::members);
        let mut offsets = segments
            .iter()
            .filter_map(|(_, segment)| segment.get("offset"));
        offsets.any(|offset| offset.number_in_text() == Some(0))
    })
}
