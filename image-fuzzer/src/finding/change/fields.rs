//! What edits of fields, of bytes and of the length changed.

use image_formats::AnyImage;
use image_formats::{Field, Kind, ReadAt as _, Value};

use super::view::{View, is_part, length, touches};
use super::words::{says, says_all};
use super::{Change, Excerpt, words};

/// The most fields of which values are told for one edit.
const MAX_TOLD: usize = 4;

impl View<'_> {
    /// What became of a field that was set.
    pub(super) fn set_field(&self, path: &str) -> Vec<Change> {
        // Recipes name fields that their base image has.
        let field = self.base.field(path).ok();
        field
            .iter()
            .map(|field| self.of_fields(&[field], length(field)))
            .collect()
    }

    /// A change of `len` bytes in which `fields` differ, at least one.
    fn of_fields(&self, fields: &[&Field], len: u64) -> Change {
        let first = fields[0];
        let told = fields.iter().take(MAX_TOLD).map(|field| self.told(field));
        let mut sentence = told.collect::<Vec<_>>().join("; ");
        if fields.len() > MAX_TOLD {
            let more = fields.len() - MAX_TOLD;
            sentence.push_str(&format!("; and {more} more field{}", words::plural(more)));
        }
        let value = |image: &AnyImage| {
            let value = first.place.get(image.bytes());
            words::value(first.kind, &value)
        };
        Change {
            before: value(self.base),
            after: value(self.image),
            rule: first.rule.to_owned(),
            section: first.section.to_owned(),
            words: sentence,
            ..Change::at(self, &first.path, first.offset, len)
        }
    }

    /// A field of the valid image, before and after.
    fn told(&self, field: &Field) -> String {
        let after = field.place.get(self.image.bytes());
        let name = format!("`{}` (at byte {:#x})", field.path, field.offset);
        if let (Value::Bytes(was), Value::Bytes(is)) = (&field.value, &after) {
            return format!("{name} {}", says(is, was));
        }
        let [is, was] = [&after, &field.value].map(|it| words::value(field.kind, it));
        let remark = after.as_uint().and_then(|it| self.remark(field, it));
        let remark = remark.map_or_else(String::new, |remark| format!(", {remark},"));
        if is == was {
            return format!("{name} is {is}{remark} as in the valid image");
        }
        let comma = if remark.is_empty() { "," } else { "" };
        let parts = self.parts(field);
        format!("{name} is {is}{remark}{comma} where the valid image has {was}{parts}")
    }

    /// The parts of a table entry, or of a set of flags, that differ.
    fn parts(&self, field: &Field) -> String {
        let prefix = format!("{}.", field.path);
        let mut parts = Vec::new();
        for part in self.map.under(&prefix) {
            let after = part.place.get(self.image.bytes());
            if after == part.value {
                continue;
            }
            let name = part.path.strip_prefix(&prefix).unwrap_or(&part.path);
            let [is, was] = [&after, &part.value].map(|it| words::value(part.kind, it));
            let remark = after.as_uint().and_then(|it| self.remark(part, it));
            let remark = remark.map_or_else(String::new, |remark| format!(" ({remark})"));
            parts.push(format!("`{name}` is {is}{remark} and not {was}"));
        }
        if parts.is_empty() || parts.len() > MAX_TOLD {
            return String::new();
        }
        format!(": {}", parts.join(", "))
    }

    /// What an offset points at, where that is to be said.
    fn remark(&self, field: &Field, value: u64) -> Option<String> {
        if field.kind != Kind::Offset {
            return None;
        }
        // An offset of a guest cluster is one in the data file, where there is one.
        let flag = "header.incompatible_features.data_file";
        let external = self.map.number(flag) == Some(1);
        if external && field.path.contains("l2[") {
            return None;
        }
        let may_be_none = field.rule.contains("0 when") || field.rule.starts_with("0,");
        if value == 0 && may_be_none {
            return None;
        }
        let len = self.image.bytes().len();
        if value >= len {
            return Some(format!("past the end of the file ({len:#x})"));
        }
        let aligned = field.rule.starts_with("cluster aligned");
        let target = self.structure_at(value);
        if !aligned && target.as_deref() == Some("header") {
            // By the rule.
            return None;
        }
        let unaligned = aligned && self.map.cluster > 0 && !value.is_multiple_of(self.map.cluster);
        let target = match target {
            Some(name) if name != "header" && field.path.starts_with(&name) => {
                Some(format!("{}, which it is in", cluster(&name)))
            }
            Some(name) => Some(cluster(&name)),
            None => self.named_by(field, value),
        };
        match (unaligned, target) {
            (false, target) => target,
            (true, None) => Some("not cluster aligned".into()),
            (true, Some(target)) => Some(format!("not cluster aligned, in {target}")),
        }
    }

    /// The structure of the valid image in the cluster with byte `offset`.
    fn structure_at(&self, offset: u64) -> Option<String> {
        let (start, end) = self.cluster_of(offset);
        let inside = |field: &&Field| (start..end).contains(&field.offset);
        let field = self.map.fields().iter().find(inside)?;
        Some(structure(&field.path))
    }

    /// Another field of the valid image that names the cluster with byte `offset`.
    fn named_by(&self, field: &Field, offset: u64) -> Option<String> {
        let (start, end) = self.cluster_of(offset);
        let offsets = self.map.of_kind(Kind::Offset).into_iter();
        let mut named = offsets.filter(|other| {
            let value = other.value.as_uint();
            let named = value.is_some_and(|it| it != 0 && (start..end).contains(&it));
            other.path != field.path && named
        });
        let other = named.next()?;
        Some(format!("the cluster that `{}` has too", other.path))
    }

    fn cluster_of(&self, offset: u64) -> (u64, u64) {
        let cluster = self.map.cluster.max(1);
        let start = offset / cluster * cluster;
        (start, start.saturating_add(cluster))
    }

    /// Bytes that were written in place.
    pub(super) fn set_bytes(&self, offset: u64, len: u64) -> Change {
        let end = offset.saturating_add(len);
        let differs = |field: &&Field| {
            touches(field, offset, end)
                && !is_part(self.base, field)
                && field.place.get(self.image.bytes()) != field.value
        };
        let fields: Vec<&Field> = self.map.fields().iter().filter(differs).collect();
        if !fields.is_empty() {
            let change = self.of_fields(&fields, len);
            return Change {
                offset,
                excerpt: Excerpt::new(self, offset, len),
                ..change
            };
        }
        let [was, is] = [self.base, self.image].map(|image| {
            let shown = len
                .min(1024)
                .min(image.bytes().len().saturating_sub(offset));
            let mut bytes = vec![0; shown as usize];
            image.bytes().read(offset, &mut bytes);
            bytes
        });
        // What other edits made a field of it.
        let made = |field: &&Field| {
            touches(field, offset, end)
                && !is_part(self.image, field)
                && self.base.field(&field.path).ok().map(|it| it.place) != Some(field.place)
        };
        let made = self.image_fields().iter().find(made);
        let place = format!("{len} byte{} at {offset:#x}", words::plural(len as usize));
        let sentence = match made {
            Some(field) => format!("`{}` ({place}) {}", field.path, says(&is, &was)),
            None => format!("{place}, {}: {}", self.place(offset), says_all(&is, &was)),
        };
        Change {
            before: words::bytes_text(&was),
            after: words::bytes_text(&is),
            rule: made.map_or("", |field| field.rule).to_owned(),
            section: made.map_or("", |field| field.section).to_owned(),
            words: sentence,
            ..Change::at(self, made.map_or("", |field| &field.path), offset, len)
        }
    }

    /// Where bytes lie that belong to no field that differs.
    fn place(&self, offset: u64) -> String {
        if offset >= self.map.file_len {
            return "past the end of the valid image".into();
        }
        match self.structure_at(offset) {
            Some(name) => format!("in no field, in {}", cluster(&name)),
            None => "in no field".into(),
        }
    }

    /// The length of the file.
    pub(super) fn set_length(&self) -> Change {
        let (was, is) = (self.map.file_len, self.image.bytes().len());
        let (least, most) = (was.min(is), was.max(is));
        let gone = self.map.fields().iter().filter(|field| {
            let end = field.offset.saturating_add(length(field));
            is < end && end <= was && !is_part(self.base, field)
        });
        let mut gone: Vec<String> = gone
            .map(|field| format!("`{}`", structure(&field.path)))
            .collect();
        gone.dedup();
        let [before, after] = [was, is].map(words::number);
        let mut sentence = format!("the file is {after} bytes long and not {before}");
        if !gone.is_empty() {
            let more = if gone.len() > MAX_TOLD { ", …" } else { "" };
            gone.truncate(MAX_TOLD);
            sentence.push_str(&format!(
                ": what is cut off is of {}{more}",
                gone.join(", ")
            ));
        }
        Change {
            before: format!("{before} bytes"),
            after: format!("{after} bytes"),
            words: sentence,
            ..Change::at(self, "", least, most - least)
        }
    }
}

