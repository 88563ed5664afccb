//! Other readers of qcow2, and how each is asked for what the guest reads.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use image_formats::qcow2::{Header, Incompatible};

use crate::commands::{Command, ITSELF, Programs};
use crate::exec::{End, Observation};
use image_mutations::rng::{FNV_START, fnv};

/// The largest disk that is compared, in bytes.
pub const MAX_DISK: u64 = 64 << 20;

/// A reader to compare with.
#[derive(Clone, Debug)]
pub enum SecondReader {
    /// Another `qemu-img`.
    QemuImg(Programs),
    /// A program that is known by its name.
    Known(&'static KnownReader),
}

/// A program that shows what a guest reads.
#[derive(Debug)]
pub struct KnownReader {
    /// What users call it.
    pub name: &'static str,
    /// The program.
    program: &'static str,
    /// The words behind it with which it writes the data to its standard output.
    words: &'static [&'static str],
    /// What an image may have that it cannot read, or reads otherwise on purpose.
    lacks: &'static [Feature],
}

/// What an image may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feature {
    BackingFile,
    DataFile,
    Encryption,
    Subclusters,
    Zstd,
    Version3,
}

use Feature::{BackingFile, DataFile, Encryption, Subclusters, Version3, Zstd};

/// The readers that are known. None but `qemu-img` reads all that there is of an image, nor
/// are all as strict: that only one of them refuses an image says nothing.
pub const READERS: &[KnownReader] = &[
    KnownReader {
        name: "7z",
        program: "7z",
        words: &["e", "-so", "-tqcow", "$test_img"],
        lacks: &[BackingFile, DataFile, Encryption, Subclusters, Zstd],
    },
    // A crate that is built in.
    KnownReader {
        name: "imago",
        program: ITSELF,
        words: &["read", "--with", "imago", "$test_img"],
        lacks: &[Encryption, Subclusters, Zstd],
    },
    // libqcow of libyal, which has no program that writes the data.
    KnownReader {
        name: "pyqcow",
        program: "python3",
        words: &["-c", PYQCOW, "$test_img"],
        // It opens version 3, and shows what is stored in zero clusters.
        lacks: &[BackingFile, Encryption, Version3],
    },
];

/// What python3 is told to write the data.
const PYQCOW: &str = "\
import sys, pyqcow
image = pyqcow.file()
image.open(sys.argv[1])
left = image.get_media_size()
while left > 0:
    data = image.read_buffer(min(left, 1 << 20))
    if not data:
        sys.exit('the disk ends early')
    left -= len(data)
    sys.stdout.buffer.write(data)
";

/// What a reader made of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// So many bytes with this hash.
    Data { len: u64, hash: u64 },
    /// It refused the image.
    Refused,
}

impl SecondReader {
    /// The reader of that name.
    pub fn known(name: &str) -> Option<Self> {
        let reader = READERS.iter().find(|reader| reader.name == name);
        reader.map(Self::Known)
    }

    /// What it is called in signatures.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::QemuImg(_) => "qemu-img",
            Self::Known(reader) => reader.name,
        }
    }

    /// Whether an image that only one of the two refuses is worth a finding.
    pub(super) fn is_equal(&self) -> bool {
        matches!(self, Self::QemuImg(_))
    }

    /// Whether it is meant to read an image with this header.
    pub(super) fn supports(&self, header: &Header) -> bool {
        let lacks = match self {
            // The key is not given.
            Self::QemuImg(_) => &[Encryption],
            Self::Known(reader) => reader.lacks,
        };
        lacks.iter().all(|feature| !feature.is_in(header))
    }

    /// The command that shows the disk.
    pub fn command(&self) -> Command {
        match self {
            Self::QemuImg(_) => convert("other.raw"),
            Self::Known(reader) => reader.command(),
        }
    }

    /// What it made of the disk, `seen` being its [`command`](Self::command) in the folder
    /// `work`; `None` where that cannot be told.
    pub(super) fn shown(&self, seen: &Observation, work: &Path) -> Option<Shown> {
        match self {
            Self::QemuImg(_) => shown_in(seen, &work.join("other.raw")),
            Self::Known(_) => match seen.end {
                End::Exit(0) => Some(Shown::Data {
                    len: seen.stdout.len() as u64,
                    hash: fnv(FNV_START, &seen.stdout),
                }),
                _ => refused(seen),
            },
        }
    }
}

