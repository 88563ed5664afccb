//! The image of a test as its mutations left it, for oracles that know what it holds.

use std::cell::OnceCell;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use image_formats::qcow2::records::{EXT_BACKING_FORMAT, EXT_DATA_FILE};
use image_formats::qcow2::{Disk, Guest, GuestOffset, Image, Incompatible};
use image_formats::{AnyImage, Defect, DiskError, Format, ReadAt};

use crate::commands::Command;
use crate::input::recipe::Recipe;
use image_mutations::base::{BACKING_FILE, Base, DATA_FILE};
use image_mutations::case;
use image_mutations::named_file::NamedFile;

/// How much of a disk is read at a time, in bytes.
const PIECE: usize = 64 << 10;

/// How much of a disk is read to see whether that is possible, in bytes.
const MOST_READ: u64 = 64 << 20;

/// The bytes in a snapshot table entry before its extra data.
const SNAPSHOT_FIXED: u64 = 40;

/// The files of a test; its image is decoded when an oracle first asks, and once.
pub(super) struct Subject<'a> {
    recipe: &'a Recipe,
    files: &'a [NamedFile],
    decoded: OnceCell<Option<Decoded>>,
    broken: OnceCell<Vec<Defect>>,
}

/// A decoded qcow2 image.
pub(super) struct Decoded {
    /// The image.
    pub image: Image,
    /// The rules it breaks that a reader must enforce.
    pub broken: Vec<Defect>,
}

impl<'a> Subject<'a> {
    /// The image of `recipe`, which is the first of `files`.
    pub(super) fn new(recipe: &'a Recipe, files: &'a [NamedFile]) -> Self {
        Self {
            recipe,
            files,
            decoded: OnceCell::new(),
            broken: OnceCell::new(),
        }
    }

    /// Whether the image may be invalid: it is mutated, or was made elsewhere.
    pub(super) fn is_mutated(&self) -> bool {
        !self.recipe.edits.is_empty() || self.recipe.base.imported().is_some()
    }

    /// The decoded image, if it is a qcow2 image.
    pub(super) fn decoded(&self) -> Option<&Decoded> {
        let decode = || {
            (self.recipe.base.format() == Format::Qcow2).then_some(())?;
            let image = Image::open(Arc::new(self.files.first()?.clone())).ok()?;
            let broken = image.binding_defects().ok()?;
            Some(Decoded { image, broken })
        };
        self.decoded.get_or_init(decode).as_ref()
    }

    /// The format that the image is made in.
    pub(super) fn format(&self) -> Format {
        self.recipe.base.format()
    }

    /// The formats whose signatures the image has.
    fn signatures(&self) -> Vec<Format> {
        let found = self.files.first().map(Format::signatures);
        found.and_then(Result::ok).unwrap_or_default()
    }

    /// Whether the image has the signature of its format and no other.
    pub(super) fn has_signature(&self) -> bool {
        self.signatures() == [self.format()]
    }