/// The cluster with a structure, in words.
fn cluster(structure: &str) -> String {
    match structure {
        "header" => "the cluster of the header".into(),
        name => format!("the cluster of `{name}`"),
    }
}

/// The structure that a field belongs to, with its index: `header`, `l1`, `l2[3]`,
/// `snapshot[0].l1`.
fn structure(path: &str) -> String {
    let mut parts = path.split('.');
    let first = parts.next().unwrap_or(path);
    let is_table = |part: &str| {
        ["l1[", "l2[", "table["]
            .iter()
            .any(|it| part.starts_with(it))
    };
    let name = match parts.next().filter(|part| is_table(part)) {
        Some(table) => format!("{first}.{table}"),
        None => first.to_owned(),
    };
    let entries = ["l1[", "table[", "refcount_table["];
    match name.rsplit_once('[') {
        Some((table, _)) if entries.iter().any(|it| format!("{table}[").ends_with(it)) => {
            table.to_owned()
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_belongs_to_a_structure_with_an_index() {
        for (path, expected) in [
            ("header.l1_size", "header"),
            ("header.incompatible_features.dirty", "header"),
            ("l1[0].offset", "l1"),
            ("refcount_table[2]", "refcount_table"),
            ("refcount_block[1].entry[9]", "refcount_block[1]"),
            ("l2[3].entry[17].offset", "l2[3]"),
            ("snapshot[0].l1[2].offset", "snapshot[0].l1"),
            ("snapshot[0].l2[1].entry[0]", "snapshot[0].l2[1]"),
            ("snapshot[0].l1_size", "snapshot[0]"),
            ("bitmap[1].table[0].offset", "bitmap[1].table"),
        ] {
            assert_eq!(structure(path), expected, "{path}");
        }
    }
}
