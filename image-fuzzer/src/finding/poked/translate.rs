//! Edits of one image as changes to another one that has the same structures elsewhere.

use image_formats::{AnyImage, Field, Format, Kind, ReadAt as _, Value};

use image_mutations::base::Prepared;
use image_mutations::case::apply;
use image_mutations::edit::{Edit, Hex, Number};

/// The most bytes that one poke writes: with more, a test is no easier to read than with the
/// whole image.
const MOST_POKED: usize = 512;

/// A change to an image file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::finding) enum Change {
    /// Bytes written into it.
    Poke {
        /// Where, in bytes.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
        /// What they are: a field, its value before and after, and the rule.
        comment: String,
    },
    /// It is made so many bytes long.
    Length(u64),
}

/// Whether an offset is that of the same structure in the other image, or the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offsets {
    Translated,
    Literal,
}

/// Makes edits of one image, the base of a recipe, to another one.
pub(super) struct Translator<'a> {
    pub(super) base: &'a Prepared,
    pub(super) made: AnyImage,
    pub(super) offsets: Offsets,
    /// What was changed so far.
    pub(super) changes: Vec<Change>,
}

impl Translator<'_> {
    /// Makes an edit of the base to the other image; `None` where that has no such field, or
    /// the edit is not worth a poke.
    pub(super) fn edit(&mut self, edit: &Edit) -> Option<()> {
        match edit {
            Edit::Set { path, value } => self.set(path, *value),
            Edit::Text { path, text } => {
                let path = self.path(path)?;
                let before = self.made.field(&path).ok()?;
                let change = format!("{path}: {} -> {text:?}", before.value);
                self.change(
                    &Edit::Text {
                        path,
                        text: text.clone(),
                    },
                    &before,
                    change,
                )
            }
            Edit::Bytes { at, bytes } => {
                let place = self.offset(at.0);
                let what = place.as_ref().map_or_else(
                    || "bytes that no table points to".to_owned(),
                    |(_, of)| format!("bytes at {of}"),
                );
                let at = place.map_or(at.0, |(at, _)| at);
                self.write(at, &bytes.0, what)
            }
            Edit::Extensions { .. } => {
                let at = u64::from(self.made.as_qcow2()?.layout().header.header_length);
                apply(&mut self.made, edit).ok()?;
                // As many bytes as the edit gives the base.
                let empty = std::sync::Arc::new(Vec::new());
                let mut area = AnyImage::open(empty, Format::Qcow2).ok()?;
                apply(&mut area, edit).ok()?;
                let start = u64::from(area.as_qcow2()?.layout().header.header_length);
                let count = usize::try_from(area.bytes().len().checked_sub(start)?).ok()?;
                let bytes = self.read(at, count)?;
                self.poke(at, bytes, "the header extensions".into())
            }
            Edit::Recompute { .. } => None,
            Edit::Length { bytes } => {
                let len = self.offset(bytes.0).map_or(bytes.0, |(at, _)| at);
                self.made.bytes_mut().resize(len);
                self.changes.push(Change::Length(len));
                Some(())
            }
        }
    }

    /// Sets a field to a number.
    pub(super) fn set(&mut self, path: &str, value: Number) -> Option<()> {
        let path = self.path(path)?;
        let before = self.made.field(&path).ok()?;
        let mut target = (value.0, None);
        if before.kind == Kind::Offset {
            target = self
                .offset(value.0)
                .map_or(target, |(at, of)| (at, Some(of)));
        }
        let (value, of) = target;
        let mut comment = match before.value {
            Value::Uint(value) => format!("{path}: {}", number(value)),
            Value::Bytes(_) => return None,
        };
        comment.push_str(&format!(" -> {}", number(value)));
        if let Some(of) = of {
            comment.push_str(&format!(", that of {of}"));
        }
        let value = Number(value);
        self.change(&Edit::Set { path, value }, &before, comment)
    }

    /// Makes an edit to the other image that changes the field `before`.
    fn change(&mut self, edit: &Edit, before: &Field, mut comment: String) -> Option<()> {
        let width = usize::try_from(before.place.len_bytes()).ok()?;
        let offset = before.place.offset();
        let old = self.read(offset, width.min(MOST_POKED))?;
        apply(&mut self.made, edit).ok()?;
        let new = self.read(offset, width)?;
        if new == old {
            return Some(());
        }
        if !before.rule.is_empty() {
            comment.push_str(&format!(" ({})", before.rule));
        }
        // Of a field that shares its bytes with others those that change.
        let whole = before.width_bits == 8 * width as u64;
        let differs = |at: &usize| old.get(*at) != new.get(*at);
        let (first, last) = if whole {
            (0, width - 1)
        } else {
            let mut all = 0..width;
            (all.find(differs)?, (0..width).rfind(differs)?)
        };
        let bytes = new.get(first..=last)?.to_vec();
        self.poke(offset + first as u64, bytes, comment)
    }

    /// Writes bytes that are not those of a field.
    fn write(&mut self, at: u64, bytes: &[u8], comment: String) -> Option<()> {
        let edit = Edit::Bytes {
            at: Number(at),
            bytes: Hex(bytes.to_vec()),
        };
        apply(&mut self.made, &edit).ok()?;
        self.poke(at, bytes.to_vec(), comment)
    }

    fn poke(&mut self, offset: u64, bytes: Vec<u8>, comment: String) -> Option<()> {
        if bytes.len() > MOST_POKED {
            return None;
        }
        self.changes.push(Change::Poke {
            offset,
            bytes,
            comment,
        });
        Some(())
    }

    fn read(&self, offset: u64, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        (count <= MOST_POKED).then(|| self.made.bytes().read(offset, &mut bytes))?;
        Some(bytes)
    }

    /// The path of the same field in the other image: refcounts are counted by the clusters
    /// that they are of.
    fn path(&self, path: &str) -> Option<String> {
        let Some((block, rest)) = path
            .strip_prefix("refcount_block[")
            .and_then(|rest| rest.split_once("].entry["))
        else {
            return Some(path.to_owned());
        };
        let (entry, rest) = rest.split_once(']')?;
        let (block, entry): (u64, u64) = (block.parse().ok()?, entry.parse().ok()?);
        let (of_base, of_made) = (refcounts(&self.base.image)?, refcounts(&self.made)?);
        let cluster = block.checked_mul(of_base.0)?.checked_add(entry)?;
        let Some((at, _)) = self.offset(cluster.checked_mul(of_base.1)?) else {
            return Some(path.to_owned());
        };
        let cluster = at / of_made.1;
        let (block, entry) = (cluster / of_made.0, cluster % of_made.0);
        Some(format!("refcount_block[{block}].entry[{entry}]{rest}"))
    }

    /// Where the structure at `offset` of the base is in the other image, and the field that
    /// points to it. `None` where nothing of the base is there, or offsets are literal.
    fn offset(&self, offset: u64) -> Option<(u64, String)> {
        let unit = refcounts(&self.base.image)?.1;
        if self.offsets == Offsets::Literal || offset < unit {
            return None;
        }
        let fields = self.base.map.fields().iter();
        let pointers = fields.filter(|field| field.kind == Kind::Offset);
        let near = pointers.filter_map(|field| {
            let start = field.value.as_uint().filter(|start| *start != 0)?;
            let inside = offset.checked_sub(start).filter(|inside| *inside < unit)?;
            Some((inside, field))
        });
        let place = near.min_by_key(|(inside, _)| *inside);
        if let Some((inside, field)) = place {
            let start = self
                .made
                .get_uint(&field.path)
                .filter(|start| *start != 0)?;
            let of = if inside == 0 {
                field.path.clone()
            } else {
                format!("{} and {inside} bytes", field.path)
            };
            return Some((start.checked_add(inside)?, of));
        }
        // The end of the file is a place as well.
        let (end, other) = (self.base.map.file_len, self.made.bytes().len());
        let past = offset.checked_sub(end).filter(|past| *past < 16 * unit)?;
        Some((other.checked_add(past)?, "the end of the file".into()))
    }
}

