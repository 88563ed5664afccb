//! The file: the runner, a tar compressed by zstd, the contents, and where these are.
//!
//! An ELF file may have anything appended, so the whole is a program. The last
//! [`FOOTER`] bytes are the SHA-256 of the contents, the sizes of the three parts (64 bits
//! each, little-endian) and [`MAGIC`]. The contents have the hash of every file, so all of
//! an archive hangs on the one hash.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Take};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use data_encoding::HEXLOWER;

use super::contents::{Contents, hash};
use super::elf;

/// How an archive ends.
const MAGIC: &[u8; 8] = b"chkarch1";

/// What is behind the runner's own end, so that it knows that more should follow.
pub(super) const MARK: &[u8; 16] = b"check archive: \n";

/// The size of what is behind the contents, in bytes.
const FOOTER: u64 = 64;

/// How large the contents may be, in bytes: a tree of a million files.
const MOST_CONTENTS: u64 = 256 << 20;

/// An archive whose contents are known.
#[derive(Debug)]
pub struct Archive {
    /// Its file, as the user named it.
    pub(super) path: PathBuf,
    file: File,
    sizes: Sizes,
    digest: [u8; 32],
    /// The text of its contents.
    pub(super) list: String,
    /// What is in it.
    pub contents: Contents,
}

/// The sizes of the parts of an archive, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) runner: u64,
    pub(super) tar: u64,
    pub(super) contents: u64,
}

/// The end of an archive with such parts and contents.
pub(super) fn footer(sizes: Sizes, contents: &[u8]) -> Vec<u8> {
    let mut end = hash(contents).to_vec();
    for size in [sizes.runner, sizes.tar, sizes.contents] {
        end.extend(size.to_le_bytes());
    }
    end.extend(MAGIC);
    end
}

/// The sizes of the parts, and the hash of the contents, of an archive of `len` bytes that
/// ends so; `None` where they contradict each other.
fn read_footer(end: &[u8; FOOTER as usize], len: u64) -> Option<(Sizes, [u8; 32])> {
    let number = |at: usize| Some(u64::from_le_bytes(end.get(at..at + 8)?.try_into().ok()?));
    let sizes = Sizes {
        runner: number(32)?,
        tar: number(40)?,
        contents: number(48)?,
    };
    let parts = [sizes.tar, sizes.contents, FOOTER];
    let whole = parts
        .iter()
        .try_fold(sizes.runner, |sum, part| sum.checked_add(*part))?;
    let digest = end[..32].try_into().ok()?;
    (whole == len && sizes.contents <= MOST_CONTENTS).then_some((sizes, digest))
}

