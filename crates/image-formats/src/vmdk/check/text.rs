//! Checking descriptors.

use super::super::descriptor::{Descriptor, Extent, NO_PARENT, Span};
use super::super::map::MOST_CAPACITY;
use super::super::rules::{
    CONTENT_ID, CREATE_TYPE, DISK_SIZE, EXTENT_ACCESS, EXTENT_COUNT, EXTENT_NAME, EXTENT_OFFSET,
    EXTENT_SIZE, EXTENT_TYPE, EXTENT_TYPE_OF_DISK, EXTENTS, LINES, PARENT_HINT, PARENT_ID,
    TEXT_END, TEXT_VERSION,
};
use crate::checker::Checker;
use crate::defect::Rule;

/// The types of disks, and the types of extents that each has; none where they are not known.
const CREATE_TYPES: [(&str, &[&str]); 20] = [
    ("monolithicSparse", &["SPARSE"]),
    ("monolithicFlat", &["FLAT"]),
    ("twoGbMaxExtentSparse", &["SPARSE", "ZERO"]),
    ("2GbMaxExtentSparse", &["SPARSE", "ZERO"]),
    ("twoGbMaxExtentFlat", &["FLAT", "ZERO"]),
    ("2GbMaxExtentFlat", &["FLAT", "ZERO"]),
    ("streamOptimized", &["SPARSE"]),
    ("vmfs", &["VMFS"]),
    ("vmfsThin", &["VMFS"]),
    ("vmfsPreallocated", &["VMFS"]),
    ("vmfsEagerZeroedThick", &["VMFS"]),
    ("vmfsSparse", &["VMFSSPARSE"]),
    ("seSparse", &["SESPARSE"]),
    ("vmfsRDM", &[]),
    ("vmfsRawDeviceMap", &[]),
    ("vmfsRDMP", &[]),
    ("vmfsPassthroughRawDeviceMap", &[]),
    ("fullDevice", &[]),
    ("partitionedDevice", &[]),
    ("custom", &[]),
];

/// The types of extents.
const EXTENT_TYPES: [&str; 8] = [
    "FLAT",
    "SPARSE",
    "ZERO",
    "VMFS",
    "VMFSSPARSE",
    "SESPARSE",
    "VMFSRDM",
    "VMFSRAW",
];

/// The types of disks with one extent.
const SINGLE: [&str; 3] = ["monolithicSparse", "monolithicFlat", "streamOptimized"];

/// Checks the rules of a descriptor; `alone` where it is a file of its own.
pub(super) fn check(descriptor: &Descriptor, alone: bool, checker: &mut Checker) {
    let mut text = Text {
        descriptor,
        checker,
    };
    text.header();
    let types = text.create_type();
    text.extents(types);
    text.lines(alone);
}

/// A descriptor that is checked.
struct Text<'a> {
    descriptor: &'a Descriptor,
    checker: &'a mut Checker,
}

