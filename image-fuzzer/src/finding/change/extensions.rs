//! What differs between the header extensions of two images.

use image_formats::qcow2::Image;
use image_formats::qcow2::records::{EXT_END, extension_name};
use image_formats::{Field, Value};

use super::view::{View, is_part};
use super::words::says;
use super::{Change, words};
use image_mutations::edit::Extension;

/// The most extensions that are told of one by one, and the most fields of one.
const MAX_TOLD: usize = 12;
const MAX_FIELDS: usize = 4;

/// The most bytes of data that are compared.
const MAX_DATA: u64 = 4096;

/// Section of the specification with the rules of all extensions.
const SECTION: &str = "Header extensions";

/// An extension of one of the images.
struct Found {
    path: String,
    magic: u32,
    /// The length that it claims.
    length: u64,
    data: Vec<u8>,
    /// Byte offset of its head.
    offset: u64,
}

impl Found {
    /// Bytes in the file.
    fn len(&self) -> u64 {
        8 + (self.data.len() as u64).next_multiple_of(8)
    }

    /// Its name: `backing file format extension (0xe2792aca)`.
    fn name(&self) -> String {
        let name = extension_name(self.magic);
        format!("{name} extension ({:#x})", self.magic)
    }

    /// What it holds, to go on after its name.
    fn holds(&self) -> String {
        let data = match words::text(&self.data) {
            Some(_) => format!("says {}", words::bytes_text(&self.data)),
            None if self.data.is_empty() => "has no data".into(),
            None => format!("has the data {}", words::bytes_text(&self.data)),
        };
        format!("{data}{}", self.claim())
    }

    /// A length that is not that of its data.
    fn claim(&self) -> String {
        let data = self.data.len();
        if self.length == data as u64 || data as u64 == MAX_DATA {
            return String::new();
        }
        let (claimed, s) = (words::number(self.length), words::plural(data));
        format!(", and claims a length of {claimed} with {data} byte{s} of data")
    }
}

/// The extensions of the valid image, the one that ends them among them.
fn of_base(image: &Image) -> Vec<Found> {
    let mut list = Vec::new();
    for index in 0.. {
        let path = format!("ext[{index}]");
        let Ok(head) = image.field(&format!("{path}.type")) else {
            break;
        };
        let length = image.get_uint(&format!("{path}.length")).unwrap_or(0);
        let mut data = vec![0; length.min(MAX_DATA) as usize];
        image.bytes().read(head.offset + 8, &mut data);
        list.push(Found {
            magic: head.value.as_uint().unwrap_or(0) as u32,
            length,
            data,
            offset: head.offset,
            path,
        });
    }
    list
}

/// The extensions that were written after the header, which ends at byte `offset`.
fn written(list: &[Extension], mut offset: u64) -> Vec<Found> {
    let mut found = Vec::new();
    for (index, extension) in list.iter().enumerate() {
        let one = Found {
            path: format!("ext[{index}]"),
            magic: extension.magic.0 as u32,
            length: u64::from(extension.length.0 as u32),
            data: extension.data.0.clone(),
            offset,
        };
        offset += one.len();
        found.push(one);
    }
    found
}

/// What differs in the extensions: one change for each that was added, removed or changed, and
/// one for their order.
pub(super) fn changes(view: &View<'_>, list: &[Extension]) -> Vec<Change> {
    let Some(base) = view.base.as_qcow2() else {
        return Vec::new();
    };
    let start = u64::from(base.layout().header.header_length);
    let (before, after) = (of_base(base), written(list, start));
    let pairs = pair(&before, &after);
    let mut changes = Vec::new();
    for (index, is) in after.iter().enumerate() {
        match pairs[index] {
            Some(at) => changes.extend(changed(view, is, &before[at])),
            None => changes.push(added(view, &before, &after, index)),
        }
    }
    for (at, was) in before.iter().enumerate() {
        if !pairs.contains(&Some(at)) {
            changes.push(removed(view, was));
        }
    }
    let order: Vec<usize> = pairs.iter().flatten().copied().collect();
    if !order.is_sorted() {
        changes.push(reordered(view, &before, &after));
    }
    if changes.is_empty() {
        let mut change = Change::at(view, "", start, 0);
        change.words = "the header extensions are those of the valid image".into();
        changes.push(change);
    }
    let more = changes.len().saturating_sub(MAX_TOLD);
    changes.truncate(MAX_TOLD);
    if let (1.., Some(last)) = (more, changes.last_mut()) {
        let s = words::plural(more);
        last.words
            .push_str(&format!("; {more} more change{s} of extensions"));
    }
    changes
}

/// For each extension of `after` the one of `before` that it was: the one of its type, else
/// the one in its place with the same data.
fn pair(before: &[Found], after: &[Found]) -> Vec<Option<usize>> {
    let mut pairs = vec![None; after.len()];
    let mut taken = vec![false; before.len()];
    for (index, is) in after.iter().enumerate() {
        let same = |at: &usize| !taken[*at] && before[*at].magic == is.magic;
        let equal = |at: &usize| before[*at].data == is.data;
        let of_type = || (0..before.len()).filter(same);
        pairs[index] = of_type().find(equal).or_else(|| of_type().next());
        if let Some(at) = pairs[index] {
            taken[at] = true;
        }
    }
    for (index, is) in after.iter().enumerate().take(before.len()) {
        let in_place = before[index].data == is.data && !is.data.is_empty();
        if pairs[index].is_none() && in_place && !taken[index] {
            pairs[index] = Some(index);
            taken[index] = true;
        }
    }
    pairs
}

