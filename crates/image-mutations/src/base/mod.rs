//! Valid images to mutate: small, over all features, with known contents.

mod build;
mod draw;
mod formats;
mod imported;
mod other;
mod showcase;
mod sparse;

pub use crate::file_names::TEST_IMG;
pub use build::{Prepared, file_of, prepare};
pub use draw::draw;
pub use formats::{Formats, features_of};
pub use imported::ImportedBase;
pub use showcase::showcase;

use image_formats::qcow2::Spec;
use image_formats::{AnySpec, Format, Pattern};
use serde::{Deserialize, Serialize};

/// The description of a base image and of the files it refers to: [`draw`] draws one,
/// [`prepare`] makes the files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Base {
    /// A qcow2 image.
    Qcow2(Qcow2Base),
    /// An image of another format.
    Other(OtherBase),
    /// An image that was made elsewhere, of any format or none, as its bytes.
    Imported(ImportedBase),
}

/// A qcow2 image and its backing file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qcow2Base {
    /// The image under test.
    #[serde(with = "sparse")]
    pub image: Spec,
    /// Its backing file, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing: Option<BackingFile>,
}

/// An image of another format than qcow2, and its parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtherBase {
    /// The image under test.
    pub spec: AnySpec,
    /// Its parent, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
}

/// The parent of an image, in the same folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// Its name, which the image has for it.
    pub name: String,
    /// What it holds.
    pub disk: ParentDisk,
}

/// What the parent of an image is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParentDisk {
    /// A raw file of so many bytes, filled with a pattern.
    Raw(u64, Pattern),
    /// A qcow2 image.
    Qcow2(Box<Spec>),
    /// An image of another format, and its own parent.
    Other(Box<OtherBase>),
}

impl From<Qcow2Base> for Base {
    fn from(base: Qcow2Base) -> Self {
        Self::Qcow2(base)
    }
}

/// A backing file, in the folder of the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackingFile {
    /// Whether it is a qcow2 image or raw.
    pub qcow2: bool,
    /// The size of its disk in bytes, a multiple of 512.
    pub virtual_size: u64,
}

impl BackingFile {
    /// The name of its format.
    pub fn format(&self) -> &'static str {
        if self.qcow2 { "qcow2" } else { "raw" }
    }
}

/// The name of the backing file, where there is one.
pub const BACKING_FILE: &str = "backing.img";
/// The passphrase of an encrypted base image.
pub const PASSPHRASE: &str = "passphrase";
/// The name of the external data file, where there is one.
pub const DATA_FILE: &str = "test.data";

impl Base {
    /// The description of a qcow2 image; `None` for other formats.
    pub fn qcow2(&self) -> Option<&Qcow2Base> {
        match self {
            Self::Qcow2(base) => Some(base),
            Self::Other(_) | Self::Imported(_) => None,
        }
    }

    /// The same, to be changed.
    pub fn qcow2_mut(&mut self) -> Option<&mut Qcow2Base> {
        match self {
            Self::Qcow2(base) => Some(base),
            Self::Other(_) | Self::Imported(_) => None,
        }
    }

    /// The image that was made elsewhere; `None` for one that has a description.
    pub fn imported(&self) -> Option<&ImportedBase> {
        match self {
            Self::Imported(base) => Some(base),
            Self::Qcow2(_) | Self::Other(_) => None,
        }
    }

    /// The same, to be changed.
    pub fn imported_mut(&mut self) -> Option<&mut ImportedBase> {
        match self {
            Self::Imported(base) => Some(base),
            Self::Qcow2(_) | Self::Other(_) => None,
        }
    }

    /// The format of the image.
    pub fn format(&self) -> Format {
        match self {
            Self::Qcow2(_) => Format::Qcow2,
            Self::Other(other) => other.spec.format(),
            Self::Imported(imported) => imported.format(),
        }
    }

    /// The name of the image in its scratch folder.
    pub fn image_name(&self) -> String {
        match self {
            Self::Qcow2(_) => TEST_IMG.to_owned(),
            Self::Other(_) | Self::Imported(_) => format!("test.{}", self.format()),
        }
    }

    /// The features of the format that the image has, by name; none where it was made
    /// elsewhere.
    pub fn features(&self) -> Vec<&'static str> {
        match self {
            Self::Qcow2(base) => base.image.features(),
            Self::Other(other) => other.spec.features(),
            Self::Imported(_) => Vec::new(),
        }
    }

    /// Bytes on the disk; of an image that was made elsewhere what its bytes say.
    pub fn virtual_size(&self) -> u64 {
        match self {
            Self::Qcow2(base) => base.image.virtual_size,
            Self::Other(other) => other.spec.virtual_size(),
            Self::Imported(imported) => imported.virtual_size(),
        }
    }

    /// Whether a key is needed to read the disk.
    pub fn is_encrypted(&self) -> bool {
        match self {
            Self::Qcow2(base) => base.image.encryption.is_some(),
            Self::Other(other) => match &other.spec {
                AnySpec::Luks(_) => true,
                AnySpec::Qcow(spec) => spec.passphrase.is_some(),
                _ => false,
            },
            Self::Imported(imported) => imported.is_encrypted(),
        }
    }

    /// Bytes in a cluster, or a rough unit of allocation of other formats.
    pub fn cluster_size(&self) -> u64 {
        match self {
            Self::Qcow2(base) => base.cluster_size(),
            Self::Other(_) => 4096,
            Self::Imported(imported) => imported.cluster_size(),
        }
    }
}

impl Base {
    /// The fields of the description of an image of another format than qcow2, as JSON.
    pub fn fields(&self) -> Option<serde_json::Map<String, serde_json::Value>> {
        let Self::Other(other) = self else {
            return None;
        };
        let spec = serde_json::to_value(&other.spec).ok()?;
        let (_, fields) = spec.as_object()?.iter().next()?;
        fields.as_object().cloned()
    }

    /// Takes these fields for the description where they are one; what is left out is the
    /// default.
    pub fn set_fields(&mut self, fields: serde_json::Map<String, serde_json::Value>) {
        if let Self::Other(other) = self
            && let Ok(serde_json::Value::Object(mut spec)) = serde_json::to_value(&other.spec)
        {
            for value in spec.values_mut() {
                *value = serde_json::Value::Object(fields.clone());
            }
            if let Ok(changed) = serde_json::from_value(spec.into()) {
                other.spec = changed;
            }
        }
    }
}

impl Qcow2Base {
    /// Bytes in a cluster.
    pub fn cluster_size(&self) -> u64 {
        1 << self.image.cluster_bits.min(30)
    }
}