/// How many refcounts a block has, and how many bytes a cluster.
fn refcounts(image: &AnyImage) -> Option<(u64, u64)> {
    let cluster = 1_u64.checked_shl(u32::try_from(image.get_uint("header.cluster_bits")?).ok()?)?;
    let order = image.as_qcow2()?.layout().header.refcount_order;
    Some((cluster.checked_mul(8)?.checked_shr(order)?, cluster))
}

/// A number in a comment.
fn number(number: u64) -> String {
    if number < 1024 {
        number.to_string()
    } else {
        format!("{number:#x}")
    }
}

#[cfg(test)]
mod tests {
    use image_formats::qcow2::{Cluster, Content, Pattern, Placement, Spec};

    use super::*;
    use image_mutations::base::{Base, Qcow2Base, prepare};

    /// An image with one data cluster, its parts in that order.
    fn image(order: Vec<u32>) -> Prepared {
        let image = Spec {
            clusters: vec![Cluster {
                index: 3,
                content: Content::Data(Pattern::Fill(7)),
            }],
            placement: Placement {
                order,
                gaps: Vec::new(),
            },
            ..Spec::default()
        };
        prepare(&Base::Qcow2(Qcow2Base {
            image,
            backing: None,
        }))
        .unwrap()
    }

    /// What becomes of an edit of an image whose parts are in another order in the other one.
    fn changes(edit: &Edit, offsets: Offsets) -> Option<Vec<Change>> {
        let base = image(Vec::new());
        let mut translator = Translator {
            base: &base,
            made: image(vec![4, 3, 2, 1, 0]).image,
            offsets,
            changes: Vec::new(),
        };
        translator.edit(edit)?;
        Some(translator.changes)
    }

