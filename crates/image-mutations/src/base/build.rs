//! From the description of a base image to its files and fields.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use image_formats::qcow2::{Cluster, Content, Image, Pattern, Spec, build};
use image_formats::{AnyImage, Format, ReadAt as _, Store};

use super::other::files_of;
use super::{BACKING_FILE, BackingFile, Base, DATA_FILE, OtherBase, Qcow2Base, TEST_IMG};
use crate::map::Map;
use crate::named_file::{MOST_BYTES, NamedFile};

/// A base image ready to be mutated.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The image, decoded.
    pub image: AnyImage,
    /// Its fields.
    pub map: Map,
    /// The files that it refers to: backing file and data file, extents, parents.
    pub extra_files: Vec<NamedFile>,
}

/// The most fields of an image that edits are drawn from.
const MAX_FIELDS: usize = 6000;

/// Makes the image and the files that it refers to.
///
/// # Errors
///
/// The description contradicts itself, as an edited one may.
pub fn prepare(base: &Base) -> Result<Prepared> {
    match base {
        Base::Qcow2(base) => prepare_qcow2(base),
        Base::Other(other) => prepare_other(other),
        Base::Imported(imported) => {
            let file = imported.file().clone();
            Prepared::of(file, imported.format(), None, Vec::new())
        }
    }
}

impl Prepared {
    /// The image in `file`, with its fields, and the files that it refers to. It need not be
    /// valid; what its allocation unit is, its `cluster` tells where that is known.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn of(
        file: NamedFile,
        format: Format,
        cluster: Option<u64>,
        extra_files: Vec<NamedFile>,
    ) -> Result<Self> {
        // Most of its bytes are read for every image made from it, so they are kept in few
        // pieces.
        let image = AnyImage::open(Arc::new(file), format)?;
        let file_len = image.bytes().len();
        let fields = image.used_fields().take(MAX_FIELDS).collect();
        let cluster = cluster.unwrap_or_else(|| image.unit().clamp(512, 1 << 20));
        Ok(Self {
            map: Map::new(format, fields, file_len, cluster).with_copies(image.copies()),
            image,
            extra_files,
        })
    }
}

fn prepare_qcow2(base: &Qcow2Base) -> Result<Prepared> {
    let built = build(&base.image).context("the base image cannot be made")?;
    let mut extra_files = Vec::new();
    if let Some(backing) = &base.backing {
        extra_files.push(NamedFile::new(BACKING_FILE, &backing_bytes(backing)?));
    }
    if let Some(store) = &built.data_file {
        ensure!(store.len() <= MOST_BYTES, "the data file is too long");
        extra_files.push(NamedFile::new(DATA_FILE, store));
    }
    let (file, cluster) = (file_of(&built.image), base.cluster_size());
    Prepared::of(file, Format::Qcow2, Some(cluster), extra_files)
}

fn prepare_other(base: &OtherBase) -> Result<Prepared> {
    let format = base.spec.format();
    let name = format!("test.{format}");
    let mut files = files_of(base, &name)?;
    ensure!(!files.is_empty(), "the base image has no file");
    let image = files.remove(0);
    Prepared::of(image, format, None, files)
}

/// The backing file's contents: its first and last 4 KiB have data.
fn backing_bytes(backing: &BackingFile) -> Result<Store> {
    const EDGE: u64 = 4096;
    let size = backing.virtual_size;
    let pattern = Pattern::Fill(0xbb);
    if !backing.qcow2 {
        let edge = pattern.bytes(EDGE.min(size) as usize);
        let mut bytes = Store::new();
        bytes.write(0, &edge);
        bytes.write(size - edge.len() as u64, &edge);
        return Ok(bytes);
    }
    let last = (size - 1) / EDGE;
    let mut indexes = vec![0, last];
    indexes.dedup();
    let spec = Spec {
        cluster_bits: 12,
        virtual_size: size,
        clusters: indexes
            .into_iter()
            .map(|index| Cluster {
                index,
                content: Content::Data(pattern.clone()),
            })
            .collect(),
        ..Spec::default()
    };
    let built = build(&spec).context("the backing file cannot be made")?;
    Ok(built.image.bytes().clone())
}

/// The image under test as a file: its bytes as they are now.
pub fn file_of(image: &Image) -> NamedFile {
    NamedFile::new(TEST_IMG, image.bytes())
}