    /// Whether the image has the signature of another format.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.signatures().iter().any(|it| *it != self.format())
    }

    /// Whether `command` opens the image as one of the format that it was made in, if it opens
    /// it: it is told to, or there is nothing else to take it for.
    pub(super) fn is_opened_as_made(&self, command: &Command) -> bool {
        command.names_format(self.format()) || !self.is_ambiguous()
    }

    /// The rules of another format than qcow2 that the image breaks and a reader must enforce;
    /// none where it cannot be read.
    pub(super) fn broken(&self) -> &[Defect] {
        self.broken.get_or_init(|| {
            let defects = || {
                let image = Arc::new(self.files.first()?.clone());
                let image = AnyImage::open(image, self.format()).ok()?;
                image.binding_defects().ok()
            };
            defects().unwrap_or_default()
        })
    }

    /// What the guest must read from an image of another format than qcow2; `None` where that
    /// is not known, or the image refers to other files than those of the test.
    pub(super) fn disk(&self) -> Option<Box<dyn image_formats::Disk>> {
        // What is in a file that nothing decodes, a program may know.
        if matches!(self.recipe.base, Base::Imported(_)) && self.format() == Format::Raw {
            return None;
        }
        // What must be refused may be read as anything.
        let known = self.format() != Format::Qcow2 && self.broken().is_empty();
        known.then(|| case::disk_of(self.files, self.format()).ok())?
    }

    /// The base image and the edits of the test.
    pub(super) fn recipe(&self) -> &Recipe {
        self.recipe
    }

    /// Whether a part of the guest's disk, or all of it, cannot be read, since the image is
    /// damaged there.
    pub(super) fn is_unreadable(&self, range: Option<Range<u64>>) -> bool {
        let read = || {
            let mut disk = case::disk_of(self.files, self.format())?;
            let range = range.unwrap_or(0..disk.size());
            let mut piece = vec![0; PIECE];
            for at in (range.start..range.end.min(MOST_READ)).step_by(PIECE) {
                let count = (range.end - at).min(PIECE as u64) as usize;
                disk.read(at, &mut piece[..count])?;
            }
            Ok(())
        };
        matches!(read(), Err(DiskError::Damaged(_)))
    }

    /// What the guest must read from a disk of the image, where that is known: `read` is
    /// given it, and is not called where mutations lead to other files than those of the
    /// test, or the data are encrypted.
    pub(super) fn guest<T>(
        &self,
        disk: Disk,
        read: impl FnOnce(&mut Guest<'_>) -> Option<T>,
    ) -> Option<T> {
        let Decoded { image, .. } = self.decoded()?;
        let header = &image.layout().header;
        // At offset 0 the header is read as a table, or nothing is.
        if header.crypt_method != 0 || image.layout().l1.offset == 0 {
            return None;
        }
        let external = header.incompatible.contains(Incompatible::DATA_FILE);
        let data_file = self.file(external, DATA_FILE, self.data_file_name())?;
        let named = image.layout().header.backing_file_offset != 0;
        let backing = self.file(named, BACKING_FILE, self.backing_name())?;
        let base = self.recipe.base.qcow2();
        let backing = match (backing, base.and_then(|base| base.backing.as_ref())) {
            (Some(file), Some(base)) if self.has_backing_format(base.format()) => {
                Some(Backing::new(file, base.qcow2)?)
            }
            (None, _) => None,
            _ => return None,
        };
        let data_file = data_file.map(|file| file as &dyn ReadAt);
        let backing = backing.as_ref().map(|backing| backing as &dyn ReadAt);
        read(&mut image.guest(disk, data_file, backing).ok()?)
    }

    /// The file `wanted` of the test where the image refers to one; `None` where it names
    /// another.
    fn file(
        &self,
        is_used: bool,
        wanted: &str,
        name: Option<Vec<u8>>,
    ) -> Option<Option<&NamedFile>> {
        if !is_used || name.as_deref() == Some(b"") {
            return Some(None);
        }
        let named = name.is_some_and(|name| name == wanted.as_bytes());
        let file = self.files.iter().find(|file| file.name == wanted);
        file.filter(|_| named).map(Some)
    }

    fn data_file_name(&self) -> Option<Vec<u8>> {
        self.extension(EXT_DATA_FILE)
    }

    fn backing_name(&self) -> Option<Vec<u8>> {
        let image = &self.decoded()?.image;
        let header = &image.layout().header;
        Some(bytes(
            image,
            header.backing_file_offset,
            u64::from(header.backing_file_size),
        ))
    }

    /// Whether the backing file is read in its own format.
    fn has_backing_format(&self, format: &str) -> bool {
        let named = self.extension(EXT_BACKING_FORMAT);
        named.is_none_or(|named| named == format.as_bytes())
    }

    /// The data of the last header extension of a type.
    fn extension(&self, kind: u32) -> Option<Vec<u8>> {
        let image = &self.decoded()?.image;
        let mut all = image.layout().extensions.iter().rev();
        let extension = all.find(|extension| extension.kind == kind)?;
        Some(bytes(image, extension.offset + 8, extension.present))
    }
}

