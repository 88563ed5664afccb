//! Valid images to mutate: small, over all features, with known contents.

mod build;
mod draw;
mod sparse;

pub use crate::named_file::{MOST_BYTES, NamedFile};
pub use build::{Prepared, file_of, prepare};
pub use draw::draw;

use image_formats::qcow2::Spec;
use serde::{Deserialize, Serialize};

/// The description of a base image and its backing file: [`draw`] draws one, [`prepare`]
/// makes the files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// The image under test.
    #[serde(with = "sparse")]
    pub image: Spec,
    /// Its backing file, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing: Option<BackingFile>,
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

/// The name of the image under test in its scratch folder, which is the working
/// folder of every command.
pub const TEST_IMG: &str = "test.qcow2";
/// The name of the backing file, where there is one.
pub const BACKING_FILE: &str = "backing.img";
/// The passphrase of an encrypted base image.
pub const PASSPHRASE: &str = "passphrase";
/// The name of the external data file, where there is one.
pub const DATA_FILE: &str = "test.data";

impl Base {
    /// Bytes in a cluster.
    pub fn cluster_size(&self) -> u64 {
        1 << self.image.cluster_bits.min(30)
    }
}