impl Archive {
    /// Opens the archive at `path`.
    ///
    /// # Errors
    ///
    /// It cannot be read, is no archive, or is incomplete or damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        match Self::read(path)? {
            Some(archive) => Ok(archive),
            None => bail!(
                "'{shown}' is not an archive, or only a part of one; make one with: check archive FILE"
            ),
        }
    }

    /// The archive that is the file at `path`; `None` where that is no archive.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is a damaged archive.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        Self::read_as(path, path)
    }

    /// As [`Archive::read`], of the file at `real`, which the user knows as `path`.
    fn read_as(real: &Path, path: &Path) -> Result<Option<Self>> {
        let cannot = || format!("cannot read '{}'", path.display());
        let damaged = || {
            format!(
                "archive '{}' is damaged; make or copy it again",
                path.display()
            )
        };
        let file = File::open(real).with_context(cannot)?;
        let metadata = file.metadata().with_context(cannot)?;
        let mut end = [0; FOOTER as usize];
        let Some(at) = metadata
            .len()
            .checked_sub(FOOTER)
            .filter(|_| metadata.is_file())
        else {
            return Ok(None);
        };
        file.read_exact_at(&mut end, at).with_context(cannot)?;
        if !end.ends_with(MAGIC) {
            return Ok(None);
        }
        let (sizes, digest) = read_footer(&end, metadata.len()).with_context(damaged)?;
        let mut list = vec![0; usize::try_from(sizes.contents).with_context(damaged)?];
        file.read_exact_at(&mut list, sizes.runner + sizes.tar)
            .with_context(cannot)?;
        if hash(&list) != digest {
            bail!(damaged());
        }
        let list = String::from_utf8(list).ok().with_context(damaged)?;
        Ok(Some(Self {
            path: path.to_owned(),
            file,
            sizes,
            digest,
            contents: Contents::decode(&list).with_context(damaged)?,
            list,
        }))
    }

    /// The archive that this program itself is, if it is one.
    ///
    /// # Errors
    ///
    /// It is damaged.
    pub fn own() -> Result<Option<Self>> {
        let own = Path::new("/proc/self/exe");
        // Without /proc there are only programs that are no archives.
        if File::open(own).is_err() {
            return Ok(None);
        }
        let path = std::env::current_exe().unwrap_or_else(|_| own.to_owned());
        let archive = Self::read_as(own, &path)?;
        if archive.is_none() && is_marked(own).unwrap_or(false) {
            bail!(
                "archive '{}' is incomplete; make or copy it again",
                path.display()
            );
        }
        Ok(archive)
    }

    /// What the folder that it is unpacked to is called: enough of its hash to be its own.
    pub(super) fn id(&self) -> String {
        HEXLOWER.encode(&self.digest[..8])
    }

    /// Whether these are its contents.
    pub(super) fn has(&self, list: &[u8]) -> bool {
        self.list.as_bytes() == list
    }

    /// The bytes of the runner.
    pub(super) fn runner(&mut self) -> Result<Take<&mut File>> {
        self.part(0, self.sizes.runner)
    }

    /// The bytes of the compressed tar.
    pub(super) fn tar(&mut self) -> Result<Take<&mut File>> {
        self.part(self.sizes.runner, self.sizes.tar)
    }

    fn part(&mut self, at: u64, size: u64) -> Result<Take<&mut File>> {
        self.file
            .seek(SeekFrom::Start(at))
            .with_context(|| format!("cannot read '{}'", self.path.display()))?;
        Ok((&mut self.file).take(size))
    }
}

/// Whether the program at `path` is the beginning of an archive.
fn is_marked(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let mut header = [0; elf::HEADER];
    file.read_exact_at(&mut header, 0)?;
    let Some(end) = elf::end(&header) else {
        return Ok(false);
    };
    let mut mark = [0; MARK.len()];
    file.read_exact_at(&mut mark, end)?;
    Ok(mark == *MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes {
        runner: 5,
        tar: 7,
        contents: 11,
    };

    #[test]
    fn a_footer_tells_the_parts_of_a_file_of_its_size_only() {
        let end: [u8; 64] = footer(SIZES, b"text").try_into().unwrap();
        let whole = 5 + 7 + 11 + FOOTER;
        assert_eq!(read_footer(&end, whole), Some((SIZES, hash(b"text"))));
        assert_eq!(read_footer(&end, whole - 1), None);
        let mut huge = end;
        huge[32..40].fill(0xff);
        assert_eq!(read_footer(&huge, whole), None);
    }

    #[test]
    fn other_files_and_damaged_ones_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for foreign in [&b""[..], b"#!/bin/sh\n", &[0; 200]] {
            std::fs::write(&path, foreign).unwrap();
            let error = Archive::open(&path).unwrap_err().to_string();
            assert!(error.contains("is not an archive"), "{error}");
        }
        let list = "about\n\n";
        let sizes = Sizes {
            contents: list.len() as u64,
            ..SIZES
        };
        let end = footer(sizes, list.as_bytes());
        let good = [b"RRRRRTTTTTTT", list.as_bytes(), &end].concat();
        std::fs::write(&path, &good).unwrap();
        assert_eq!(Archive::open(&path).unwrap().contents.about, ["about"]);
        for at in [12, good.len() - 50, good.len() - 30] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            let error = Archive::open(&path).unwrap_err().to_string();
            assert!(error.contains("is damaged"), "{at}: {error}");
        }
        // What a transfer that was cut off leaves at the front has no end.
        std::fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert!(Archive::read(&path).unwrap().is_none());
    }
}
