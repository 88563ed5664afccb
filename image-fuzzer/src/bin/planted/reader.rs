//! The image as the reader with the switchable faults sees it.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use image_formats::qcow2::Image;

/// An image and the command that is run on it.
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) image: Image,
    pub(crate) len: u64,
    /// The verb, such as `info`, `snapshot -a` or, of `qemu-io`, `write`.
    pub(crate) verb: String,
    pub(crate) cluster: u64,
    /// A block of memory for names, of a size that leaves no slack; taken before any other.
    pub(crate) buffer: Vec<u8>,
}

/// The length of [`Opened::buffer`] in bytes.
pub(crate) const BUFFER: usize = 112;

/// What a command does with an image, besides opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing.
    Open,
    /// Anything that needs its tables.
    Tables,
    /// It reads or writes the disk.
    Data,
    /// It allocates clusters.
    Allocate,
    /// It uses a snapshot.
    Snapshot,
    /// It uses a bitmap.
    Bitmap,
    /// It checks the tables.
    Check,
    /// It repairs them.
    Repair,
}

impl Opened {
    pub(crate) fn new(words: &[&str]) -> std::io::Result<Self> {
        let image = words.iter().rfind(|word| word.ends_with(".qcow2"));
        // An encrypted image is named by options, the file last.
        let path = image.and_then(|word| word.rsplit('=').next());
        let path = PathBuf::from(path.unwrap_or_default());
        let file = File::open(&path)?;
        let buffer = vec![1; BUFFER];
        let mut bytes = Vec::new();
        // Of a sparse file not so many that they take long.
        file.take(64 << 20).read_to_end(&mut bytes)?;
        let len = bytes.len() as u64;
        let image = Image::open(Arc::new(bytes)).map_err(std::io::Error::other)?;
        let bits = image.get_uint("header.cluster_bits").unwrap_or(0);
        Ok(Self {
            path,
            image,
            len,
            verb: verb(words),
            cluster: 1 << bits.clamp(9, 21),
            buffer,
        })
    }

    /// The number in the field of that path; 0 where there is no such field.
    pub(crate) fn n(&self, path: &str) -> u64 {
        self.image.get_uint(path).unwrap_or(0)
    }

    /// The number in a field of the header extension of type `kind`.
    pub(crate) fn ext(&self, kind: u32, field: &str) -> Option<u64> {
        let number = |index: usize, field: &str| {
            let path = format!("ext[{index}].{field}");
            self.image.get_uint(&path)
        };
        (0..16)
            .find(|index| number(*index, "type") == Some(kind.into()))
            .and_then(|index| number(index, field))
    }

    /// Whether the field of that path is no multiple of the cluster size.
    pub(crate) fn is_unaligned(&self, path: &str) -> bool {
        !self.n(path).is_multiple_of(self.cluster)
    }

    /// Whether the field of that path is behind the end of the file.
    pub(crate) fn is_past_end(&self, path: &str) -> bool {
        self.n(path) >= self.len
    }

    /// The refcount of the cluster that the field of that path points to, which is in the
    /// first block.
    pub(crate) fn refcount(&self, path: &str) -> u64 {
        let cluster = self.n(path) / self.cluster;
        self.n(&format!("refcount_block[0].entry[{cluster}]"))
    }

    /// Whether the command gets that far.
    pub(crate) fn reaches(&self, stage: Stage) -> bool {
        let verb = self.verb.as_str();
        match stage {
            Stage::Open => true,
            Stage::Tables => verb != "info",
            Stage::Data => matches!(verb, "read" | "write" | "discard" | "convert" | "map"),
            Stage::Allocate => {
                matches!(
                    verb,
                    "write" | "discard" | "snapshot -c" | "resize" | "amend"
                )
            }
            Stage::Snapshot => matches!(verb, "snapshot -a" | "snapshot -d" | "convert -l"),
            Stage::Bitmap => verb.starts_with("bitmap") || verb == "convert",
            Stage::Check => verb.starts_with("check"),
            Stage::Repair => verb == "check -r",
        }
    }

    /// The data of the first cluster of the disk.
    pub(crate) fn data(&self) -> Vec<u8> {
        let mut data = vec![0; self.cluster as usize];
        let at = self.n("l2[0].entry[0].offset");
        self.image.bytes().read(at, &mut data);
        data
    }
}

/// The verb of a command; `qemu-io` has options first.
fn verb(words: &[&str]) -> String {
    let Some(first) = words.first() else {
        return String::new();
    };
    if first.starts_with('-') {
        let operation = words.iter().skip_while(|word| **word != "-c").nth(1);
        let name = operation.and_then(|line| line.split(' ').next());
        return name.unwrap_or("read").to_owned();
    }
    let telling = ["-a", "-c", "-d", "-l", "-r"];
    let option = words[1..].iter().find(|word| telling.contains(word));
    match option.filter(|_| ["snapshot", "check", "convert"].contains(first)) {
        Some(option) => format!("{first} {option}"),
        None => (*first).to_owned(),
    }
}