/// A change of `found`, of which all else is to be said.
fn change(view: &View<'_>, found: &Found, sentence: String) -> Change {
    Change {
        section: SECTION.into(),
        words: sentence,
        ..Change::at(view, &found.path, found.offset, found.len())
    }
}

/// What differs between an extension and the one that it was.
fn changed(view: &View<'_>, is: &Found, was: &Found) -> Option<Change> {
    let name = is.name();
    let (before, after, sentence);
    if is.magic != was.magic {
        (before, after) = (was.name(), is.name());
        let holds = is.holds();
        sentence = format!(
            "the extension at byte {:#x}, which {holds}, is the {after}; \
             in the valid image it is the {before}",
            is.offset
        );
    } else if is.data != was.data {
        (before, after) = (was.holds(), is.holds());
        let (fields, claim) = (fields(view, is, was), is.claim());
        sentence = if fields.is_empty() {
            format!("the {name} {}{claim}", says(&is.data, &was.data))
        } else {
            format!("in the {name} {}{claim}", fields.join("; "))
        };
    } else if is.length != was.length {
        (before, after) = (words::number(was.length), words::number(is.length));
        let data = words::bytes_text(&is.data);
        sentence = format!(
            "the {name} claims a length of {after}, where the valid image has {before}; \
             its data is {data}"
        );
    } else {
        return None;
    }
    let rule = view.base.field(&format!("{}.length", was.path)).ok();
    let rule = rule.filter(|_| is.length != was.length);
    Some(Change {
        before,
        after,
        rule: rule.map_or("", |field| field.rule).to_owned(),
        ..change(view, is, sentence)
    })
}

/// The fields of an extension that differ, where there are only a few.
fn fields(view: &View<'_>, is: &Found, was: &Found) -> Vec<String> {
    let prefix = format!("{}.", was.path);
    let mut told = Vec::new();
    for field in view.map.under(&prefix) {
        let at = field.offset.checked_sub(was.offset);
        let Some(at) = at.filter(|at| *at >= 8 && !is_part(view.base, field)) else {
            continue;
        };
        let place = is.offset + at;
        let same = |it: &&Field| it.offset == place && it.kind == field.kind;
        let after = view.image_fields().iter().find(same);
        let Some(after) = after.filter(|_| is_structured(field)) else {
            return Vec::new();
        };
        if after.value != field.value {
            let [is, was] = [after, field].map(|it| words::value(it.kind, &it.value));
            let path = &after.path;
            told.push(format!("`{path}` is {is}, where the valid image has {was}"));
        }
    }
    if told.len() > MAX_FIELDS {
        told.clear();
    }
    told
}

/// Whether a field is one of several in its extension, and not all of its data.
fn is_structured(field: &Field) -> bool {
    matches!(field.value, Value::Uint(_)) || field.path.contains(".feature[")
}

/// An extension that the valid image does not have.
fn added(view: &View<'_>, before: &[Found], after: &[Found], index: usize) -> Change {
    let is = &after[index];
    let behind = &after[index + 1..];
    let sentence = if is.magic == EXT_END && !behind.is_empty() {
        let names: Vec<String> = behind.iter().take(3).map(Found::name).collect();
        format!(
            "an extension of type 0 at byte {:#x} ends the header extensions before the {}",
            is.offset,
            names.join(", the ")
        )
    } else {
        let alike = before.iter().filter(|was| was.magic == is.magic).count();
        let valid = match alike {
            0 => "none".to_owned(),
            count => format!("only {count} of that type"),
        };
        let (name, at, holds) = (is.name(), is.offset, is.holds());
        format!("the {name} at byte {at:#x} {holds}; the valid image has {valid}")
    };
    Change {
        after: is.holds(),
        ..change(view, is, sentence)
    }
}

/// An extension of the valid image that is no more.
fn removed(view: &View<'_>, was: &Found) -> Change {
    let sentence = if was.magic == EXT_END {
        "no extension of type 0 ends the header extensions".to_owned()
    } else {
        let (name, held) = (was.name(), was.holds());
        format!("the {name} is missing; in the valid image it {held}")
    };
    Change {
        before: was.holds(),
        ..change(view, was, sentence)
    }
}

/// Extensions that were changed in their order.
fn reordered(view: &View<'_>, before: &[Found], after: &[Found]) -> Change {
    let [before, order] = [before, after].map(|list| {
        let names = list
            .iter()
            .take(MAX_TOLD)
            .map(|it| extension_name(it.magic));
        names.collect::<Vec<_>>().join(", ")
    });
    let len = after.iter().map(Found::len).sum();
    let start = after.first().map_or(0, |first| first.offset);
    Change {
        words: format!(
            "the header extensions come in the order {order}; in the valid image {before}"
        ),
        before,
        after: order,
        section: SECTION.into(),
        ..Change::at(view, "", start, len)
    }
}
