//! Checking the rules of version 2.

mod objects;

use super::json::{Json, Node};
use super::layout::{self, BINARY, Header, SIZES};
use crate::checker::Checker;
use crate::defect::Rule;
use crate::io::ReadAt as _;
use crate::luks::rules;
use crate::luks::text::{is_uuid, until_zero};
use crate::store::Store;
use crate::structure::number;
use crate::value::Endian::Big;

/// Checks the rules of a volume, but for those of fields that follow from others.
pub(in crate::luks) fn check(source: &Store, checker: &mut Checker) {
    let header = Header::read(source, 0);
    binary(source, &header, checker);
    for (index, at) in std::iter::once(0)
        .chain(layout::second_at(source))
        .enumerate()
    {
        checksum_algorithm(source, index, at, checker);
    }
    match &header.json {
        Ok(json) => {
            let objects = Objects {
                source,
                header: &header,
                json,
            };
            objects.check(checker);
        }
        Err(error) => checker.require(
            false,
            ("header[0].json", error.at, rules::JSON_SYNTAX),
            || format!("at byte {:#x}: {}", error.at, error.what),
        ),
    }
}

fn binary(source: &Store, header: &Header, checker: &mut Checker) {
    let version = number(source, 6, 2, Big);
    let at = ("header[0].version", 6, rules::VERSION);
    checker.require(version == 2, at, || format!("must be 1 or 2, is {version}"));
    let size = header.size;
    let allowed = SIZES.contains(&size) && size * 2 <= source.len();
    let at = ("header[0].hdr_size", 8, rules::HEADER_SIZE);
    checker.require(allowed, at, || {
        format!("must be a power of two from 16384 to 4194304, twice within the file, is {size}")
    });
    let sequence = header.sequence(source);
    let at = ("header[0].seqid", 16, rules::SEQUENCE);
    checker.require(sequence > 0, at, || "must not be 0".to_owned());
    for (path, at, len, rule) in [
        ("header[0].label", 24, 48, rules::LABEL_ENDS),
        ("header[0].subsystem", 208, 48, rules::LABEL_ENDS),
        ("header[0].uuid", 168, 40, rules::UUID),
    ] {
        let ends = source.read_vec(at, len).contains(&0);
        checker.require(ends, (path, at, rule), || {
            "must end in a zero byte".to_owned()
        });
    }
    let uuid = until_zero(source.read_vec(168, 40));
    checker.require(is_uuid(&uuid), ("header[0].uuid", 168, rules::UUID), || {
        format!("'{}' is not a UUID", uuid.escape_ascii())
    });
    let padding = source.read_vec(264, 184);
    let rest = source.read_vec(512, BINARY as usize - 512);
    let clean = padding.iter().chain(&rest).all(|byte| *byte == 0);
    let at = ("header[0].padding", 264, rules::HEADER_PADDING);
    checker.require(clean, at, || "must be zeros".to_owned());
}

fn checksum_algorithm(source: &Store, index: usize, at: u64, checker: &mut Checker) {
    let path = format!("header[{index}].csum_alg");
    let name = until_zero(source.read_vec(at + 72, 32));
    let known = matches!(&name[..], b"sha256" | b"sha512");
    let rule = rules::CHECKSUM_ALGORITHM.only_if(index == 0);
    checker.require(known, (&path, at + 72, rule), || {
        let name = name.escape_ascii();
        format!("must be sha256 or sha512, is '{name}'")
    });
}

/// The objects of a JSON area.
struct Objects<'a> {
    source: &'a Store,
    header: &'a Header,
    json: &'a Json,
}

impl Objects<'_> {
    /// Notes a defect of `json`, which is at `path` in the area, unless the condition holds.
    fn require(
        &self,
        holds: bool,
        (path, json, rule): (&str, &Json, Rule),
        checker: &mut Checker,
        text: impl FnOnce() -> String,
    ) {
        let path = format!("header[0].json.{path}");
        checker.require(holds, (&path, self.header.place(json), rule), text);
    }

    /// The member of an object that must be there, of the type that `read` gives.
    fn member<'j, T>(
        &self,
        (path, object, name): (&str, &'j Json, &str),
        checker: &mut Checker,
        read: impl FnOnce(&'j Json) -> Option<T>,
    ) -> Option<(T, &'j Json)> {
        let found = object.get(name);
        let value = found.and_then(|json| Some((read(json)?, json)));
        let place = found.unwrap_or(object);
        let path = format!("{path}.{name}");
        let at = (&path[..], place, rules::JSON_MEMBER);
        self.require(value.is_some(), at, checker, || match found {
            None => "is missing".to_owned(),
            Some(_) => "has the wrong type".to_owned(),
        });
        value
    }

    /// The objects called by numbers in the member `name`.
    fn named<'j>(&'j self, name: &str, checker: &mut Checker) -> Vec<(&'j str, &'j Json)> {
        let is_object = |json: &'j Json| matches!(json.node, Node::Object(_)).then_some(json);
        let found = self.json.get(name);
        let object = found.and_then(is_object);
        let place = found.unwrap_or(self.json);
        let at = (name, place, rules::JSON_MEMBER);
        self.require(object.is_some(), at, checker, || {
            "an object is missing".to_owned()
        });
        let members = object.map_or(&[][..], Json::members);
        for (index, member) in members {
            let decimal = index.parse::<u32>().is_ok_and(|n| n.to_string() == *index);
            let at = (name, member, rules::JSON_NAME);
            self.require(decimal, at, checker, || {
                format!("'{}' is not a number", index.escape_default())
            });
        }
        members
            .iter()
            .map(|(name, json)| (&name[..], json))
            .collect()
    }
}