impl KnownReader {
    /// The command with which it writes the data to its standard output.
    pub fn command(&self) -> Command {
        let words = std::iter::once(&self.program).chain(self.words);
        Command(words.map(|word| (*word).to_owned()).collect())
    }
}

impl Feature {
    fn is_in(self, header: &Header) -> bool {
        let has = |feature| header.incompatible.contains(feature);
        match self {
            Self::BackingFile => header.backing_file_offset != 0,
            Self::DataFile => has(Incompatible::DATA_FILE),
            Self::Encryption => header.crypt_method != 0,
            Self::Subclusters => has(Incompatible::EXTENDED_L2),
            Self::Zstd => has(Incompatible::COMPRESSION),
            Self::Version3 => header.version >= 3,
        }
    }
}

/// The command with which `qemu-img` shows the disk, in a file.
pub(super) fn convert(file: &str) -> Command {
    Command::new([
        "qemu-img",
        "convert",
        "-f",
        "qcow2",
        "-O",
        "raw",
        "$test_img",
        file,
    ])
}

/// What `qemu-img` made of the disk, which it was to write into `file`.
pub(super) fn shown_in(seen: &Observation, file: &Path) -> Option<Shown> {
    if seen.end != End::Exit(0) {
        return refused(seen);
    }
    let mut file = File::open(file).ok()?;
    let len = file.metadata().ok()?.len();
    if len > MAX_DISK {
        return None;
    }
    let mut hash = FNV_START;
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece).ok()? {
            0 => return Some(Shown::Data { len, hash }),
            count => hash = fnv(hash, &piece[..count]),
        }
    }
}

/// Whether the program exited and reported an error, and not that it lacks something.
fn refused(seen: &Observation) -> Option<Shown> {
    let text = String::from_utf8_lossy(&seen.stderr).to_lowercase();
    let lacks = text.contains("unsupported") || text.contains("not supported");
    let ended = matches!(seen.end, End::Exit(_)) && !seen.cannot_run();
    (ended && !lacks).then_some(Shown::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image_formats::qcow2::{Backing, Spec, build};

    #[test]
    fn what_a_reader_lacks_is_not_compared() {
        let sevenzip = SecondReader::known("7z").unwrap();
        let other = SecondReader::QemuImg(Programs::new(Vec::new(), Vec::new()));
        let header = |spec: &Spec| build(spec).unwrap().image.layout().header.clone();
        let plain = Spec::default();
        assert!(sevenzip.supports(&header(&plain)) && other.supports(&header(&plain)));
        let extended = Spec {
            extended_l2: true,
            ..Spec::default()
        };
        let backed = Spec {
            backing: Some(Backing {
                name: "x".into(),
                format: None,
            }),
            ..Spec::default()
        };
        for spec in [extended, backed] {
            assert!(!sevenzip.supports(&header(&spec)));
            assert!(other.supports(&header(&spec)));
        }
        assert!(SecondReader::known("qemu-img").is_none());
    }

    #[test]
    fn an_error_is_a_refusal_unless_something_is_lacking() {
        let seen = |end, stderr: &str| Observation {
            end,
            stderr: stderr.into(),
            ..Observation::not_started(String::new())
        };
        let refusal = Some(Shown::Refused);
        assert_eq!(
            refused(&seen(End::Exit(1), "L1 table is too small")),
            refusal
        );
        assert_eq!(refused(&seen(End::Exit(2), "Unsupported Method")), None);
        assert_eq!(refused(&seen(End::Exit(127), "")), None);
        assert_eq!(refused(&seen(End::Signal(11), "")), None);
    }
}
