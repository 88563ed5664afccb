//! Raw images: the disk byte by byte, without any structure. They have no rules, no signature
//! and no specification; what begins or ends like an image of another format is the guest's.

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::built::{BuiltFile, Feature};
use crate::disk::RawDisk;
use crate::field::Kind;
use crate::io::ReadAt as _;
use crate::model::Driver;
use crate::spec_error::{SpecError, ensure};
use crate::store::Store;
use crate::structure::Structure;
use crate::structured::{Schema, Structured};
use crate::value::Endian::Big;

/// Raw images in the table of formats.
pub(crate) const DRIVER: Driver = Driver {
    name: "raw",
    probe: |_| false,
    open: |store| Structured::open(store, &SCHEMA),
};

static SCHEMA: Schema = Schema {
    structure,
    check: |_, _| {},
    disk: |store, _| {
        Ok(Box::new(RawDisk {
            bytes: std::sync::Arc::new(store),
        }))
    },
    references: |_| Vec::new(),
    unit: |_| SECTOR,
};

/// None: any bytes are a raw image.
pub const RULES: &[crate::defect::Rule] = &[];

/// Bytes in a sector.
const SECTOR: u64 = 512;

/// The largest disk that is built, in bytes.
const LARGEST: u64 = 64 << 20;

/// The sectors where other formats have their signatures.
fn structure(source: &Store) -> Structure {
    let len = source.len();
    let (first, last) = (SECTOR.min(len), len.saturating_sub(SECTOR));
    let rule = "data of the guest";
    Structure::new(Big)
        .run("start", (0, first), Kind::Bytes, rule)
        .run("end", (last, len - last), Kind::Bytes, rule)
}

/// The description of an image: zeros, but for the parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spec {
    /// Bytes on the disk, a multiple of 512, 512 to 64 MiB.
    pub virtual_size: u64,
    /// What the disk holds; later parts overwrite earlier ones.
    pub parts: Vec<Part>,
}

/// Bytes somewhere on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The first byte of the disk that they take.
    pub at: u64,
    /// The bytes, in hexadecimal digits.
    #[serde(serialize_with = "as_hex", deserialize_with = "from_hex")]
    pub bytes: Vec<u8>,
}

fn as_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&HEXLOWER_PERMISSIVE.encode(bytes))
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes());
    bytes.map_err(|_| serde::de::Error::custom("not an even number of hexadecimal digits"))
}

impl Default for Spec {
    /// A disk of 1 MiB of zeros.
    fn default() -> Self {
        Self {
            virtual_size: 1 << 20,
            parts: Vec::new(),
        }
    }
}

/// What images can have or not.
pub const FEATURES: &[Feature] = &[
    Feature::new("data", "bytes other than zeros"),
    Feature::new("start", "bytes other than zeros in the first sector"),
    Feature::new("end", "bytes other than zeros in the last sector"),
];

impl Spec {
    /// The features of the image, by name.
    pub(crate) fn features(&self) -> Vec<&'static str> {
        let last = self.virtual_size.saturating_sub(SECTOR);
        let in_part = |wanted: &dyn Fn(u64) -> bool| {
            self.parts.iter().any(|part| {
                let numbered = (part.at..).zip(&part.bytes);
                let mut used = numbered.filter(|(_, byte)| **byte != 0);
                used.any(|(at, _)| wanted(at))
            })
        };
        Feature::present(&[
            ("data", in_part(&|_| true)),
            ("start", in_part(&|at| at < SECTOR)),
            ("end", in_part(&|at| at >= last)),
        ])
    }
}

/// Builds an image called `name`.
///
/// # Errors
///
/// The size is out of range, or a part is past the end of the disk.
pub fn build(spec: &Spec, name: &str) -> Result<Vec<BuiltFile>, SpecError> {
    let size = spec.virtual_size;
    let allowed = size.is_multiple_of(SECTOR) && (SECTOR..=LARGEST).contains(&size);
    ensure!(allowed, "disk size {size}: a multiple of 512, up to 64 MiB");
    let mut bytes = Store::new();
    for part in &spec.parts {
        let end = part.at.checked_add(part.bytes.len() as u64);
        let fits = end.is_some_and(|end| end <= size);
        ensure!(fits, "the part at {} ends behind the disk", part.at);
        bytes.write(part.at, &part.bytes);
    }
    bytes.resize(size);
    Ok(vec![BuiltFile {
        name: name.to_owned(),
        bytes,
    }])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::Access;
    use crate::format::{AnyImage, Format};

    fn spec() -> Spec {
        let part = |at, bytes: &[u8]| Part {
            at,
            bytes: bytes.to_vec(),
        };
        Spec {
            virtual_size: 4096,
            parts: vec![part(0, b"QFI\xfb"), part(4090, b"ending")],
        }
    }

    #[test]
    fn the_guest_reads_the_bytes() {
        let spec = spec();
        let bytes = build(&spec, "i").unwrap().swap_remove(0).bytes;
        let image = AnyImage::open(Arc::new(bytes), Format::Raw).unwrap();
        assert_eq!(image.defects().unwrap(), []);
        let paths: Vec<String> = image.used_fields().map(|field| field.path).collect();
        assert_eq!(paths, ["start", "end"]);
        let mut disk = image.disk(Access::to(&())).unwrap();
        let mut data = vec![0; 4096];
        disk.read(0, &mut data).unwrap();
        assert_eq!(
            (disk.size(), &data[..4], &data[4090..]),
            (4096, &b"QFI\xfb"[..], &b"ending"[..])
        );
        assert_eq!(spec.features(), ["data", "start", "end"]);
    }

    #[test]
    fn contradictions_are_refused() {
        let refused = |change: &dyn Fn(&mut Spec)| {
            let mut spec = spec();
            change(&mut spec);
            build(&spec, "i").map(|_| ()).unwrap_err().to_string()
        };
        assert!(refused(&|spec| spec.virtual_size = 100).contains("disk size 100"));
        assert!(refused(&|spec| spec.parts[1].at = 4095).contains("4095"));
        assert!(refused(&|spec| spec.parts[1].at = u64::MAX).contains("ends behind"));
    }
}