    fn set(path: &str, value: u64) -> Edit {
        Edit::Set {
            path: path.into(),
            value: Number(value),
        }
    }

    /// The only change, a poke.
    fn poke(edit: &Edit, offsets: Offsets) -> (u64, Vec<u8>, String) {
        match changes(edit, offsets).unwrap().as_slice() {
            [
                Change::Poke {
                    offset,
                    bytes,
                    comment,
                },
            ] => (*offset, bytes.clone(), comment.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_number_is_written_where_its_field_is() {
        let (offset, bytes, comment) =
            poke(&set("header.l1_size", 0x200_0001), Offsets::Translated);
        assert_eq!((offset, bytes), (36, vec![2, 0, 0, 1]));
        assert!(
            comment.starts_with("header.l1_size: 1 -> 0x2000001 ("),
            "{comment}"
        );
        // Of a bit, the byte it is in.
        let dirty = set("header.incompatible_features.dirty", 1);
        let (offset, bytes, _) = poke(&dirty, Offsets::Translated);
        assert_eq!((offset, bytes), (79, vec![1]));
        assert_eq!(
            changes(&set("header.l1_size", 1), Offsets::Literal),
            Some(vec![])
        );
        assert_eq!(
            changes(&set("snapshot[0].l1_size", 1), Offsets::Literal),
            None
        );
    }

    #[test]
    fn a_pointer_leads_to_the_same_structure() {
        let base = image(Vec::new()).image;
        let made = image(vec![4, 3, 2, 1, 0]).image;
        let table = base.get_uint("header.refcount_table_offset").unwrap();
        let other = made.get_uint("header.refcount_table_offset").unwrap();
        assert_ne!(table, other);
        let edit = set("l2[0].entry[3].offset", table);
        let entry = made.field("l2[0].entry[3].offset").unwrap().offset;
        let (offset, _, comment) = poke(&edit, Offsets::Translated);
        assert!((entry..entry + 8).contains(&offset));
        let change = format!(" -> {other:#x}, that of header.refcount_table_offset");
        assert!(comment.contains(&change), "{comment}");
        // The data are there already.
        assert_eq!(changes(&edit, Offsets::Literal), Some(vec![]));
        let outside = set("l2[0].entry[3].offset", 1 << 30);
        let both = [Offsets::Translated, Offsets::Literal].map(|it| changes(&outside, it));
        assert_eq!(both[0], both[1]);
    }

    #[test]
    fn a_refcount_is_that_of_the_same_structure() {
        let base = image(Vec::new()).image;
        let made = image(vec![4, 3, 2, 1, 0]).image;
        let cluster = |image: &AnyImage| image.get_uint("header.l1_table_offset").unwrap() >> 16;
        let edit = set(&format!("refcount_block[0].entry[{}]", cluster(&base)), 0);
        let (_, _, comment) = poke(&edit, Offsets::Translated);
        let entry = format!("refcount_block[0].entry[{}]: 1 -> 0", cluster(&made));
        assert!(comment.starts_with(&entry), "{comment}");
    }

    #[test]
    fn lengths_and_bytes_follow_the_structures() {
        let (base, made) = (image(Vec::new()), image(vec![4, 3, 2, 1, 0]));
        let data = base.image.get_uint("l2[0].entry[3].offset").unwrap();
        let other = made.image.get_uint("l2[0].entry[3].offset").unwrap();
        let bytes = Hex(vec![1, 2]);
        let at = Number(data + 5);
        let (offset, written, _) = poke(&Edit::Bytes { at, bytes }, Offsets::Translated);
        assert_eq!((offset, written), (other + 5, vec![1, 2]));
        let longer = |len| Edit::Length { bytes: Number(len) };
        let len = base.map.file_len;
        assert_eq!(
            changes(&longer(len + 1), Offsets::Translated),
            Some(vec![Change::Length(made.map.file_len + 1)])
        );
        let too_many = Edit::Bytes {
            at: Number(0),
            bytes: Hex(vec![1; MOST_POKED + 1]),
        };
        assert_eq!(changes(&too_many, Offsets::Literal), None);
    }
}
