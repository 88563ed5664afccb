//! From the description of a base image to its files and fields.

use std::sync::Arc;

use anyhow::{Context, Result};
use image_formats::ReadAt as _;
use image_formats::qcow2::{Cluster, Content, Image, Pattern, Spec, build};

use super::{BACKING_FILE, Base, DATA_FILE};
use crate::commands::TEST_IMG;
use crate::map::Map;

/// A file made in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// Its name in the scratch folder.
    pub name: String,
    /// Its contents, up to where only zeros follow.
    pub bytes: Arc<Vec<u8>>,
    /// Its length in bytes, at least that of `bytes`.
    pub len: u64,
}

impl NamedFile {
    /// A file of just these bytes.
    pub fn new(name: &str, bytes: Vec<u8>) -> Self {
        Self {
            name: name.into(),
            len: bytes.len() as u64,
            bytes: bytes.into(),
        }
    }
}

/// A base image ready to be lied in.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The image, decoded.
    pub image: Image,
    /// Its fields.
    pub map: Map,
    /// The files beside it.
    pub beside: Vec<NamedFile>,
}

/// The most fields of an image that edits are drawn from.
const MOST_FIELDS: usize = 6000;

/// Makes the image and the files beside it.
///
/// Fails where the description contradicts itself, as an edited one may.
pub fn prepare(base: &Base) -> Result<Prepared> {
    let built = build(&base.image).context("the base image cannot be made")?;
    let image = built.image;
    let file_len = image.bytes().len();
    let fields = image.used_fields().take(MOST_FIELDS).collect();
    let mut beside = Vec::new();
    if let Some(backing) = &base.backing {
        beside.push(NamedFile::new(BACKING_FILE, backing_bytes(backing)?));
    }
    if let Some(store) = &built.data_file {
        let bytes = store.to_vec(MOST_BYTES)?;
        beside.push(NamedFile::new(DATA_FILE, bytes));
    }
    Ok(Prepared {
        map: Map::new(fields, file_len, base.cluster_size()),
        image,
        beside,
    })
}

/// The backing file's contents: its first and last 4 KiB have data.
fn backing_bytes(backing: &super::BackingFile) -> Result<Vec<u8>> {
    const EDGE: u64 = 4096;
    let size = backing.virtual_size;
    let pattern = Pattern::Fill(0xbb);
    if !backing.qcow2 {
        let mut bytes = vec![0; size as usize];
        let edge = EDGE.min(size) as usize;
        let end = bytes.len() - edge;
        bytes[..edge].copy_from_slice(&pattern.bytes(edge));
        bytes[end..].copy_from_slice(&pattern.bytes(edge));
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
    Ok(built.image.bytes().to_vec(MOST_BYTES)?)
}

/// The most bytes of an image that are written out; the rest of a longer one is
/// a hole.
pub const MOST_BYTES: u64 = 64 << 20;

/// The image under test as a file: its bytes as they are now.
///
/// Fails where memory is short.
pub fn file_of(image: &Image) -> Result<NamedFile> {
    let len = image.bytes().len();
    let limit = MOST_BYTES;
    let mut bytes = image.clone();
    // A length far beyond the data is a hole, and needs no memory.
    if len > limit {
        bytes.bytes_mut().resize(limit);
    }
    Ok(NamedFile {
        name: TEST_IMG.into(),
        bytes: bytes.bytes().to_vec(limit)?.into(),
        len,
    })
}
