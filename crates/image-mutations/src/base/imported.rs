//! Images that were made elsewhere, by other fuzzers or other programs: their bytes, and the
//! format that these show.

use std::io::Read as _;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, ensure};
use data_encoding::BASE64;
use image_formats::{Access, AnyImage, Format, ReadAt, Store};
use serde::{Deserialize, Serialize};

use crate::named_file::{MOST_BYTES, NamedFile};

/// An image that was made elsewhere. It need not be valid, nor of any format that is known:
/// then it is raw, and edits are of its bytes alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct ImportedBase {
    format: Format,
    file: NamedFile,
    /// What its bytes say, worked out when that is first asked for.
    facts: Arc<OnceLock<Facts>>,
}

/// What the bytes of an image say.
#[derive(Clone, Copy, Debug)]
struct Facts {
    virtual_size: u64,
    cluster_size: u64,
    encrypted: bool,
}

/// How it is stored in JSON.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: Format,
    /// Bytes in the file.
    length: u64,
    /// In base64 and compressed with zstd, for each piece of the file that is not a hole its
    /// offset and its length, as 64-bit numbers with the least significant byte first, and its
    /// bytes.
    pieces: String,
}

/// Most bytes of all pieces together: each has two numbers before it, and is a page at least.
const MOST_STORED: u64 = MOST_BYTES + MOST_BYTES / 64;

/// Little is gained by taking longer for small images.
const LEVEL: i32 = 3;

impl PartialEq for ImportedBase {
    fn eq(&self, other: &Self) -> bool {
        // The rest follows from these.
        self.format == other.format && self.file == other.file
    }
}

impl Eq for ImportedBase {}

impl ImportedBase {
    /// The image with these bytes, of the format whose signature they have, or raw.
    ///
    /// # Errors
    ///
    /// It is longer than 64 MiB, or the bytes cannot be read.
    pub fn new(bytes: &Store) -> Result<Self> {
        let format = Format::probe(bytes)?.unwrap_or(Format::Raw);
        Self::of_format(bytes, format)
    }

    /// The same, read as an image of `format` whatever its signature.
    ///
    /// # Errors
    ///
    /// It is longer than 64 MiB.
    pub fn of_format(bytes: &Store, format: Format) -> Result<Self> {
        let len = bytes.len();
        ensure!(
            len <= MOST_BYTES,
            "the image is {len} bytes long, more than the {MOST_BYTES} that are kept of a file"
        );
        Ok(Self {
            format,
            file: NamedFile::new(&format!("test.{format}"), bytes),
            facts: Arc::default(),
        })
    }

    /// The format that it is read as; raw where none is known.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Its file.
    pub fn file(&self) -> &NamedFile {
        &self.file
    }

    /// The parts of the file that hold data, in bytes, by rising offset.
    pub fn data(&self) -> Vec<Range<u64>> {
        let next = |at| self.file.next_data(at);
        std::iter::successors(next(0), |range| next(range.end)).collect()
    }

    /// Bytes on the disk, as far as the image says.
    pub fn virtual_size(&self) -> u64 {
        self.facts().virtual_size
    }

    /// Bytes in a cluster, or whatever the unit of allocation is.
    pub fn cluster_size(&self) -> u64 {
        self.facts().cluster_size
    }

    /// Whether a key is needed to read the disk.
    pub fn is_encrypted(&self) -> bool {
        self.facts().encrypted
    }

    /// The image cut off after `len` bytes.
    pub fn truncate(&mut self, len: u64) {
        self.change(|bytes| bytes.resize(bytes.len().min(len)));
    }

    /// The image with zeros in a range of bytes.
    pub fn clear(&mut self, range: Range<u64>) {
        self.change(|bytes| {
            let end = range.end.min(bytes.len());
            let count = end.saturating_sub(range.start);
            bytes.write(range.start, &vec![0; usize::try_from(count).unwrap_or(0)]);
        });
    }

    fn change(&mut self, change: impl FnOnce(&mut Store)) {
        let mut bytes = Store::over(Arc::new(self.file.clone()));
        change(&mut bytes);
        self.file = NamedFile::new(&self.file.name, &bytes);
        self.facts = Arc::default();
    }

