//! The file of a run: lines of JSON, as they are or in a record.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tar::Archive;
use zstd::stream::read::Decoder;

use crate::report::{Decoded, EVENTS, decode};

/// What a zstd frame begins with (RFC 8878, 3.1.1).
const ZSTD: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// No line is as long as this (bytes).
const LONGEST: u64 = 512 << 20;

/// A file of a run, open.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    file: File,
    is_record: bool,
}

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Behind a whole line.
    Whole,
    /// Within one.
    Within,
}

impl Source {
    /// Opens a file of `--json` or `--record`. One that can be read only once, a pipe, is
    /// copied.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is empty.
    pub fn open(path: &Path) -> Result<Self> {
        let what = || format!("cannot read {}", path.display());
        let mut file = File::open(path).with_context(what)?;
        let meta = file.metadata().with_context(what)?;
        if meta.is_dir() {
            bail!(
                "{} is a directory, not a file of --json or --record",
                path.display()
            );
        }
        if !meta.is_file() {
            let mut copy = tempfile::tempfile().with_context(what)?;
            io::copy(&mut file, &mut copy).with_context(what)?;
            file = copy;
        }
        let mut source = Self {
            path: path.to_owned(),
            file,
            is_record: false,
        };
        let mut start = Vec::new();
        let rewound = source.rewound().with_context(what)?;
        let read = rewound.take(4).read_to_end(&mut start);
        read.with_context(what)?;
        if start.is_empty() {
            bail!("{} is empty: no run has begun to write it", path.display());
        }
        source.is_record = start == ZSTD;
        Ok(source)
    }

    /// Its name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a record, which has files of jobs.
    #[must_use]
    pub fn is_record(&self) -> bool {
        self.is_record
    }

    fn rewound(&self) -> io::Result<BufReader<&File>> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        Ok(BufReader::with_capacity(64 << 10, file))
    }

    /// The record as an archive.
    fn archive(&self) -> Result<Archive<Decoder<'static, BufReader<&File>>>> {
        let decoder = self.rewound().and_then(Decoder::with_buffer);
        let decoder = decoder.with_context(|| format!("cannot read {}", self.path.display()))?;
        Ok(Archive::new(decoder))
    }

    /// Reads every event in order.
    pub(super) fn each(&self, tell: &mut dyn FnMut(Decoded) -> Result<()>) -> Result<End> {
        let mut number = 0;
        let mut line = |line: &[u8]| {
            number += 1;
            let place = || format!("{}:{number}", self.path.display());
            let decoded = decode(line)
                .map_err(anyhow::Error::msg)
                .with_context(place)?;
            tell(decoded).with_context(place)
        };
        if !self.is_record {
            let what = || format!("cannot read {}", self.path.display());
            return lines(self.rewound().with_context(what)?, &what(), &mut line);
        }
        self.members(&mut |path, entry| {
            if !path.starts_with(EVENTS) {
                return Ok(());
            }
            match lines(BufReader::new(entry), "cannot read its events", &mut line)? {
                End::Whole => Ok(()),
                End::Within => bail!("{} ends within a line", path.display()),
            }
        })
    }

    /// Looks at each member of a record.
    pub(super) fn members(
        &self,
        look: &mut dyn FnMut(&Path, &mut dyn Member) -> Result<()>,
    ) -> Result<End> {
        let mut archive = self.archive()?;
        archive.set_overwrite(false);
        let what = || format!("cannot read the record {}", self.path.display());
        for entry in archive.entries().with_context(what)? {
            let looked = entry.map_err(anyhow::Error::from).and_then(|mut entry| {
                let path = entry.path()?.into_owned();
                look(&path, &mut entry)
            });
            match looked {
                Ok(()) => {}
                Err(error) if is_cut(&error) => return Ok(End::Within),
                // What stands in it has a place, and says so.
                Err(error) if error.downcast_ref::<io::Error>().is_none() => return Err(error),
                Err(error) => return Err(error.context(what())),
            }
        }
        Ok(End::Whole)
    }
}

/// A member of a record.
pub(super) trait Member: Read {
    /// Whether it is a plain file.
    fn is_file(&self) -> bool;
    /// Writes it as the file `to`, which must not be there; holes stay holes.
    fn unpack_as(&mut self, to: &Path) -> io::Result<()>;
}

impl<R: Read> Member for tar::Entry<'_, R> {
    fn is_file(&self) -> bool {
        let kind = self.header().entry_type();
        kind.is_file() || kind.is_gnu_sparse()
    }

    fn unpack_as(&mut self, to: &Path) -> io::Result<()> {
        self.unpack(to).map(drop)
    }
}

/// Whether the file ended where more was to come.
fn is_cut(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|e| e.downcast_ref::<io::Error>());
    let mut kinds = kinds.map(io::Error::kind);
    kinds.any(|kind| kind == ErrorKind::UnexpectedEof)
}

/// Reads whole lines; what stands behind the last newline is none. `what` is the text of an
/// error to read.
fn lines(
    mut from: impl BufRead,
    what: &str,
    line: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<End> {
    let mut text = Vec::new();
    loop {
        text.clear();
        let read = from.by_ref().take(LONGEST).read_until(b'\n', &mut text);
        let read = read.with_context(|| what.to_owned())?;
        match text.pop() {
            None => return Ok(End::Whole),
            Some(b'\n') => line(&text)?,
            Some(_) if read as u64 == LONGEST => bail!("{what}: a line is longer than any event"),
            Some(_) => return Ok(End::Within),
        }
    }
}
