//! Which format an image has, and one way to look into all of them.

use crate::boundary::{Surroundings, boundaries};
use crate::defect::Defect;
use crate::field::Field;
use crate::fixed::FixedImage;
use crate::io::{ReadAt, read_vec};
use crate::qcow2;
use crate::store::Store;
use crate::value::Value;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

pub use crate::qcow2::FieldError;

/// Formats of disk images that are known here. [`Format::Qcow2`] is known whole, the
/// others by their headers and first tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// QEMU, versions 2 and 3.
    Qcow2,
    /// QEMU, version 1.
    Qcow,
    /// VMware, sparse extents.
    Vmdk,
    /// Microsoft Hyper-V.
    Vhdx,
    /// VirtualBox.
    Vdi,
    /// Microsoft Virtual PC.
    Vpc,
    /// QEMU enhanced disk.
    Qed,
    /// Parallels.
    Parallels,
    /// LUKS, version 1.
    Luks,
    /// Bochs, growing.
    Bochs,
    /// Linux compressed loop.
    Cloop,
    /// Apple disk image.
    Dmg,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Qcow2,
        Self::Qcow,
        Self::Vmdk,
        Self::Vhdx,
        Self::Vdi,
        Self::Vpc,
        Self::Qed,
        Self::Parallels,
        Self::Luks,
        Self::Bochs,
        Self::Cloop,
        Self::Dmg,
    ];

    /// The name that QEMU uses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Qcow => "qcow",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
            Self::Vdi => "vdi",
            Self::Vpc => "vpc",
            Self::Qed => "qed",
            Self::Parallels => "parallels",
            Self::Luks => "luks",
            Self::Bochs => "bochs",
            Self::Cloop => "cloop",
            Self::Dmg => "dmg",
        }
    }

    /// The format with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The format whose marks the bytes have.
    #[must_use]
    pub fn probe(source: &(impl ReadAt + ?Sized)) -> Option<Self> {
        let head = read_vec(source, 0, 512);
        let version = qcow2::header::Header::read(source).version;
        let starts = |magic: &[u8]| head.starts_with(magic);
        let tail = |magic: &[u8]| {
            let at = source.len().checked_sub(512);
            at.is_some_and(|at| read_vec(source, at, magic.len()) == magic)
        };
        let found = if starts(b"QFI\xfb") {
            if version == 1 {
                Self::Qcow
            } else {
                Self::Qcow2
            }
        } else if starts(b"KDMV") {
            Self::Vmdk
        } else if starts(b"vhdxfile") {
            Self::Vhdx
        } else if head[64..68] == 0xbeda_107f_u32.to_le_bytes() {
            Self::Vdi
        } else if starts(b"QED\0") {
            Self::Qed
        } else if starts(b"WithoutFreeSpace") || starts(b"WithouFreSpacExt") {
            Self::Parallels
        } else if starts(crate::luks::MAGIC) && head[6..8] == [0, 1] {
            Self::Luks
        } else if starts(b"Bochs Virtual HD Image") {
            Self::Bochs
        } else if starts(b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop") {
            Self::Cloop
        } else if starts(b"conectix") || tail(b"conectix") {
            Self::Vpc
        } else if tail(b"koly") {
            Self::Dmg
        } else {
            return None;
        };
        Some(found)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An image of any known format.
#[derive(Clone, Debug)]
pub enum AnyImage {
    /// qcow2, whole.
    Qcow2(qcow2::Image),
    /// Another format, by its headers.
    Fixed(FixedImage),
}

impl AnyImage {
    /// Reads any bytes as an image of `format`.
    #[must_use]
    pub fn open(source: Arc<dyn ReadAt>, format: Format) -> Self {
        match format {
            Format::Qcow2 => Self::Qcow2(qcow2::Image::open(source)),
            other => Self::Fixed(FixedImage::open(source, other)),
        }
    }

    /// The format it was read as.
    #[must_use]
    pub fn format(&self) -> Format {
        match self {
            Self::Qcow2(_) => Format::Qcow2,
            Self::Fixed(image) => image.format(),
        }
    }

    /// What is wrong with it. Of formats other than qcow2 only the marks are checked.
    #[must_use]
    pub fn defects(&self) -> Vec<Defect> {
        match self {
            Self::Qcow2(image) => image.defects(),
            Self::Fixed(image) => image.defects(),
        }
    }

    /// Its fields; entries of tables that are zero are left out, but for the first one
    /// behind each used one.
    #[must_use]
    pub fn used_fields(&self) -> Box<dyn Iterator<Item = Field> + '_> {
        match self {
            Self::Qcow2(image) => Box::new(image.used_fields()),
            Self::Fixed(image) => Box::new(image.fields()),
        }
    }

    /// The field at `path`.
    ///
    /// # Errors
    /// When `path` is not a path, or the image has no such field.
    pub fn field(&self, path: &str) -> Result<Field, FieldError> {
        match self {
            Self::Qcow2(image) => image.field(path),
            Self::Fixed(image) => image.field(path),
        }
    }

    /// Puts any value that its bits can hold into the field at `path`.
    ///
    /// # Errors
    /// When there is no such field, or it cannot hold the value.
    pub fn set(&mut self, path: &str, value: impl Into<Value>) -> Result<(), FieldError> {
        match self {
            Self::Qcow2(image) => image.set(path, value),
            Self::Fixed(image) => image.set(path, value),
        }
    }

    /// Values at the boundaries of the field at `path`.
    ///
    /// # Errors
    /// When `path` is not a path, or the image has no such field.
    pub fn boundaries(&self, path: &str) -> Result<Vec<u64>, FieldError> {
        let image = match self {
            Self::Qcow2(image) => return image.boundaries(path),
            Self::Fixed(image) => image,
        };
        let surroundings = Surroundings {
            file_len: image.bytes().len(),
            cluster: 1 << 16,
            structures: &[],
            limits: &[],
        };
        Ok(boundaries(&image.field(path)?, surroundings))
    }

    /// The bytes as they are now.
    #[must_use]
    pub fn bytes(&self) -> &Store {
        match self {
            Self::Qcow2(image) => image.bytes(),
            Self::Fixed(image) => image.bytes(),
        }
    }
}