    fn facts(&self) -> Facts {
        *self.facts.get_or_init(|| {
            let opened = AnyImage::open(Arc::new(self.file.clone()), self.format);
            // Reading from memory does not fail.
            opened.map_or_else(
                |_| Facts {
                    virtual_size: self.file.len(),
                    cluster_size: 512,
                    encrypted: false,
                },
                |image| self.facts_of(&image),
            )
        })
    }

    fn facts_of(&self, image: &AnyImage) -> Facts {
        let header = image.as_qcow2().map(|qcow2| &qcow2.layout().header);
        let encrypted = header.map_or(self.format == Format::Luks, |it| it.crypt_method != 0);
        let virtual_size = match header {
            Some(header) => header.size,
            // To derive a key takes long, on purpose.
            None if encrypted => self.file.len(),
            None => image
                .disk(Access::to(&()))
                .map_or(self.file.len(), |disk| disk.size()),
        };
        Facts {
            virtual_size,
            cluster_size: image.unit().clamp(512, 1 << 30),
            encrypted,
        }
    }
}

impl From<ImportedBase> for Stored {
    fn from(base: ImportedBase) -> Self {
        let mut plain = Vec::new();
        for range in base.data() {
            let len = range.end - range.start;
            plain.extend_from_slice(&range.start.to_le_bytes());
            plain.extend_from_slice(&len.to_le_bytes());
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            // A file in memory has the bytes that it says it has.
            let _ = base.file.read_at(range.start, &mut bytes);
            plain.extend_from_slice(&bytes);
        }
        // Compressing into memory does not fail; what is empty is refused when it is read.
        let packed = zstd::bulk::compress(&plain, LEVEL).unwrap_or_default();
        Self {
            format: base.format,
            length: base.file.len(),
            pieces: BASE64.encode(&packed),
        }
    }
}

impl TryFrom<Stored> for ImportedBase {
    type Error = anyhow::Error;

    fn try_from(stored: Stored) -> Result<Self> {
        let packed = BASE64.decode(stored.pieces.as_bytes());
        let packed = packed.context("the pieces of the image are not base64")?;
        let mut plain = Vec::new();
        let decoder = zstd::stream::read::Decoder::new(packed.as_slice());
        decoder
            .and_then(|decoder| decoder.take(MOST_STORED + 1).read_to_end(&mut plain))
            .context("the pieces of the image cannot be decompressed")?;
        ensure!(
            plain.len() as u64 <= MOST_STORED,
            "the pieces of the image are too long"
        );
        let mut bytes = Store::new();
        let mut rest = plain.as_slice();
        while let Some((head, after)) = rest.split_first_chunk::<16>() {
            let (offset, len) = (number(&head[..8]), number(&head[8..]));
            let count = usize::try_from(len).unwrap_or(usize::MAX);
            let end = offset.checked_add(len).filter(|end| *end <= stored.length);
            let piece = after.get(..count).filter(|_| end.is_some());
            bytes.write(offset, piece.context("a piece of the image is cut off")?);
            rest = &after[count..];
        }
        ensure!(rest.is_empty(), "a piece of the image is cut off");
        bytes.resize(stored.length);
        Self::of_format(&bytes, stored.format)
    }
}