impl Decoded {
    /// Whether a program that is told no format takes it for a qcow2 image.
    pub(super) fn is_recognised(&self) -> bool {
        let header = &self.image.layout().header;
        header.magic == 0x5146_49fb && header.version >= 2
    }

    /// Whether a program that opens it to write repairs it first.
    pub(super) fn is_dirty(&self) -> bool {
        let header = &self.image.layout().header;
        header.incompatible.contains(Incompatible::DIRTY)
    }

    /// The disk of the snapshot with this ID or name, or the active one; `None` where no
    /// snapshot or more than one is meant.
    pub(super) fn disk(&self, snapshot: Option<&str>) -> Option<Disk> {
        let Some(wanted) = snapshot else {
            return Some(Disk::Active);
        };
        let all = self.image.layout().snapshots.iter().enumerate();
        let mut found = all.filter(|(_, snapshot)| {
            let id = snapshot.offset + SNAPSHOT_FIXED + snapshot.extra;
            let is = |at, len| bytes(&self.image, at, len) == wanted.as_bytes();
            is(id, snapshot.id) || is(id.saturating_add(snapshot.id), snapshot.name)
        });
        let (index, _) = found.next()?;
        found.next().is_none().then_some(Disk::Snapshot(index))
    }

    /// The disk, and the part of it, that a defect of the mapping is about.
    pub(super) fn mapped(&self, path: &str) -> Option<(Disk, Range<u64>)> {
        let layout = self.image.layout();
        let cluster = layout.geometry?.cluster_size();
        let extended = layout
            .header
            .incompatible
            .contains(Incompatible::EXTENDED_L2);
        let entries = cluster / if extended { 16 } else { 8 };
        let (disk, rest) = match path.strip_prefix("snapshot[") {
            Some(rest) => {
                let (index, rest) = rest.split_once("].")?;
                (Disk::Snapshot(index.parse().ok()?), rest)
            }
            None => (Disk::Active, path),
        };
        let index = |text: &str| text.split(']').next()?.parse::<u64>().ok();
        let (first, count) = match rest.strip_prefix("l1[") {
            Some(rest) => (index(rest)?.checked_mul(entries)?, entries),
            None => {
                let (table, entry) = rest.strip_prefix("l2[")?.split_once("].entry[")?;
                let table = table.parse::<u64>().ok()?.checked_mul(entries)?;
                (table.checked_add(index(entry)?)?, 1)
            }
        };
        let start = first.checked_mul(cluster)?;
        let end = start.checked_add(count.checked_mul(cluster)?)?;
        Some((disk, start..end))
    }

    /// Whether an L2 entry of the active disk has the flag COPIED and no cluster.
    pub(super) fn flags_nothing(&self) -> bool {
        let defects = self.image.defects().unwrap_or_default();
        defects.iter().any(|defect| {
            let cluster = self.image.get_uint(&format!("{}.offset", defect.path));
            defect.name == "l2-copied" && defect.path.starts_with("l2[") && cluster == Some(0)
        })
    }

    /// The bytes of the active disk, in whole sectors: the rest is not read.
    pub(super) fn size(&self) -> u64 {
        self.image.layout().header.size / 512 * 512
    }
}

/// Bytes of an image; short, as a name is.
fn bytes(image: &Image, at: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len.min(2048) as usize];
    image.bytes().read(at, &mut bytes);
    bytes
}

/// What the guest of a backing file reads.
enum Backing<'a> {
    Raw(&'a NamedFile),
    Qcow2(Box<Image>),
}

impl<'a> Backing<'a> {
    fn new(file: &'a NamedFile, qcow2: bool) -> Option<Self> {
        if !qcow2 {
            return Some(Self::Raw(file));
        }
        let image = Image::open(Arc::new(file.clone())).ok()?;
        Some(Self::Qcow2(Box::new(image)))
    }
}