impl Text<'_> {
    /// What stands at a place must hold; where it is missing the whole text is to blame.
    fn require(
        &mut self,
        holds: bool,
        (path, span, rule): (&str, Option<Span>, Rule),
        wanted: &str,
    ) {
        let descriptor = self.descriptor;
        let offset = match span {
            Some(span) => descriptor.offset(span),
            None => descriptor.whole().offset(),
        };
        let path = format!("descriptor.{path}");
        self.checker
            .require(holds, (&path, offset, rule), || match span {
                Some(span) => format!(
                    "must be {wanted}, is '{}'",
                    descriptor.bytes(span).escape_ascii()
                ),
                None => format!("must be {wanted}, is missing"),
            });
    }

    fn header(&mut self) {
        let descriptor = self.descriptor;
        let value = |key| descriptor.value(key);
        let version = descriptor.get("version").unwrap_or_default();
        self.require(
            matches!(version, b"1" | b"2" | b"3"),
            ("version", value("version"), TEXT_VERSION),
            "1, 2 or 3",
        );
        let wanted = "up to 8 hexadecimal digits";
        let id = descriptor.content_id("CID");
        self.require(id.is_some(), ("CID", value("CID"), CONTENT_ID), wanted);
        let parent = descriptor.content_id("parentCID");
        let at = ("parentCID", value("parentCID"), PARENT_ID);
        self.require(parent.is_some(), at, wanted);
        let named = descriptor.parent().is_some();
        if let Some(parent) = parent {
            let at = ("parentCID", value("parentCID"), PARENT_HINT);
            self.require(
                named == (parent != NO_PARENT),
                at,
                "ffffffff where there is no parentFileNameHint, and no other",
            );
        }
    }

    /// The types of extents that the disk may have.
    fn create_type(&mut self) -> Option<&'static [&'static str]> {
        let value = self.descriptor.value("createType");
        let name = value.map(|value| self.descriptor.bytes(value));
        let known = CREATE_TYPES.iter().find(|(known, _)| {
            let known = known.as_bytes();
            name.is_some_and(|name| name.eq_ignore_ascii_case(known))
        });
        let at = ("createType", value, CREATE_TYPE);
        self.require(known.is_some(), at, "a known type of disk");
        let (name, types) = known?;
        let count = self.descriptor.extents.len();
        let single = SINGLE.contains(name);
        let at = ("createType", value, EXTENT_COUNT);
        self.require(!single || count == 1, at, "of a disk with several extents");
        (!types.is_empty()).then_some(types)
    }

    fn extents(&mut self, types: Option<&[&str]>) {
        let extents = &self.descriptor.extents;
        let at = ("extent[0]", None, EXTENTS);
        self.require(
            !extents.is_empty(),
            at,
            "a line such as RW 2048 FLAT \"file\" 0",
        );
        let mut end = 0_u64;
        for (index, extent) in extents.iter().enumerate() {
            self.extent(index, extent, types);
            let size = self.descriptor.number(extent.size).unwrap_or(0);
            end = end.saturating_add(size);
            let path = format!("extent[{index}].size");
            let at = (path.as_str(), extent.size, DISK_SIZE);
            let wanted = "such that the disk has at most 2^54 sectors";
            self.require(end <= MOST_CAPACITY, at, wanted);
        }
    }

    fn extent(&mut self, index: usize, extent: &Extent, types: Option<&[&str]>) {
        let descriptor = self.descriptor;
        let path = |name: &str| format!("extent[{index}].{name}");
        let access = descriptor.bytes(extent.access);
        self.require(
            !access.iter().any(u8::is_ascii_lowercase),
            (&path("access"), Some(extent.access), EXTENT_ACCESS),
            "RW, RDONLY or NOACCESS",
        );
        let size = descriptor.number(extent.size);
        self.require(
            size.is_some_and(|size| size > 0),
            (&path("size"), extent.size, EXTENT_SIZE),
            "a number of sectors, at least 1",
        );
        let kind = extent.kind.map(|kind| descriptor.bytes(kind));
        let is = |known: &&str| kind == Some(known.as_bytes());
        self.require(
            EXTENT_TYPES.iter().any(is),
            (&path("type"), extent.kind, EXTENT_TYPE),
            "a known type of extent",
        );
        if let Some(types) = types {
            self.require(
                types.iter().any(is),
                (&path("type"), extent.kind, EXTENT_TYPE_OF_DISK),
                &types.join(" or "),
            );
        }
        if is(&"ZERO") {
            return;
        }
        let name = extent
            .name
            .filter(|name| !descriptor.bytes(*name).is_empty());
        self.require(
            name.is_some(),
            (&path("file_name"), extent.name, EXTENT_NAME),
            "a name between quotes",
        );
        let flat = is(&"FLAT");
        let offset = descriptor.number(extent.offset);
        let fits = offset.is_some_and(|offset| offset <= MOST_CAPACITY);
        let (holds, wanted) = match flat || (is(&"VMFS") && extent.offset.is_some()) {
            true => (fits, "a number of sectors"),
            false => (extent.offset.is_none(), "there for flat extents only"),
        };
        self.require(
            holds || name.is_none(),
            (&path("offset"), extent.offset, EXTENT_OFFSET),
            wanted,
        );
    }

    fn lines(&mut self, alone: bool) {
        let descriptor = self.descriptor;
        let other = descriptor.others.first().copied();
        let at = ("other[0]", other, LINES);
        self.require(
            other.is_none(),
            at,
            "a comment, a key with a value or an extent",
        );
        let what = match alone {
            true => "the end of the file",
            false => "zeros up to the end of its sectors",
        };
        let ended = !descriptor.goes_on;
        let offset = descriptor.whole().offset();
        self.checker
            .require(ended, ("descriptor.text", offset, TEXT_END), || {
                format!("a zero byte ends the text, and must be followed by {what}")
            });
    }
}
