//! From the description of a base image to its files and fields.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use image_formats::qcow2::{Cluster, Content, Image, Pattern, Spec, build};
use image_formats::{ReadAt as _, Store};

use super::{BACKING_FILE, Base, DATA_FILE, MOST_BYTES, NamedFile};
use crate::commands::TEST_IMG;
use crate::map::Map;

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
    // Most of its bytes are read for every image that is made of it: in few pieces.
    let image = Image::open(Arc::new(file_of(&built.image)))?;
    let file_len = image.bytes().len();
    let fields = image.used_fields().take(MOST_FIELDS).collect();
    let mut beside = Vec::new();
    if let Some(backing) = &base.backing {
        beside.push(NamedFile::new(BACKING_FILE, &backing_bytes(backing)?));
    }
    if let Some(store) = &built.data_file {
        ensure!(store.len() <= MOST_BYTES, "the data file is too long");
        beside.push(NamedFile::new(DATA_FILE, store));
    }
    Ok(Prepared {
        map: Map::new(fields, file_len, base.cluster_size()),
        image,
        beside,
    })
}

/// The backing file's contents: its first and last 4 KiB have data.
fn backing_bytes(backing: &super::BackingFile) -> Result<Store> {
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