impl ReadAt for Backing<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let image = match self {
            Self::Raw(file) => return file.read_at(offset, buf),
            Self::Qcow2(image) => image,
        };
        let count = self.len().saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut guest = image
            .guest(Disk::Active, None, None)
            .map_err(io::Error::other)?;
        let read = guest.read(GuestOffset(offset), &mut buf[..count]);
        read.map(|()| count).map_err(io::Error::other)
    }

    fn len(&self) -> u64 {
        match self {
            Self::Raw(file) => file.len(),
            Self::Qcow2(image) => image.layout().header.size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::recipe::FUZZER;
    use image_formats::qcow2::{Cluster, Content, Pattern, Snapshot, Spec, build};
    use image_mutations::base::{Base, Qcow2Base, file_of};

    /// A test of this image.
    fn with<T>(image: Spec, act: impl FnOnce(&Subject<'_>) -> T) -> T {
        let files = [file_of(&build(&image).unwrap().image)];
        let recipe = Recipe {
            fuzzer: FUZZER.into(),
            seed: String::new(),
            base: Base::Qcow2(Qcow2Base {
                image,
                backing: None,
            }),
            edits: Vec::new(),
            commands: Vec::new(),
            fresh_copies: false,
            guard: None,
        };
        act(&Subject::new(&recipe, &files))
    }

    #[test]
    fn a_path_of_the_mapping_is_a_part_of_a_disk() {
        with(Spec::default(), |subject| {
            let decoded = subject.decoded().unwrap();
            let cluster = 65536;
            let entry = |index: u64| index * cluster..(index + 1) * cluster;
            assert_eq!(
                decoded.mapped("l2[1].entry[3]"),
                Some((Disk::Active, entry(8195)))
            );
            assert_eq!(
                decoded.mapped("snapshot[2].l2[0].entry[3]"),
                Some((Disk::Snapshot(2), entry(3)))
            );
            let (_, table) = decoded.mapped("l1[1]").unwrap();
            assert_eq!(table, 8192 * cluster..16384 * cluster);
            assert_eq!(decoded.mapped("header.l1_size"), None);
            assert_eq!(decoded.mapped("l1[99999999999999999999]"), None);
        });
    }

    #[test]
    fn a_snapshot_is_known_by_its_id_and_its_name() {
        let snapshot = |id: &str, name: &str| Snapshot {
            id: id.into(),
            name: name.into(),
            ..Snapshot::default()
        };
        let image = Spec {
            snapshots: vec![snapshot("1", "one"), snapshot("2", "1")],
            ..Spec::default()
        };
        with(image, |subject| {
            let decoded = subject.decoded().unwrap();
            assert_eq!(decoded.disk(None), Some(Disk::Active));
            assert_eq!(decoded.disk(Some("one")), Some(Disk::Snapshot(0)));
            assert_eq!(decoded.disk(Some("2")), Some(Disk::Snapshot(1)));
            // It is the ID of one and the name of the other.
            assert_eq!(decoded.disk(Some("1")), None);
            assert_eq!(decoded.disk(Some("three")), None);
        });
    }

    #[test]
    fn a_flag_without_a_cluster_is_noticed() {
        let flags_nothing = |path: &str| {
            let spec = Spec {
                clusters: vec![Cluster {
                    index: 1,
                    content: Content::Data(Pattern::Fill(7)),
                }],
                ..Spec::default()
            };
            let mut image = build(&spec).unwrap().image;
            image.set(path, 1_u64).unwrap();
            let broken = Vec::new();
            Decoded { image, broken }.flags_nothing()
        };
        assert!(flags_nothing("l2[0].entry[3].copied"));
        assert!(!flags_nothing("l2[0].entry[3].zero"));
    }

    #[test]
    fn the_guests_data_is_known() {
        let image = Spec {
            clusters: vec![Cluster {
                index: 1,
                content: Content::Data(Pattern::Fill(7)),
            }],
            ..Spec::default()
        };
        let byte = |at| {
            with(image.clone(), |subject| {
                subject.guest(Disk::Active, |guest| {
                    let mut byte = [9];
                    guest.read(GuestOffset(at), &mut byte).ok()?;
                    Some(byte[0])
                })
            })
        };
        assert_eq!(byte(0), Some(0));
        assert_eq!(byte(65536), Some(7));
    }
}