/// The number in eight bytes, the least significant first.
fn number(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::{Base, Formats, prepare};
    use crate::case::Maker;
    use crate::edit::Edit;
    use crate::mutate;
    use crate::rng::Rng;

    fn imported(bytes: &[u8]) -> ImportedBase {
        ImportedBase::new(&Store::over(Arc::new(bytes.to_vec()))).unwrap()
    }

    proptest! {
        #[test]
        fn an_image_survives_json(
            writes in prop::collection::vec((0..100_000_u64, 1..9000_usize, any::<u8>()), 0..6),
            len in 0..120_000_u64,
        ) {
            let mut store = Store::new();
            for (at, count, byte) in writes {
                store.write(at, &vec![byte; count]);
            }
            store.resize(len);
            let base = Base::Imported(ImportedBase::new(&store).unwrap());
            let text = serde_json::to_string(&base).unwrap();
            let read: Base = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, &base);
            let files = Maker::default().files(&read, &[]).unwrap();
            prop_assert_eq!(files[0].to_vec(), store.to_vec(1 << 20).unwrap());
        }

        #[test]
        fn what_is_not_an_image_is_an_error(plain in prop::collection::vec(any::<u8>(), 0..60), length: u64) {
            let packed = zstd::bulk::compress(&plain, LEVEL).unwrap();
            for pieces in [BASE64.encode(&packed), BASE64.encode(&plain)] {
                let format = Format::Raw;
                // Whatever it gives, there is no panic and no more memory than it has bytes.
                let _ = ImportedBase::try_from(Stored { format, length, pieces });
            }
        }
    }

    #[test]
    fn holes_take_no_room() {
        let mut store = Store::new();
        store.write(40 << 20, b"data");
        store.resize(MOST_BYTES);
        let base = ImportedBase::new(&store).unwrap();
        let text = serde_json::to_string(&base).unwrap();
        assert!(text.len() < 200, "{text}");
        store.resize(MOST_BYTES + 1);
        let said = ImportedBase::new(&store).unwrap_err().to_string();
        assert!(said.contains("67108865 bytes long"), "{said}");
    }

    #[test]
    fn an_image_has_the_facts_and_the_fields_of_its_format() {
        let mut rng = Rng::from_text("imported");
        // Raw images may look like those of any format.
        let words = Formats::words_of_one().into_iter();
        for name in words.filter(|name| *name != "raw") {
            let formats = Formats::named(name).unwrap();
            let mut drawn = formats.draw(&mut rng);
            if let Some(base) = drawn.qcow2_mut() {
                base.image.encryption = None;
            }
            let prepared = prepare(&drawn).unwrap();
            let base = ImportedBase::new(prepared.image.bytes()).unwrap();
            // Descriptors, and volumes of VPC of a fixed size, have no signature at the start.
            let base = match base.format() {
                Format::Raw => ImportedBase::of_format(prepared.image.bytes(), drawn.format()),
                _ => Ok(base),
            };
            let base = Base::Imported(base.unwrap());
            assert_eq!(base.format().name(), name);
            assert_eq!(base.is_encrypted(), drawn.is_encrypted(), "{name}");
            assert_eq!(base.image_name(), drawn.image_name());
            let again = prepare(&base).unwrap();
            assert_eq!(again.map.fields(), prepared.map.fields(), "{name}");
            if prepared.extra_files.is_empty() && !drawn.is_encrypted() {
                assert_eq!(base.virtual_size(), drawn.virtual_size(), "{name}");
            }
        }
    }

    #[test]
    fn what_nothing_decodes_gets_edits_of_bytes() {
        let base = Base::Imported(imported(&[7; 5000]));
        assert_eq!(base.format(), Format::Raw);
        assert_eq!(base.virtual_size(), 5000);
        let mut maker = Maker::default();
        let prepared = maker.prepared(&base).unwrap();
        let mut rng = Rng::from_text("bytes");
        let mut kinds = [0, 0];
        for _ in 0..200 {
            let edits = mutate::one(&prepared.map, &mutate::first_weights(), &mut rng);
            for mutation in &edits {
                match mutation.edit {
                    Edit::Bytes { .. } => kinds[0] += 1,
                    Edit::Length { .. } => kinds[1] += 1,
                    ref other => panic!("{other:?}"),
                }
            }
            maker.files(&base, &edits).unwrap();
        }
        assert!(kinds.iter().all(|count| *count > 20), "{kinds:?}");
    }

    #[test]
    fn an_image_can_be_cut_and_cleared() {
        let mut base = imported(&[7; 10_000]);
        base.clear(0..4096);
        assert_eq!(
            base.data(),
            vec![Range {
                start: 4096,
                end: 10_000
            }]
        );
        base.truncate(8192);
        assert_eq!((base.file().len(), base.virtual_size()), (8192, 8192));
        base.clear(4096..100_000);
        assert_eq!((base.data(), base.file().len()), (Vec::new(), 8192));
    }
}
